"""
Cutting: bounds, stability, and that it finds its way back after a change.
"""

from __future__ import annotations

import io
import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.delta.chunks import (
    LARGEST_CHUNK,
    LARGEST_FILE,
    MAX_CHUNKS,
    SMALLEST_CHUNK,
    SMALLEST_FILE,
    Cutting,
    comparable,
    cut_blocks,
    cut_chunks,
)

MIB = 1024 * 1024

#: Eight MiB that are the same in every run.
DATA = random.Random(8).randbytes(8 * MIB)  # noqa: S311


def block_ends(data: bytes, cutting: Cutting) -> list[int]:
    """
    Where the blocks of a file end.
    """
    return list(
        accumulate(len(block) for block in cut_blocks(io.BytesIO(data), cutting))
    )


def chunk_ends(data: bytes, cutting: Cutting) -> list[int]:
    """
    Where the chunks of a group end.
    """
    return list(accumulate(len(chunk) for chunk in cut_chunks(data, cutting)))


@given(st.integers(0, 64 * 1024 * MIB * 1024))
def test_sizes_grow_within_bounds(size: int) -> None:
    """
    Chunks are a power of two, within bounds, and few enough while the file may be
    compared at all.
    """
    cutting = Cutting.of(size)

    assert SMALLEST_CHUNK <= cutting.chunk <= LARGEST_CHUNK
    assert cutting.chunk.bit_count() == 1
    assert cutting.chunk <= cutting.group <= cutting.largest_group
    if size <= LARGEST_FILE:
        assert size <= cutting.chunk * MAX_CHUNKS
    assert Cutting.of(size + MIB).chunk >= cutting.chunk


@pytest.mark.parametrize(
    ("size", "chunk", "group"),
    [
        (0, 2 * 1024, MIB),
        (64 * MIB, 2 * 1024, MIB),
        (1024 * MIB, 8 * 1024, MIB),
        (64 * 1024 * MIB, 64 * 1024, 4 * MIB),
        (LARGEST_FILE, MIB, 4 * MIB),
    ],
)
def test_sizes(size: int, chunk: int, group: int) -> None:
    """
    What is documented for some sizes.
    """
    assert (Cutting.of(size).chunk, Cutting.of(size).group) == (chunk, group)


@pytest.mark.parametrize("chunk", [0, 1, 1024, 3 * 1024, 2 * MIB, -8192])
def test_other_chunks_are_refused(chunk: int) -> None:
    """
    A peer can't ask for a cutting that would take too long or too much memory.
    """
    with pytest.raises(ValueError, match="chunk"):
        Cutting(chunk)


def test_what_is_compared() -> None:
    """
    Neither what is sooner sent nor what has too many chunks.
    """
    assert comparable(SMALLEST_FILE, LARGEST_FILE)
    assert not comparable(SMALLEST_FILE - 1, MIB)
    assert not comparable(MIB, SMALLEST_FILE - 1)
    assert not comparable(LARGEST_FILE + 1, MIB)
    assert not comparable(MIB, LARGEST_FILE + 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", bytes(5 * MIB), b"abc" * MIB, DATA],
    ids=["empty", "one", "zeros", "repeated", "random"],
)
def test_nothing_is_lost_or_out_of_bounds(data: bytes) -> None:
    """
    The parts joined are the whole, and none but the last is outside its bounds.
    """
    cutting = Cutting(2048)

    blocks = [bytes(block) for block in cut_blocks(io.BytesIO(data), cutting)]
    chunks = [bytes(chunk) for chunk in cut_chunks(data, cutting)]

    assert b"".join(blocks) == b"".join(chunks) == data
    assert all(len(block) >= cutting.smallest_block for block in blocks[:-1])
    assert all(0 < len(block) <= cutting.largest_block for block in blocks)
    assert len(blocks) <= cutting.most_blocks(len(data))
    assert all(len(chunk) >= 512 for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= 8192 for chunk in chunks)
    assert len(chunks) <= cutting.most_chunks(len(data))


def test_a_short_read_is_not_the_end() -> None:
    """
    Streams that give less than was asked for are cut in the same places.
    """

    class Drops(io.BytesIO):
        def readinto(self, buffer: memoryview) -> int:
            return super().readinto(buffer[:70_001])

    cutting = Cutting(2048)
    parts = [len(block) for block in cut_blocks(Drops(DATA), cutting)]
    assert list(accumulate(parts)) == block_ends(DATA, cutting)


def test_a_part_that_begins_at_a_cut_is_cut_like_the_whole() -> None:
    """
    Signatures may be made page by page.
    """
    cutting = Cutting(2048)
    ends = block_ends(DATA, cutting)
    assert len(ends) > 4

    for begin in ends[:-1]:
        rest = [begin + end for end in block_ends(DATA[begin:], cutting)]
        assert rest == [end for end in ends if end > begin]


def test_cuts_come_back_after_an_insertion() -> None:
    """
    What was inserted moves cuts nearby only.
    """
    cutting = Cutting(2048)
    changed = DATA[:3000] + b"inserted" * 100 + DATA[3000:]

    for ends in (block_ends, chunk_ends):
        old = set(ends(DATA, cutting))
        new = {end - 800 for end in ends(changed, cutting)}
        assert len(old - new) <= 3


def test_cuts_are_those_of_every_version() -> None:
    """
    Ends with different versions of the library have to find the same cuts, or
    they find nothing in common.
    """
    assert block_ends(DATA, Cutting(2048))[:3] == [81447, 150942, 220781]
    assert chunk_ends(DATA, Cutting(2048))[:4] == [1507, 3636, 6055, 8260]
    assert chunk_ends(DATA, Cutting(65536))[:3] == [81447, 150942, 220781]
