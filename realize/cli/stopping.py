"""
Ends that come before everything was moved: signals, and ``--max-duration``.

The first lets files in progress come to their end, for a while; the second signal
ends the program at once.  What was not moved is still at the source either way, and
partials are kept.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Final, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from realize.cli.deadline import Deadline
from realize.cli.exits import Exit
from realize.cli.terminal import CURSOR, can_clear, last_words
from realize.units import format_duration

#: Seconds that files in progress have when the move is to end.
GRACE: Final = 10.0

#: Seconds more after which the program ends, whatever hangs.
ENDING: Final = 4.0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stoppable(Protocol):
    """
    What is to be stopped.
    """

    def stop(self) -> bool:
        """
        Begin nothing new.

        :returns: whether something is in progress that is waited for.
        """

    def abort(self) -> None:
        """
        Give up what is in progress.
        """


@define(eq=False)
class Stopper(AbstractContextManager["Stopper"]):
    """
    Watches for reasons to stop while entered.

    :ivar status: the exit status of the reason there was, or None.
    """

    _target: Stoppable
    _reactor: Any
    _say: Callable[[str], None]
    _max_duration: float | None = None
    _deadline: Deadline = field(factory=Deadline)
    status: Exit | None = None
    _calls: list[IDelayedCall] = field(factory=list)
    _handlers: dict[int, Any] = field(factory=dict)
    _signalled: bool = False

    def __enter__(self) -> Stopper:
        for number in _SIGNALS:
            # What was ignored from the beginning is, as under nohup.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._signal)
        self._handlers[signal.SIGQUIT] = signal.signal(signal.SIGQUIT, self._quit)
        if self._max_duration is not None:
            until = self._max_duration + GRACE + ENDING
            self._deadline.set(min(until, threading.TIMEOUT_MAX), Exit.TIME_UP)
            self._calls.append(
                self._reactor.callLater(self._max_duration, self._time_up)
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for call in self._calls:
            if call.active():
                call.cancel()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._deadline.lift()

    def _signal(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:
            # Not by way of the reactor, which may be what hangs.
            last_words("stopped at once")
            os._exit(Exit.INTERRUPTED)
        self._signalled = True
        self._deadline.set(GRACE + ENDING, Exit.INTERRUPTED)
        self._reactor.callFromThread(self._interrupted)

    def _quit(self, number: int, frame: FrameType | None) -> None:
        if can_clear():
            os.write(2, CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _interrupted(self) -> None:
        self._stop(Exit.INTERRUPTED, "interrupted")

    def _time_up(self) -> None:
        self._stop(Exit.TIME_UP, "--max-duration is over")

    def _stop(self, status: Exit, why: str) -> None:
        if self.status is not None:
            return
        self.status = status
        self._calls.append(self._reactor.callLater(GRACE, self._target.abort))
        waits = self._target.stop()
        self._say(
            f"{why}: finishing what is in progress, {format_duration(GRACE + ENDING)} "
            "at most (Ctrl-C stops at once)"
            if waits
            else why
        )
