"""
Ends before the end: signals and the clock.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from realize.cli.exits import Exit
from realize.cli.stopping import ENDING, GRACE, Stopper
from realize.units import format_duration


class SignalClock(Clock):
    """
    A clock that runs what signal handlers ask for when told to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], None]] = []

    def callFromThread(  # noqa: N802 - the reactor's name
        self, function: Callable[..., Any]
    ) -> None:
        """
        Keep for :meth:`wake`.
        """
        self.waiting.append(function)

    def wake(self) -> None:
        """
        The reactor's next turn.
        """
        while self.waiting:
            self.waiting.pop(0)()


class Target:
    """
    Something to stop, that remembers.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.busy = True

    def stop(self) -> bool:
        """
        Noted.
        """
        self.heard.append("stop")
        return self.busy

    def abort(self) -> None:
        """
        Noted.
        """
        self.heard.append("abort")


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert before == after


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_and_gives_ten_seconds(number: int) -> None:
    """
    What is in progress goes on for that long, and the user hears at once.
    """
    clock, target, said = SignalClock(), Target(), []
    with Stopper(target, clock, said.append) as stopper:
        os.kill(os.getpid(), number)
        clock.wake()
        assert target.heard == ["stop"]
        most = format_duration(GRACE + ENDING)
        assert said[0] == (
            f"interrupted: finishing what is in progress, {most} at most "
            "(Ctrl-C stops at once)"
        )
        assert stopper.status == Exit.INTERRUPTED
        clock.advance(GRACE - 0.1)
        assert target.heard == ["stop"]
        clock.advance(0.2)
        assert target.heard == ["stop", "abort"]


def test_with_nothing_in_progress_nothing_is_waited_for() -> None:
    """
    The message does not promise it either.
    """
    clock, target, said = SignalClock(), Target(), []
    target.busy = False
    with Stopper(target, clock, said.append):
        os.kill(os.getpid(), signal.SIGINT)
        clock.wake()
    assert said == ["interrupted"]


def test_out_of_time() -> None:
    """
    As by a signal, with a status of its own; a later signal does not change it.
    """
    clock, target, said = SignalClock(), Target(), []
    with Stopper(target, clock, said.append, 3600.0) as stopper:
        clock.advance(3599)
        assert stopper.status is None
        clock.advance(2)
        os.kill(os.getpid(), signal.SIGINT)
        clock.wake()
        assert stopper.status == Exit.TIME_UP
        assert target.heard == ["stop"]
        assert "--max-duration" in said[0]
        assert len(said) == 1


def test_nothing_is_left_behind() -> None:
    """
    Handlers and timers go when the move is over.
    """
    clock, target = SignalClock(), Target()
    with Stopper(target, clock, str, 3600.0):
        os.kill(os.getpid(), signal.SIGTERM)
        clock.wake()
    assert clock.getDelayedCalls() == []


def test_the_second_signal_ends_the_process() -> None:
    """
    At once, without the reactor's help.
    """
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with Stopper(Target(), SignalClock(), str):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(99)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == Exit.INTERRUPTED
