"""
Plans: how to make the new version of a file out of the one that is present.

A plan is made in three passes, each of them a stream:

1. :func:`outline` matches groups.  What matches is a :class:`Reuse`; a stretch that
   does not is a :class:`Compare`, which names the groups of the present version that
   its bytes may have come from.
2. :func:`narrow` matches the blocks of one :class:`Compare`.  What matches is a
   :class:`Reuse`; what is left, of both versions, is a :class:`Compare` of stretches,
   which are blocks in a row.
3. :func:`refine` matches the chunks of that: :class:`Reuse` and :class:`Fetch`.

Nothing that is done for one :class:`Compare` depends on another, so that a caller may
ask for the blocks and chunks of many stretches before the first answer has come.
:func:`join` makes one step of what belongs together.

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
from collections.abc import Generator, Iterable, Iterator
from typing import Annotated, Final, Protocol

import msgspec
from attrs import frozen

from realize.delta.chunks import Cutting
from realize.delta.signature import Groups, Length, Offset, Part, Signature
from realize.model import Natural, Value

#: Groups of a stretch that are compared at a time.
_WINDOW: Final = 64

#: Groups that are compared beyond a stretch's length, at least.
_SLACK: Final = 4


#: Parts looked at between two pauses: for half a millisecond at most.
_BREATH: Final = 256


class Span(Value, frozen=True):
    """
    A group or a stretch, by its place in its file.

    :ivar offset: bytes.
    :ivar length: bytes.
    """

    offset: Offset
    length: Length


class Reuse(Value, frozen=True, tag="reuse"):
    """
    Bytes of the new version that the present one has too.

    :ivar offset: where they begin in the new version, in bytes.
    :ivar length: bytes; any number of groups or chunks.
    :ivar present: where they begin in the present version, in bytes.
    """

    offset: Natural
    length: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    present: Natural


class Fetch(Value, frozen=True, tag="fetch"):
    """
    Bytes of the new version that have to come from the source.

    :ivar offset: where they begin in the new version, in bytes.
    :ivar length: bytes; any number.
    """

    offset: Natural
    length: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Compare(Value, frozen=True):
    """
    Groups of the new version whose blocks have to be looked at, or stretches whose
    chunks have to be.

    :ivar source: in order; groups are without a gap between them.  Never empty.
    :ivar present: those of the present version to compare them with, in order; never
        empty.
    """

    source: list[Span]
    present: list[Span]


Step = Reuse | Fetch


class Parts(Protocol):
    """
    Groups or chunks, by number.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Part: ...


def outline(source: Groups, present: Groups) -> Iterator[Step | Compare | None]:
    """
    Match the groups of the new version with those of the present one; None is a pause.

    :param source: of the new version, complete.
    :param present: cut in the same way, complete.
    """
    index = _Index(present)
    yield from index.fill()
    matches, untaken = array("q"), array("q")
    taken = bytearray(len(present))
    for number in range(len(source)):
        match = index.match(source[number])
        matches.append(match)
        if match >= 0:
            taken[match] = 1
        if number % _BREATH == _BREATH - 1:
            yield None
    for number in range(len(present)):
        if not taken[number]:
            untaken.append(number)
        if number % _BREATH == _BREATH - 1:
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
            if number % _BREATH == 0:
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
            if stop % _BREATH == 0:
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


def narrow(
    source: Iterable[Signature], present: Iterable[Signature], cutting: Cutting
) -> Iterator[Step | Compare | None]:
    """
    Match the blocks of a :class:`Compare`; None is a pause.

    What matches comes first, in order; what is left comes last, in one piece or, if
    there is nothing to compare it with, as it has to be fetched.

    :param source: the blocks of each of its groups, in order.
    :param present: the blocks of each present group, in order.
    """
    parts = [part for signature in present for part in signature.parts()]
    yield None
    index = _Index(parts)
    yield from index.fill()
    found: set[bytes] = set()
    left: list[Span] = []
    for part in _with_pauses(source):
        if part is None:
            yield None
            continue
        offset, length, digest = part
        match = index.match(part)
        if match < 0:
            _add_block(left, offset, length, cutting)
        else:
            found.add(digest)
            yield Reuse(offset, length, parts[match][0])
    yield None
    others: list[Span] = []
    for offset, length, digest in parts:
        if digest not in found:
            _add_block(others, offset, length, cutting)
    if left and others:
        yield Compare(left, others)
    else:
        yield from (Fetch(span.offset, span.length) for span in left)


def _add_block(
    stretches: list[Span], offset: int, length: int, cutting: Cutting
) -> None:
    """
    Make the last stretch longer by a block, or begin another.

    Cut as one stretch, blocks have cuts in common soon after they differ; each on its
    own, soon after the beginning of each.
    """
    if stretches:
        last = stretches[-1]
        longer = last.length + length
        if last.offset + last.length == offset and longer <= cutting.largest_group:
            stretches[-1] = Span(last.offset, longer)
            return
    stretches.append(Span(offset, length))


def refine(
    source: Iterable[Signature], present: Iterable[Signature]
) -> Iterator[Step | None]:
    """
    Match the chunks of a :class:`Compare` of stretches; None is a pause.

    :param source: the chunks of each of its stretches, in order.
    :param present: the chunks of each present stretch.
    """
    parts: list[Part] = []
    for part in _with_pauses(present):
        if part is None:
            yield None
        else:
            parts.append(part)
    index = _Index(parts)
    yield from index.fill()
    for part in _with_pauses(source):
        if part is None:
            yield None
            continue
        offset, length, _ = part
        match = index.match(part)
        if match < 0:
            yield Fetch(offset, length)
        else:
            yield Reuse(offset, length, parts[match][0])


def _with_pauses(signatures: Iterable[Signature]) -> Iterator[Part | None]:
    """
    The parts of all; None is a pause.
    """
    count = 0
    for signature in signatures:
        yield from signature.parts()
        count += len(signature.lengths)
        if count >= _BREATH:
            yield None
            count = 0


def join(steps: Iterable[Step | None]) -> Iterator[Step | None]:
    """
    Make one step of those that continue each other; pauses stay.
    """
    held: Step | None = None
    for step in steps:
        if step is None:
            yield None
            continue
        joined = held and joined_step(held, step)
        if held and not joined:
            yield held
        held = joined or step
    if held:
        yield held


def part_of(step: Step, skip: int, length: int) -> Step:
    """
    The part of a step that begins after *skip* bytes of it and has *length*.
    """
    if isinstance(step, Reuse):
        return Reuse(step.offset + skip, length, step.present + skip)
    return Fetch(step.offset + skip, length)


def joined_step(first: Step, then: Step) -> Step | None:
    """
    One step that does what two do, of which one follows the other; None if there is
    none.
    """
    if isinstance(first, Fetch) and isinstance(then, Fetch):
        return Fetch(first.offset, first.length + then.length)
    if (
        isinstance(first, Reuse)
        and isinstance(then, Reuse)
        and first.present + first.length == then.present
    ):
        return Reuse(first.offset, first.length + then.length, first.present)
    return None


class _Index:
    """
    Finds equal parts; remembers of equal ones the first.

    Of several it prefers the one that is as far behind the match before as the part
    asked for is behind that one's, which is the right one wherever nothing was
    inserted or removed.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._first: dict[bytes, int] = {}
        self._expected = -1

    def fill(self) -> Iterator[None]:
        """
        Take in all parts, which has to come first; with pauses.
        """
        for number in range(len(self._parts)):
            self._first.setdefault(self._parts[number][2], number)
            if number % _BREATH == _BREATH - 1:
                yield None

    def match(self, part: Part) -> int:
        """
        The number of an equal part; -1 if there is none.
        """
        self._expected += 1
        if self._equal(self._expected, part):
            return self._expected
        number = self._first.get(part[2], -1)
        if number >= 0 and self._equal(number, part):
            self._expected = number
            return number
        return -1

    def _equal(self, number: int, part: Part) -> bool:
        return number < len(self._parts) and self._parts[number][1:] == part[1:]
