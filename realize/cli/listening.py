"""
Whether the ends of a move answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import define, field
from twisted.internet.task import LoopingCall

from realize.cli.answering import SAID

#: Name of an end, and for how many seconds it has not answered.
Silence = tuple[str, float]

#: Seconds after which it is said again.
SAID_AGAIN: Final = 60.0


@define(eq=False)
class Listening:
    """
    Looks every second whether the ends of a move answer, and says if not.

    :ivar _silences: for how long each end has not answered.
    """

    _silences: Callable[[], Iterable[Silence]]
    _say: Callable[[str], object]
    _reactor: Any
    _told: dict[str, float] = field(factory=dict)
    _call: LoopingCall = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._call = LoopingCall(self._look)
        self._call.clock = self._reactor

    def start(self) -> None:
        """
        Until :meth:`stop`.
        """
        self._call.start(1.0, now=False)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._call.running:
            self._call.stop()

    def _look(self) -> None:
        for name, seconds in self._silences():
            told = self._told.get(name, 0.0)
            if seconds < SAID:
                if self._told.pop(name, 0.0):
                    self._say(f"{name} answers again")
            elif seconds >= max(SAID, told + SAID_AGAIN * bool(told)):
                self._told[name] = seconds
                self._say(f"no answer from {name} for {seconds:.0f} s")
