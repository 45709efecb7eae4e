"""
Holes stay holes, over every kind of store.

A real file system tells what became of them: ``st_blocks``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realize.digest import SparseHasher
from realize.model import (
    MAX_BATCH_BYTES,
    MAX_STEPS,
    Digests,
    Extent,
    Failure,
    Finish,
    Offer,
    Piece,
    Prefix,
    Range,
    Written,
)
from tests.contract.pairs import LocalPair, run
from tests.contract.steps import MTIME_NS, codes, digest, files_of, sparse_digest

pytestmark = pytest.mark.holes

BLOCK = 64 * 1024
DATA = os.urandom(BLOCK)


def sparse(path: Path, *runs: int) -> bytes:
    """
    Make a file of data and holes in turn, in blocks, and return its content.
    """
    content = b""
    with path.open("wb") as file:
        for index, blocks in enumerate(runs):
            content += bytes(blocks * BLOCK) if index % 2 else DATA * blocks
            if index % 2 == 0:
                file.write(DATA * blocks)
            else:
                file.seek(blocks * BLOCK, os.SEEK_CUR)
        file.truncate(len(content))
    return content


def finish_of(content: bytes) -> Finish:
    """
    How a file ``x`` with holes is finished.
    """
    return Finish(b"x", len(content), sparse_digest(content), 0o640, MTIME_NS)


def taken(path: Path) -> int:
    """
    Bytes of disk that a file takes.
    """
    return path.stat().st_blocks * 512


def move(pair, source, destination, size: int, slice_size: int) -> list[Written]:
    """
    Read a file ``x`` in ranges, write what was read, and finish it.
    """
    file = files_of(pair, source)[b"x"]
    run(pair, destination.offer([Offer(b"x", size, file.holes)], []))
    offset, last, written = 0, b"", []
    while offset < size or not written:
        length = min(slice_size, size - offset)
        wanted = Range(b"x", file.identity, offset, length, sparse=file.holes > 0)
        (extent,), data = run(pair, source.read([wanted]))
        assert isinstance(extent, Extent)
        assert len(data) == extent.carried
        piece = Piece(b"x", offset, extent.length, runs=extent.runs)
        written += run(pair, destination.write([piece], data))
        offset, last = offset + length, extent.digest
    finish = Finish(b"x", size, last, 0o640, MTIME_NS)
    assert codes(run(pair, destination.finish([finish]))) == ["Finished"]
    return written


@pytest.mark.parametrize(
    "runs",
    [(0, 8), (1, 8), (0, 8, 1), (1, 3, 1, 3, 2), (2, 1, 0, 1), (3,), (0,)],
    ids=str,
)
@pytest.mark.parametrize("slice_size", [MAX_BATCH_BYTES, 3 * BLOCK + 1])
def test_stay_holes(pair, source, destination, here, there, runs, slice_size):
    """
    At the start, in the middle and at the end, in a file read whole or in ranges:
    the copy has the content, and takes no more room.
    """
    content = sparse(here / "x", *runs)
    move(pair, source, destination, len(content), slice_size)
    assert (there / "x").read_bytes() == content
    assert taken(there / "x") == taken(here / "x") == sum(runs[::2]) * BLOCK


@given(
    runs=st.lists(st.integers(0, 4), max_size=8),
    slice_size=st.integers(BLOCK // 2, 6 * BLOCK),
)
@settings(max_examples=40, deadline=None)
def test_any_runs_in_any_slices(tmp_path_factory, runs, slice_size):
    """
    However holes lie and wherever ranges begin: the content is the same.
    """
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    pair = LocalPair()
    try:
        source, destination = pair.open_source(here), pair.open_destination(there)
        content = sparse(here / "x", *runs)
        move(pair, source, destination, len(content), slice_size)
        assert (there / "x").read_bytes() == content
    finally:
        pair.close()


def test_only_data_is_sent(pair, source, here):
    """
    And what lies ahead is told, so that a long hole can be asked for at once.
    """
    content = sparse(here / "x", 1, 100, 1)
    identity = files_of(pair, source)[b"x"].identity
    wanted = Range(b"x", identity, 0, 2 * BLOCK, sparse=True)
    (extent,), data = run(pair, source.read([wanted]))
    ahead = [0, 99 * BLOCK, BLOCK]
    assert extent == Extent(2 * BLOCK, b"", [BLOCK, BLOCK], ahead)
    assert bytes(data) == DATA
    wanted = Range(b"x", identity, 2 * BLOCK, 99 * BLOCK, True, 99 * BLOCK)
    (extent,), data = run(pair, source.read([wanted]))
    assert extent == Extent(99 * BLOCK, b"", [0, 99 * BLOCK])
    assert bytes(data) == b""
    wanted = Range(b"x", identity, 101 * BLOCK, BLOCK, sparse=True)
    (extent,), data = run(pair, source.read([wanted]))
    assert extent == Extent(BLOCK, sparse_digest(content))


def test_zeros_for_whom_knows_no_holes(pair, source, here):
    """
    Who does not say that it can take them gets the content.
    """
    content = sparse(here / "x", 1, 2, 1)
    identity = files_of(pair, source)[b"x"].identity
    for start, length in ((0, 4 * BLOCK), (0, BLOCK), (BLOCK, 2 * BLOCK)):
        (extent,), data = run(pair, source.read([Range(b"x", identity, start, length)]))
        assert (extent.length, extent.runs, extent.ahead) == (length, [], [])
        assert bytes(data) == content[start : start + length]


def test_no_hole_any_more(pair, source, here):
    """
    What was a hole and is asked for as one is data now: the file has changed.
    """
    sparse(here / "x", 1, 8)
    identity = files_of(pair, source)[b"x"].identity
    wanted = Range(b"x", identity, 0, 4 * BLOCK, True, 3 * BLOCK + 1)
    (failure,), _data = run(pair, source.read([wanted]))
    assert failure.code == "SOURCE_CHANGED"


def test_digest_of_a_hole(pair, source, here):
    """
    Holes are digested without being read, and read on after.
    """
    content = sparse(here / "x", 1, 40, 1, 10)
    identity = files_of(pair, source)[b"x"].identity
    for length in (len(content), 20 * BLOCK):
        (digests,) = run(pair, source.digest([Prefix(b"x", identity, length)]))
        assert digests == Digests([digest(content[:length])])
        (digests,) = run(pair, source.digest([Prefix(b"x", identity, length, True)]))
        assert digests == Digests([sparse_digest(content[:length])])
    rest = len(content) - 20 * BLOCK
    wanted = Range(b"x", identity, 20 * BLOCK, rest, sparse=True)
    (extent,), data = run(pair, source.read([wanted]))
    assert (extent.digest, bytes(data)) == (sparse_digest(content), DATA)


def test_resume_in_a_hole(pair, source, destination, here, there):
    """
    A partial that ends in a hole is kept, holes and all, and continued.
    """
    content = sparse(here / "x", 1, 40, 1)
    with (there / ".x.realize-part").open("wb") as partial:
        partial.write(DATA)
        partial.truncate(20 * BLOCK)
    run(pair, destination.offer([Offer(b"x", len(content), 40 * BLOCK)], []))
    keep = Piece(b"x", 20 * BLOCK, 0, [sparse_digest(content[: 20 * BLOCK])])
    rest = Piece(b"x", 20 * BLOCK, 22 * BLOCK, runs=[0, 21 * BLOCK, BLOCK])
    results = run(pair, destination.write([keep, rest], DATA))
    assert results == [Written(20 * BLOCK), Written(42 * BLOCK)]
    results = run(pair, destination.finish([finish_of(content)]))
    assert codes(results) == ["Finished"]
    assert (there / "x").read_bytes() == content
    assert taken(there / "x") == 2 * BLOCK


def test_hole_over_what_was_there(pair, destination, there):
    """
    Of an old partial nothing is left where the hole is.
    """
    (there / ".x.realize-part").write_bytes(DATA * 20)
    content = bytes(20 * BLOCK)
    run(pair, destination.offer([Offer(b"x", len(content), len(content))], []))
    hole = Piece(b"x", 0, len(content), runs=[0, len(content)])
    assert run(pair, destination.write([hole], b"")) == [Written(len(content))]
    results = run(pair, destination.finish([finish_of(content)]))
    assert codes(results) == ["Finished"]
    assert (there / "x").read_bytes() == content
    assert taken(there / "x") == 0


@pytest.mark.parametrize(
    "piece",
    [
        Piece(b"x", 0, 10, runs=[1, 5]),
        Piece(b"x", 0, 10, runs=[1, 50]),
        Piece(b"x", 0, 101, runs=[1, 100]),
        Piece(b"x", 90, 11, runs=[1, 10]),
        Piece(b"x", 0, 2, [bytes(32)], runs=[1, 1]),
    ],
    ids=["fewer", "more", "beyond", "beyond the end", "kept"],
)
def test_runs_out_of_bounds(pair, destination, piece):
    """
    Runs that are not as long as their piece, or not in the file.
    """
    run(pair, destination.offer([Offer(b"x", 100, 50)], []))
    (result,) = run(pair, destination.write([piece], b"1"))
    assert isinstance(result, Failure)
    assert result.code == "BAD_REQUEST"


def test_as_large_as_can_be(pair, on_tmpfs):
    """
    What 8 EiB cost is what their data costs: read, digested, written, kept, finished
    and proven.
    """
    here, there = on_tmpfs / "here", on_tmpfs / "there"
    here.mkdir()
    there.mkdir()
    source, destination = pair.open_source(here), pair.open_destination(there)
    huge = 2**63 - 1
    with (here / "x").open("wb") as content:
        content.write(DATA)
        content.seek(2**62)
        content.write(DATA)
        content.truncate(huge)
    runs = [BLOCK, 2**62 - BLOCK, BLOCK, huge - 2**62 - BLOCK]
    hasher = SparseHasher()
    for index, length in enumerate(runs):
        if index % 2:
            hasher.zeros(length)
        else:
            hasher.update(DATA)
    file = files_of(pair, source)[b"x"]
    assert file.holes == huge - 2 * BLOCK
    first = Range(b"x", file.identity, 0, BLOCK, sparse=True)
    (extent,), _ = run(pair, source.read([first]))
    assert extent.ahead == [0, *runs[1:]]
    rest = Range(b"x", file.identity, BLOCK, huge - BLOCK, True, file.holes)
    (extent,), data = run(pair, source.read([rest]))
    assert (extent.digest, extent.runs) == (hasher.digest(), [0, *runs[1:]])
    (digests,) = run(pair, source.digest([Prefix(b"x", file.identity, huge, True)]))
    assert digests.steps[-1] == hasher.digest()
    assert len(digests.steps) <= MAX_STEPS
    run(pair, destination.offer([Offer(b"x", huge, file.holes)], []))
    pieces = [
        Piece(b"x", 0, BLOCK),
        Piece(b"x", BLOCK, huge - BLOCK, runs=extent.runs),
        Piece(b"x", huge, 0, digests.steps),
    ]
    assert run(pair, destination.write(pieces, DATA + bytes(data))) == [
        Written(BLOCK),
        Written(huge),
        Written(huge),
    ]
    finish = Finish(b"x", huge, hasher.digest(), 0o640, MTIME_NS)
    for how in ("written", "present"):
        (finished,) = run(pair, destination.finish([finish]))
        assert finished.how == how


@pytest.fixture
def on_tmpfs():
    """
    A folder of a file system that takes files of 8 EiB.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="realize-holes-") as folder:
        yield Path(folder)


def test_room_for_the_data_only(pair, source, destination, here, there):
    """
    A file that is larger than the disk, and nearly all hole, is taken; one that was
    said to be hole and is not must find room like any other.
    """
    size = 2**43
    with (here / "x").open("wb") as file:
        file.write(DATA)
        file.truncate(size)
    file = files_of(pair, source)[b"x"]
    assert file.holes == size - BLOCK
    refused, taken_on = run(
        pair, destination.offer([Offer(b"d", size), Offer(b"x", size, file.holes)], [])
    )
    assert refused.code == "NO_SPACE"
    assert taken_on.partial == 0
    pieces = [Piece(b"x", 0, BLOCK), Piece(b"x", BLOCK, BLOCK)]
    first, second = run(pair, destination.write(pieces, DATA * 2))
    assert first == Written(BLOCK)
    assert second.code == "NO_SPACE"
