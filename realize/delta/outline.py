"""
The first pass of a plan: groups of the new version and those of the present one.

**Which groups a stretch is compared with.**  What stands before a stretch matches and
says where it begins in the present version; what stands after it says where it ends.
Chunks are looked for after the one and before the other, as far as the groups there
match nothing either, no further than the stretch is long and a quarter more, and at
least :data:`_SLACK` groups further.  If there are less than half as many bytes in
these places as in the stretch, others that match nothing are added, twice as many as
it has at most.  So a file that was cut off is compared with a few groups, not with all
that it has lost; and edits everywhere are found whatever was inserted before or after.
What this can miss is a chunk that moved far away while everything about it was edited,
or one in a group that matches elsewhere; these are sent.

**Bounds.**  A long stretch is taken in parts of :data:`_WINDOW` groups, so that what
is compared at a time is bounded whatever the file's size.  Every step takes time in
proportion to the groups or chunks it is given: of equal ones (a file of zeros) one is
remembered, and the one after the last match is preferred, which keeps runs together.
Matching a million groups takes a second nevertheless, and the chunks of one
:class:`Compare` tens of milliseconds: so both passes yield None from time to time, so
that a caller who has other things to do can do them.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import Final

from attrs import frozen

from realize.delta.matching import BREATH, Index
from realize.delta.plan import Compare, Fetch, Reuse, Span, Step
from realize.delta.signature import Groups

#: Groups of a stretch that are compared at a time.
_WINDOW: Final = 64

#: Groups that are compared beyond a stretch's length, at least.
_SLACK: Final = 4


class Wait(Enum):
    """
    Why :func:`early` says nothing for now: others are to have their turn, or more
    groups have to come.
    """

    PAUSE = auto()
    MORE = auto()


def outline(source: Groups, present: Groups) -> Iterator[Step | Compare | None]:
    """
    Match the groups of the new version with those of the present one; None is a pause.

    :param source: of the new version, complete.
    :param present: cut in the same way, complete.
    """
    index = Index(present)
    yield from index.fill()
    matches, untaken = array("q"), array("q")
    taken = bytearray(len(present))
    for number in range(len(source)):
        match = index.match(source[number])
        matches.append(match)
        if match >= 0:
            taken[match] = 1
        if number % BREATH == BREATH - 1:
            yield None
    for number in range(len(present)):
        if not taken[number]:
            untaken.append(number)
        if number % BREATH == BREATH - 1:
            yield None
    number = 0
    while number < len(source):
        if matches[number] >= 0:
            begin, end = source.offset(number), source.offset(number + 1)
            yield Reuse(begin, end - begin, present.offset(matches[number]))
            number += 1
            continue
        first = number
        while number < len(source) and matches[number] < 0:
            number += 1
            if number % BREATH == 0:
                yield None
        stretch = _Stretch(
            source,
            present,
            taken,
            untaken,
            groups=range(first, number),
            after=matches[first - 1] + 1 if first else 0,
            before=matches[number] if number < len(source) else len(present),
        )
        yield from stretch.steps()


def early(
    source: Groups, present: Groups
) -> Generator[Step | Compare | Wait, None, None]:
    """
    What can be said of the beginning while groups are still being added.

    What is said ends with a match, and :func:`outline` goes on there.  It ends for good
    where matches go back, or where much was inserted: what it is equal to may be among
    the groups to come.  It remembers all groups, so close it before :func:`outline`.
    """
    index = Index(present)
    taken = bytearray()
    begin = after = number = 0
    while True:
        if number % BREATH == BREATH - 1:
            yield Wait.PAUSE
        for _ in index.fill():
            yield Wait.PAUSE
        taken.extend(bytes(len(present) - len(taken)))
        reached = source.offset(begin) + present.end - present.offset(after)
        if number == len(source) or (
            not present.complete
            and reached < source.offset(number + 1) + _SLACK * source.cutting.group
        ):
            # What is expected next may be among those to come.
            yield Wait.MORE
            continue
        match = index.match(source[number])
        number += 1
        if match < 0:
            continue
        if match < after:
            return
        taken[match] = 1
        offset = source.offset(number - 1)
        groups = range(begin, number - 1)
        if groups:
            inserted = offset - source.offset(begin)
            gap = present.offset(match) - present.offset(after)
            if inserted - gap > source.cutting.group * 3 // 2 and 2 * gap < inserted:
                return
            stretch = _Stretch(source, present, taken, array("q"), groups, after, match)
            yield from (step for step in stretch.steps() if step is not None)
        yield Reuse(offset, source.offset(number) - offset, present.offset(match))
        begin, after = number, match + 1


@frozen
class _Stretch:
    """
    Consecutive groups of the new version that match nothing.

    :ivar taken: for each present group, whether it matches something.
    :ivar untaken: numbers of those that match nothing.
    :ivar groups: numbers of the groups.
    :ivar after: number of the present group behind the match before the stretch.
    :ivar before: number of the present group that matches what follows the stretch.
    """

    source: Groups
    present: Groups
    taken: bytearray
    untaken: array[int]
    groups: range
    after: int
    before: int

    def steps(self) -> Iterator[Fetch | Compare | None]:
        """
        What to compare with what, a window at a time; None is a pause.
        """
        begin, end = self._bytes(self.groups)
        longest = end - begin + self._slack(self.groups[:_WINDOW])
        ahead = yield from self._free(self.after, 1, longest)
        behind = yield from self._free(self.before - 1, -1, longest)
        for first in range(0, len(self.groups), _WINDOW):
            window = self.groups[first : first + _WINDOW]
            window_begin, window_end = self._bytes(window)
            slack = self._slack(window)
            # As far from the match before as in the new version, and as far from
            # the match after.
            shifts = (
                (ahead, self.present.offset(self.after) - begin),
                (behind, self.present.offset(self.before) - end),
            )
            numbers = {
                number
                for groups, shift in shifts
                for number in self._within(
                    groups, window_begin + shift - slack, window_end + shift + slack
                )
            }
            places = [_span(self.present, number) for number in sorted(numbers)]
            nbytes = sum(span.length for span in places)
            if 2 * nbytes < window_end - window_begin:
                others = self.untaken[first : first + 2 * (len(window) + _SLACK)]
                numbers.update(others)
                places = [_span(self.present, number) for number in sorted(numbers)]
            if places:
                yield Compare([_span(self.source, number) for number in window], places)
            else:
                yield Fetch(window_begin, window_end - window_begin)

    def _bytes(self, groups: range) -> tuple[int, int]:
        return self.source.offset(groups.start), self.source.offset(groups.stop)

    def _slack(self, groups: range) -> int:
        begin, end = self._bytes(groups)
        return max(_SLACK * self.source.cutting.group, (end - begin) // 4)

    def _free(
        self, number: int, direction: int, limit: int
    ) -> Generator[None, None, range]:
        """
        The present groups from *number* on, or back, of which none is taken and that
        have *limit* bytes, more or less.
        """
        stop = number
        while (
            0 <= stop < len(self.present)
            and not self.taken[stop]
            and abs(self.present.offset(stop) - self.present.offset(number)) < limit
        ):
            stop += direction
            if stop % BREATH == 0:
                yield None
        return range(number, stop) if direction > 0 else range(stop + 1, number + 1)

    def _within(self, groups: range, begin: int, end: int) -> range:
        """
        Those of *groups* that have bytes from *begin* to *end* of the present version.
        """
        if end <= 0 or not groups:
            return range(0)
        first = max(groups.start, self.present.at(max(begin, 0)))
        last = min(groups.stop, self.present.at(end - 1) + 1)
        return range(first, last)


def _span(groups: Groups, number: int) -> Span:
    begin, end = groups.offset(number), groups.offset(number + 1)
    return Span(begin, end - begin)
