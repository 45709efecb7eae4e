"""
The program that is told which files were moved.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from realize.cli.hook import MAX_BATCH_FILES, MAX_WAITING, Form, HookChoice, MovedHook
from realize.errors import ConfigError
from realize.move.outcome import Kind, Outcome


@define(eq=False)
class Process:
    """A process that does what the test says."""

    protocol: ProcessProtocol
    words: list[bytes]
    env: dict[str, str]
    read: bytes = b""
    closed: bool = False
    signals: list[str] = field(factory=list)

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.read += data

    def closeStdin(self) -> None:  # noqa: N802 - Twisted's
        self.closed = True

    def loseConnection(self) -> None:
        pass

    def signalProcess(self, name: str) -> None:  # noqa: N802 - Twisted's
        self.signals.append(name)
        self.end(signal=9)

    def end(self, status: int = 0, signal: int | None = None) -> None:
        reason = ProcessDone(0)
        if status or signal:
            reason = ProcessTerminated(None if signal else status, signal, 0)
        self.protocol.processExited(Failure(reason))


class Reactor(Clock):
    """Starts processes that are not real."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Process] = []

    def spawnProcess(  # noqa: N802 - Twisted's
        self,
        protocol: ProcessProtocol,
        executable: bytes,
        args: list[bytes],
        env: dict[str, str],
    ) -> None:
        if executable == b"missing":
            raise FileNotFoundError(2, "No such file or directory")
        process = Process(protocol, args, env)
        self.started.append(process)
        protocol.makeConnection(process)


def moved(*names: str, kind: Kind = "moved") -> list[Outcome]:
    return [Outcome(name.encode(), 3, 0, kind, digest=b"\xab") for name in names]


def made(command: str = "index --all", form: Form = "names") -> tuple[Reactor, Any]:
    reactor = Reactor()
    choice = HookChoice.parse(command, form, 60.0)
    return reactor, MovedHook(reactor, choice, "here", "nas:inbox", environ={"A": "b"})


def finish(hook: MovedHook) -> list[str]:
    results: list[str] = []
    Deferred.fromCoroutine(hook.finish()).addCallback(results.append)
    return results


def test_names_arrive_null_terminated() -> None:
    """Moved files, and no others, are named to the program, with the two ends."""
    reactor, hook = made()
    hook.ended(moved("a", "b\nc") + moved("d", kind="deferred"))
    (process,) = reactor.started
    assert process.words == [b"index", b"--all"]
    assert process.read == b"a\0b\nc\0"
    assert process.closed
    assert process.env == {
        "A": "b",
        "REALIZE_SOURCE": "here",
        "REALIZE_DESTINATION": "nas:inbox",
    }
    process.end()
    assert finish(hook) == [""]
    assert reactor.getDelayedCalls() == []


def test_json() -> None:
    """A line for each file, with what is known of it."""
    reactor, hook = made(form="json")
    hook.ended(moved("a"))
    assert json.loads(reactor.started[0].read) == {
        "path": "a",
        "size": 3,
        "how": "moved",
        "blake3": "ab",
    }


def test_one_run_at_a_time() -> None:
    """What is moved during a run waits for the next one, which has all of it."""
    reactor, hook = made()
    hook.ended(moved("a"))
    hook.ended(moved("b"))
    hook.ended(moved("c"))
    assert len(reactor.started) == 1
    done = finish(hook)
    reactor.started[0].end()
    assert reactor.started[1].read == b"b\0c\0"
    assert done == []
    reactor.started[1].end()
    assert done == [""]


def test_batches_are_bounded() -> None:
    """No run gets more than a batch, and what does not fit is counted."""
    reactor, hook = made()
    hook.ended(moved("first"))
    hook.ended(moved(*map(str, range(MAX_WAITING + 5))))
    done = finish(hook)
    while not done:
        reactor.started[-1].end()
    assert max(each.read.count(b"\0") for each in reactor.started) == MAX_BATCH_FILES
    assert sum(each.read.count(b"\0") for each in reactor.started) == MAX_WAITING + 1
    assert done == ["--on-moved: index was too slow to be told of 5 files"]


def test_failure_is_told() -> None:
    """The status, the last line that it said, and how often; the next run is begun."""
    reactor, hook = made()
    hook.ended(moved("a"))
    hook.ended(moved("b"))
    reactor.started[0].protocol.childDataReceived(2, b"warning\nno \x1b[31mdisk\n")
    reactor.started[0].end(status=3)
    reactor.started[1].end(status=4)
    assert finish(hook) == [
        "--on-moved: index failed 2 times: status 3: no \\x1b[31mdisk"
    ]


def test_slow_run_is_killed() -> None:
    """After its time it is killed, and that is its failure."""
    reactor, hook = made()
    hook.ended(moved("a"))
    reactor.advance(59.9)
    assert reactor.started[0].signals == []
    reactor.advance(0.2)
    assert reactor.started[0].signals == ["KILL"]
    assert finish(hook) == [
        "--on-moved: index failed once: took longer than 60 s and was killed"
    ]


def test_missing_program() -> None:
    """A program that cannot be started is told of."""
    _reactor, hook = made("missing")
    hook.ended(moved("a"))
    assert finish(hook) == [
        "--on-moved: missing failed once: No such file or directory"
    ]


@pytest.mark.parametrize("text", ["", "  ", "'open", "a\0b"])
def test_what_is_no_command(text: str) -> None:
    """It is refused before anything is moved."""
    with pytest.raises(ConfigError, match="--on-moved: "):
        HookChoice.parse(text, "names", 1.0)
