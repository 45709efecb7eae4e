"""
A time at which the program ends, whatever hangs.

What waits for a disk that does not answer can't be told to stop: not a thread, and not
the program's own end, which waits for its threads.  So there is a thread that waits
for nothing but the clock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

from attrs import define, field

from realize.cli.terminal import last_words

#: What is said then.
_WORDS: Final = "something does not answer, perhaps a disk; not waiting any longer"


def _end(status: int) -> None:
    last_words(_WORDS)
    os._exit(status)


@define(eq=False)
class Deadline:
    """
    The earliest of the times that were set.  Called from any thread, and from signal
    handlers.

    :ivar _end: ends the process with an exit status, from another thread.
    """

    _end: Callable[[int], object] = _end
    _timers: list[threading.Timer] = field(factory=list)

    def set(self, seconds: float, status: int) -> None:
        """
        End so many seconds from now with *status*, unless lifted before.
        """
        timer = threading.Timer(seconds, self._end, [status])
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def lift(self) -> None:
        """
        Forget all times.
        """
        while self._timers:
            self._timers.pop().cancel()
