"""
The declarations of the commands, all of them.
"""

from __future__ import annotations

import inspect
import re

import pytest
from twisted.protocols import amp

from realize import errors
from realize.wire.commands import COMMANDS, WIRE_ERRORS, Request
from realize.wire.payload import PAYLOAD, Payload

#: What AMP looks at in a command, and what every class has.
KNOWN = {
    "arguments",
    "response",
    "requiresAnswer",
    "commandName",
    "reverseErrors",
    "allErrors",
    "errors",
    "fatalErrors",
    "__doc__",
    "__module__",
    "__qualname__",
    "__firstlineno__",
    "__static_attributes__",
}

each_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=str)


@each_command
def test_nothing_misspelt(command):
    """
    AMP ignores attributes that it does not know, so that a misspelt one is lost.
    """
    assert set(vars(command)) <= KNOWN


@each_command
def test_documented(command):
    """
    Every argument and everything that is answered is named in the docstring, and
    nothing else; errors that are named are errors that cross.
    """
    text = inspect.getdoc(command)
    assert text
    named = set(re.findall(r":param (\w+):", text))
    assert named == {name.decode() for name, _ in command.arguments}
    returns = text.partition(":returns:")[2].partition(":raises")[0]
    for name, _ in command.response:
        assert f"``{name.decode()}``" in returns
    assert bool(returns) == bool(command.response)
    for raised in re.findall(r":raises (\w+):", text):
        assert getattr(errors, raised) in WIRE_ERRORS


@each_command
def test_payload_arguments(command):
    """
    A payload has the one name by which the connection finds it, and nothing else has.
    """
    for name, argument in (*command.arguments, *command.response):
        assert isinstance(argument, Payload) == (name == PAYLOAD)


@each_command
def test_errors(command):
    """
    Every error that crosses can answer every command, subclasses before their bases.
    """
    crossing = {kind for kind in errors.peer_errors() if kind.code}
    assert set(command.allErrors) == crossing
    assert command.fatalErrors == {}
    order = list(command.allErrors)
    for kind in order:
        for base in kind.__mro__[1:]:
            if base in crossing:
                assert order.index(kind) < order.index(base)
    assert len(set(WIRE_ERRORS.values())) == len(WIRE_ERRORS)


@each_command
def test_answers(command):
    """
    What is not answered has nothing to answer.
    """
    assert issubclass(command, Request)
    assert command.requiresAnswer or not command.response
    assert isinstance(command.requiresAnswer, bool)
    assert all(isinstance(each, amp.Argument) for _, each in command.arguments)
