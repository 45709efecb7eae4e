"""
The command line of the daemon.
"""

from __future__ import annotations

import os

import pytest
from twisted.internet import defer
from twisted.python import failure
from twisted.scripts.twistd import ServerOptions

from realize.daemon.options import Options


def test_defaults() -> None:
    """
    What is not said is left to the environment and the configuration.
    """
    options = Options()
    options.parseOptions([])
    said = {name: options[name] for name in ("config", "privkey", "address", "check")}
    assert said == {"config": None, "privkey": None, "address": None, "check": 0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--adress=x"], 'option --adress not recognized; did you mean "--address"?'),
        (["--chekc"], 'option --chekc not recognized; did you mean "--check"?'),
        (
            ["--zzz"],
            "option --zzz not recognized; twistd realized --help lists the options",
        ),
        (
            ["--config"],
            "option --config requires argument; "
            "twistd realized --help lists the options",
        ),
        (
            ["serve"],
            "nothing is known by the name of 'serve'; "
            "twistd realized --help lists the options",
        ),
    ],
)
def test_complaints(words: list[str], said: str) -> None:
    """
    One line, status 1, and what was meant, if that can be guessed.
    """
    with pytest.raises(SystemExit) as raised:
        Options().parseOptions(words)
    assert raised.value.code == f"realized: {said}"


@pytest.mark.parametrize(
    ("before", "written"),
    [
        (["-n"], ""),
        (["--debug"], ""),
        (["-n", "--pidfile", "my.pid"], "my.pid"),
        (["-n", "--pidfile="], ""),
        ([], "twistd.pid"),
    ],
)
def test_no_pid_file_in_the_foreground(
    before: list[str], written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Unless one is asked for: it would need a directory that can be written.
    """
    # twistd begins to debug this whole process as soon as it reads that word.
    monkeypatch.setattr(failure, "startDebugMode", lambda: None)
    monkeypatch.setattr(defer, "setDebugging", lambda _on: None)
    parent = ServerOptions()
    parent.parseOptions([*before, "realized"])
    assert os.path.basename(parent["pidfile"]) == written
