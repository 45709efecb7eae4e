"""
How much a move has in progress: as much as both ends grant it.

What an end has once (descriptors, memory, room that is set aside) it shares out among
all who ask.  A move that asks for more is told :class:`~realize.errors.OverShare`, file
by file.  Those files wait, and less is begun at once, down to one file; while nothing
is refused it becomes more again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from realize.move.line import Line
from realize.move.tally import Item

#: Most files between offer and end.
MAX_ACTIVE: Final = 8192

#: Most partials open at the destination.
MAX_PARTIALS: Final = 3072

#: Seconds before what was refused is asked for again: at first, and at most.  Twice as
#: long each time, until a file gets to its end.
FIRST_REST: Final = 0.05
LONGEST_REST: Final = 5.0

#: Each second without a refusal, this part more is begun at once.
GROWTH: Final = 8


@define
class _Bound:
    """
    How many may be in progress.

    :ivar most: whatever is granted.
    """

    most: int
    now: int
    _changed: float = 0.0

    def lower(self, granted: int, now: float) -> None:
        """
        No more than *granted* can be had.
        """
        self.now = max(1, min(self.now, granted))
        self._changed = now

    def at(self, now: float) -> int:
        """
        How many.

        :param now: seconds.
        """
        if self.now < self.most and now - self._changed >= 1:
            self.now = min(self.most, self.now + max(1, self.now // GROWTH))
            self._changed = now
        return self.now


@define(eq=False)
class Pace:
    """
    What one run may have in progress, and the files that have to wait.

    :ivar waiting: files to be offered once more.
    :ivar active: how many files are between offer and end; set by whoever knows.
    :ivar open: how many partials are open; the same.
    """

    _line: Line
    _clock: IReactorTime
    open_files: int = MAX_PARTIALS
    waiting: list[Item] = field(factory=list)
    active: Callable[[], int] = lambda: 0
    open: Callable[[], int] = lambda: 0
    _files: _Bound = field(init=False)
    _partials: _Bound = field(init=False)
    _resting: bool = False
    _rest: float = FIRST_REST

    def __attrs_post_init__(self) -> None:
        self._files = _Bound(MAX_ACTIVE, MAX_ACTIVE)
        self._partials = _Bound(self.open_files, self.open_files)

    @property
    def files(self) -> int:
        """
        How many more files may be offered now.
        """
        if self._resting:
            return 0
        return max(0, self._files.at(self._clock.seconds()) - self.active())

    @property
    def partials(self) -> int:
        """
        Most partials to have open.
        """
        return self._partials.at(self._clock.seconds())

    def put_off(self, items: Sequence[Item]) -> None:
        """
        These were refused for now.
        """
        now = self._clock.seconds()
        written = sum(item.offered for item in items)
        if written:
            self._partials.lower(self.open() - written, now)
        if written < len(items):
            self._files.lower(self.active() - len(items) + written, now)
        for item in items:
            item.offered = item.compared = False
            item.digest = b""
            item.kept = 0
        self.waiting.extend(items)
        if not self._resting:
            self._resting = True
            self._line.start(self._take_rest())

    def progressed(self) -> None:
        """
        A file got to its end.
        """
        self._rest = FIRST_REST

    async def _take_rest(self) -> None:
        rested: Deferred[None] = Deferred()
        call = self._clock.callLater(self._rest, rested.callback, None)
        self._rest = min(LONGEST_REST, self._rest * 2)
        try:
            await rested
        finally:
            self._resting = False
            if call.active():
                call.cancel()
