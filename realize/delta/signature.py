"""
Signatures: what a part of a file is made of, short enough to be sent.

The same value serves all levels: a page of a file's groups, the blocks of one group,
or the chunks of blocks in a row.  What arrives from a peer has been checked for what
can be seen from it alone; :meth:`Groups.add` and :func:`check_parts` see to the rest.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Annotated, Final

import msgspec
from attrs import define, field
from blake3 import blake3

from realize.delta.chunks import (
    LARGEST_CHUNK,
    LARGEST_FILE,
    Cutting,
    Readable,
    cut_blocks,
    cut_chunks,
)
from realize.model import Value

#: Bytes kept of a BLAKE3 digest.  Enough to find what is equal; that the result is
#: right is for the digest of the whole file to say.
SHORT_DIGEST: Final = 16

#: Most parts in one signature.
MAX_PAGE: Final = 2**14

Offset = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_FILE)]
Length = Annotated[int, msgspec.Meta(ge=1, le=16 * LARGEST_CHUNK)]

#: Offset, length and short digest of a group, a block or a chunk.
Part = tuple[int, int, bytes]


class Signature(Value, frozen=True, tag="signature"):
    """
    Consecutive groups, blocks or chunks of a file.

    :ivar offset: where the first begins, in bytes.
    :ivar lengths: bytes in each.
    :ivar digests: the first :data:`SHORT_DIGEST` bytes of the BLAKE3 of each, joined:
        of a block's or a chunk's bytes, and of the digests of a group's blocks.
    """

    offset: Offset
    lengths: Annotated[list[Length], msgspec.Meta(max_length=MAX_PAGE)]
    digests: bytes

    def __post_init__(self) -> None:
        """
        :raises ValueError: there are not as many digests as lengths.
        """
        if len(self.digests) != len(self.lengths) * SHORT_DIGEST:
            raise ValueError("a signature has not as many digests as lengths")

    @property
    def end(self) -> int:
        """
        Where the last ends, in bytes.
        """
        return self.offset + sum(self.lengths)

    def parts(self) -> Iterator[Part]:
        """
        Offset, length and digest of each.
        """
        offset, digests = self.offset, self.digests
        for number, length in enumerate(self.lengths):
            first = number * SHORT_DIGEST
            yield offset, length, digests[first : first + SHORT_DIGEST]
            offset += length


def sign_blocks(
    stream: Readable,
    offset: int,
    cutting: Cutting,
    watch: Callable[[memoryview], object] = lambda _block: None,
) -> Iterator[Signature]:
    """
    The blocks of each group of a file, from *offset* to its end.

    :param stream: the file's bytes from *offset* on, which is 0 or the end of a group.
    :param watch: called with each block before it is forgotten.
    """
    lengths: list[int] = []
    digests = bytearray()
    for block in cut_blocks(stream, cutting):
        digest = blake3(block).digest(SHORT_DIGEST)
        watch(block)
        lengths.append(len(block))
        digests += digest
        if cutting.ends_group(len(lengths), digest):
            group = Signature(offset, lengths, bytes(digests))
            yield group
            offset, lengths, digests = group.end, [], bytearray()
    if lengths:
        yield Signature(offset, lengths, bytes(digests))


def sign_group(stream: Readable, offset: int, cutting: Cutting) -> Signature:
    """
    The blocks of one group, or of another part of a file.

    :param stream: its bytes, and no more.
    :param offset: where it begins, in bytes.
    """
    lengths: list[int] = []
    digests = bytearray()
    for group in sign_blocks(stream, offset, cutting):
        lengths += group.lengths
        digests += group.digests
    return Signature(offset, lengths, bytes(digests))


def pages_of(
    groups: Iterable[Signature], offset: int, count: int
) -> Iterator[Signature]:
    """
    Groups as they are sent first, in pages.

    To go on later, or elsewhere, begin again at the end of a page.

    :param groups: the blocks of each.
    :param offset: where the first begins, in bytes.
    :param count: most groups in a page; 1 to :data:`MAX_PAGE`.
    """
    remaining = iter(groups)
    while True:
        lengths: list[int] = []
        digests = bytearray()
        for group in islice(remaining, count):
            lengths.append(sum(group.lengths))
            digests += blake3(group.digests).digest(SHORT_DIGEST)
        if not lengths:
            return
        page = Signature(offset, lengths, bytes(digests))
        yield page
        offset = page.end


def sign_chunks(
    stretch: bytes | memoryview, offset: int, cutting: Cutting
) -> Signature:
    """
    The chunks of blocks in a row.

    :param offset: where the first begins in its file, in bytes.
    """
    lengths: list[int] = []
    digests = bytearray()
    for chunk in cut_chunks(stretch, cutting):
        lengths.append(len(chunk))
        digests += blake3(chunk).digest(SHORT_DIGEST)
    return Signature(offset, lengths, bytes(digests))


def check_parts(signature: Signature, offset: int, length: int, most: int) -> None:
    """
    Hold the blocks or chunks that a peer has sent against what was asked for.

    :param most: how many there can be.
    :raises ValueError: they are of another part of the file, or too many.
    """
    if (signature.offset, signature.end) != (offset, offset + length):
        raise ValueError("a signature of another part of the file")
    if len(signature.lengths) > most:
        raise ValueError("a signature of too many parts")


@define(eq=False)
class PartList:
    """
    Consecutive parts of a file from its beginning, by number; 24 bytes of memory each.
    """

    _offsets: array[int] = field(factory=lambda: array("Q", [0]), init=False)
    _digests: bytearray = field(factory=bytearray, init=False)

    def append(self, signature: Signature) -> None:
        """
        Take in parts that follow.
        """
        # The digests first: whoever reads in another thread goes by the offsets.
        self._digests += signature.digests
        for offset, length, _ in signature.parts():
            self._offsets.append(offset + length)

    def __len__(self) -> int:
        """
        How many there are.
        """
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Part]:
        """
        Each, in order.
        """
        return map(self.__getitem__, range(len(self)))

    @property
    def end(self) -> int:
        """
        How far they reach, in bytes.
        """
        return self._offsets[-1]

    def offset(self, number: int) -> int:
        """
        Where a part begins, in bytes; for the number after the last, the end.
        """
        return self._offsets[number]

    def __getitem__(self, number: int) -> Part:
        """
        Offset, length and digest of a part.

        :raises IndexError: there are not that many.
        """
        offset = self._offsets[number]
        first = number * SHORT_DIGEST
        return (
            offset,
            self._offsets[number + 1] - offset,
            bytes(self._digests[first : first + SHORT_DIGEST]),
        )

    def at(self, offset: int) -> int:
        """
        The number of the part that this byte of the file is in.
        """
        return bisect_right(self._offsets, offset) - 1

    def has_edge(self, offset: int) -> bool:
        """
        Whether a part begins or ends at this byte.
        """
        at = bisect_left(self._offsets, offset)
        return at < len(self._offsets) and self._offsets[at] == offset

    def between(self, offset: int, end: int) -> Signature | None:
        """
        The parts from *offset* to *end*; None if they are not here, or others.
        """
        first, last = (bisect_left(self._offsets, at) for at in (offset, end))
        if last == len(self._offsets):
            return None
        ends = self._offsets[first : last + 1]
        if (ends[0], ends[-1]) != (offset, end):
            return None
        lengths = [ends[number + 1] - ends[number] for number in range(last - first)]
        digests = self._digests[first * SHORT_DIGEST : last * SHORT_DIGEST]
        return Signature(offset, lengths, bytes(digests))


@define(eq=False)
class Groups(PartList):
    """
    All groups of a file.

    :ivar size: bytes in the file.
    """

    size: int
    _cutting: Cutting

    def add(self, page: Signature) -> None:
        """
        Append the page that follows.

        :raises ValueError: it does not follow, is empty, reaches beyond the end of the
            file, or holds groups that are too short or too long: with groups of one
            byte, whoever made them up could have millions compared with one.
        """
        if not page.lengths or page.offset != self.end or page.end > self.size:
            raise ValueError("a signature of another part of the file")
        least, most = self._cutting.smallest_group, self._cutting.largest_group
        cut = page.lengths if page.end < self.size else page.lengths[:-1]
        if min(cut, default=least) < least or max(page.lengths) > most:
            raise ValueError("a signature of groups that are none")
        self.append(page)

    @property
    def complete(self) -> bool:
        """
        Whether they reach the end of the file.
        """
        return self.end == self.size

    @property
    def cutting(self) -> Cutting:
        """
        How the file was cut.
        """
        return self._cutting
