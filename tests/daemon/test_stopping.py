"""
The order in which the daemon stops, and that it does not take for ever.
"""

from __future__ import annotations

from typing import Any

from attrs import Factory, define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from realize.daemon.service import STOP_DEADLINE, Daemon
from realize.store.work import WorkPool
from tests.support.threads import InlineReactor, InlineThreads


@define
class Parts:
    """
    A port, the wire and a directory, which say when they are stopped.

    :ivar committed: fires when the wire has nothing more to commit.
    """

    steps: list[str] = Factory(list)
    committed: Deferred[None] = Factory(Deferred)
    peers: tuple[str, ...] = ()

    @property
    def directories(self) -> dict[str, Parts]:
        """
        One directory, which is this object too.
        """
        return {"inbox": self}

    def stopListening(self) -> Deferred[None]:  # noqa: N802  a port's
        """
        The port.
        """
        self.steps.append("port")
        return succeed(None)

    async def stop(self) -> None:
        """
        The wire.
        """
        self.steps.append("wire")
        await self.committed
        self.steps.append("committed")

    async def close(self) -> None:
        """
        The directory.
        """
        self.steps.append("directory")


@define
class Measuring:
    """
    What measures, and stops when all is done.
    """

    parts: Parts

    async def stop(self) -> None:
        """
        Nothing is measured any more.
        """
        self.parts.steps.append("measured")


@define
class Keeping:
    """
    What says that the daemon is alive, until all is done.
    """

    parts: Parts

    def stopping(self) -> None:
        """
        The service manager is told.
        """
        self.parts.steps.append("told")

    async def stop(self) -> None:
        """
        No more signs of life.
        """
        self.parts.steps.append("silent")


def stopping(faulty: bool = False) -> tuple[Parts, Clock, list[object]]:
    """
    A daemon that was told to stop: its parts, its clock, and what stopping came to.

    :param faulty: whether the wire fails in a way that nobody planned.
    """
    parts: Any = Parts()
    if faulty:
        parts.committed.errback(ZeroDivisionError())
    clock = Clock()
    outcome: list[object] = []
    measuring: Any = Measuring(parts)
    keeping: Any = Keeping(parts)
    threads: Any = WorkPool(InlineReactor(), InlineThreads())  # type: ignore[arg-type]
    daemon = Daemon(clock, parts, parts, threads, [parts], measuring, keeping)
    daemon.running = True
    daemon.stopService().addBoth(outcome.append)
    return parts, clock, outcome


def test_order() -> None:
    """
    Nobody new is let in, what is being committed is finished, and only then are the
    directories closed.
    """
    with capturedLogs() as logged:
        parts, clock, outcome = stopping()
        assert parts.steps == ["told", "port", "wire"]
        assert outcome == []
        clock.advance(STOP_DEADLINE - 1)
        parts.committed.callback(None)
        assert parts.steps[3:] == ["committed", "measured", "directory", "silent"]
        assert outcome == [None]
    assert [event["event"] for event in logged] == ["stopping", "stopped"]
    assert clock.getDelayedCalls() == []


def test_a_disk_that_hangs() -> None:
    """
    A commit that never ends does not keep the daemon for ever.
    """
    with capturedLogs() as logged:
        _parts, clock, outcome = stopping()
        clock.advance(STOP_DEADLINE)
        assert outcome == [None]
    assert [event["event"] for event in logged] == ["stopping", "stop-incomplete"]


def test_what_nobody_planned() -> None:
    """
    Is told, and not waited for.
    """
    with capturedLogs() as logged:
        _parts, clock, outcome = stopping(faulty=True)
        assert outcome == [None]
    assert [event["event"] for event in logged] == ["stopping", "bug"]
    assert "ZeroDivisionError" in logged[1]["error"]
    assert clock.getDelayedCalls() == []
