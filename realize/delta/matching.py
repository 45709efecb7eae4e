"""
Matching parts of the new version of a file with those of the present one: the blocks
and chunks of what :mod:`realize.delta.outline` leaves to be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from realize.delta.chunks import Cutting
from realize.delta.plan import Compare, Fetch, Reuse, Span, Step
from realize.delta.signature import Part, Signature

#: Parts looked at between two pauses: for half a millisecond at most.
BREATH: Final = 256


class Parts(Protocol):
    """
    Groups or chunks, by number.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Part: ...


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
    parts: list[Part] = []
    found: set[bytes] = set()
    left: list[Span] = []
    for matched in _match(source, present, parts):
        if matched is None:
            yield None
            continue
        (offset, length, digest), at = matched
        if at is None:
            _add_block(left, offset, length, cutting)
        else:
            found.add(digest)
            yield Reuse(offset, length, at)
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
    for matched in _match(source, present, []):
        if matched is None:
            yield None
            continue
        (offset, length, _), at = matched
        yield Fetch(offset, length) if at is None else Reuse(offset, length, at)


def _match(
    source: Iterable[Signature], present: Iterable[Signature], parts: list[Part]
) -> Iterator[tuple[Part, int | None] | None]:
    """
    Each part of the new version, and where the present one has an equal one; None is a
    pause.

    :param parts: is filled with those of the present version first.
    """
    for part in _with_pauses(present):
        if part is None:
            yield None
        else:
            parts.append(part)
    index = Index(parts)
    yield from index.fill()
    for part in _with_pauses(source):
        if part is None:
            yield None
            continue
        match = index.match(part)
        yield part, (parts[match][0] if match >= 0 else None)


def _with_pauses(signatures: Iterable[Signature]) -> Iterator[Part | None]:
    """
    The parts of all; None is a pause.
    """
    count = 0
    for signature in signatures:
        yield from signature.parts()
        count += len(signature.lengths)
        if count >= BREATH:
            yield None
            count = 0


class Index:
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
        self._filled = 0

    def fill(self) -> Iterator[None]:
        """
        Take in all parts that there are by now, with pauses; before matching.
        """
        while self._filled < len(self._parts):
            self._first.setdefault(self._parts[self._filled][2], self._filled)
            self._filled += 1
            if self._filled % BREATH == 0:
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
