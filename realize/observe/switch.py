"""
Changing what is logged while the program runs, for good or for a while.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from txaio.tx import make_logger

from realize.observe.events import LEVEL_CHANGED
from realize.observe.levels import LEVELS, Levels
from realize.observe.outputs import LogOutput

#: Everything.
_DEBUG = Levels("debug")


@define(eq=False)
class LevelSwitch:
    """
    The levels of a program's log, and the ones to come back to.

    :ivar clock: measures the while.
    """

    output: LogOutput
    clock: IReactorTime
    _usual: Levels = field(init=False)
    _return: IDelayedCall | None = field(init=False, default=None)

    log = make_logger()

    def __attrs_post_init__(self) -> None:
        self._usual = self.output.levels

    @property
    def levels(self) -> Levels:
        """
        What is logged now.
        """
        return self.output.levels

    def set(self, levels: Levels, by: str, seconds: float | None = None) -> None:
        """
        Log at these levels from now on.

        :param by: who wants it.
        :param seconds: after which the levels are what they were; None for good.
        """
        self.stop()
        if seconds is None:
            self._usual = levels
        else:
            self._return = self.clock.callLater(seconds, self._over)
        self._apply(levels, by, seconds)

    def toggle_debug(self, by: str) -> None:
        """
        Log everything, or if that is so already, what was logged before.
        """
        self.stop()
        debugging = self.levels == _DEBUG
        levels = self._usual if debugging else _DEBUG
        if debugging and self._usual == _DEBUG:
            levels = self._usual = Levels()
        self._apply(levels, by, None)

    def stop(self) -> None:
        """
        The levels stay as they are now.
        """
        if self._return is not None and self._return.active():
            self._return.cancel()
        self._return = None

    def _over(self) -> None:
        self._return = None
        self._apply(self._usual, "the end of its time", None)

    def _apply(self, levels: Levels, by: str, seconds: float | None) -> None:
        old = self.levels
        # Said while info is on, before or after the change.
        quieter = LEVELS.index(levels.general) < LEVELS.index(old.general)
        if not quieter:
            self.output.levels = levels
        LEVEL_CHANGED.log(
            self.log, new=str(levels), old=str(old), by=by, seconds=seconds
        )
        self.output.levels = levels
