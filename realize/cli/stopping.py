"""
Ends that come before everything was moved: signals, and ``--max-duration``.

The first lets files in progress come to their end, for a while; the second signal
ends the program at once.  What was not moved is still at the source either way, and
partials are kept.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Final, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from realize.cli.exits import Exit
from realize.cli.terminal import UNABLE_TERMINALS
from realize.units import format_duration

#: Seconds that files in progress have when the move is to end.
GRACE: Final = 10.0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def _can_clear() -> bool:
    return os.isatty(2) and os.environ.get("TERM", "") not in UNABLE_TERMINALS


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
    status: Exit | None = None
    _calls: list[IDelayedCall] = field(factory=list)
    _handlers: dict[int, Any] = field(factory=dict)
    _signalled: bool = False

    def __enter__(self) -> Stopper:
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, self._signal)
        if self._max_duration is not None:
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

    def _signal(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:
            # Not by way of the reactor, which may be what hangs.  The cursor may
            # be hidden, and in a line that is drawn already.
            clear = b"\r\x1b[K\x1b[?25h" if _can_clear() else b""
            os.write(2, clear + b"realize: stopped at once\n")
            os._exit(Exit.INTERRUPTED)
        self._signalled = True
        self._reactor.callFromThread(self._interrupted)

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
            f"{why}: finishing what is in progress, {format_duration(GRACE)} at most "
            "(Ctrl-C stops at once)"
            if waits
            else why
        )
