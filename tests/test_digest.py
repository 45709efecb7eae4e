"""
Digests of content with zeros in it.
"""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from realize.digest import (
    BLOCK,
    CONTEXT,
    MARK,
    OrdinaryHasher,
    SparseHasher,
    digest_text,
    is_digest,
    is_sparse,
    new_hasher,
    parse_digest,
)

#: Whether there is data, and how many bytes: around the size of a block above all.
PARTS = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(
            st.sampled_from([1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK]),
            st.integers(0, 3 * BLOCK),
        ),
    ),
    max_size=6,
)


def content_of(parts: list[tuple[bool, int]]) -> bytes:
    """
    What the parts make.
    """
    return b"".join((b"\1" if data else b"\0") * count for data, count in parts)


def as_defined(content: bytes) -> bytes:
    """
    The sparse digest, word for word as the protocol's description has it.
    """
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    if all(map(any, blocks)):
        return blake3(content).digest()
    runs, present = [[0, 0]], b""
    for block in blocks:
        if any(block):
            if runs[-1][1]:
                runs.append([0, 0])
            runs[-1][0] += len(block)
            present += block
        else:
            runs[-1][1] += len(block)
    numbers = b"".join(n.to_bytes(8, "little") for run in runs for n in run)
    inner = blake3(present).digest()
    return MARK + blake3(numbers + inner, derive_key_context=CONTEXT).digest()


@given(parts=PARTS, cuts=st.lists(st.integers(1, 2 * BLOCK), min_size=1, max_size=8))
def test_as_it_is_defined(parts, cuts):
    """
    However the content comes in pieces, of every beginning of it, and by a copy.
    """
    content = content_of(parts)
    hasher, at = SparseHasher(), 0
    for cut in cuts:
        hasher.update(content[at : at + cut])
        at = min(len(content), at + cut)
        assert hasher.digest() == as_defined(content[:at])
    copy = hasher.copy()
    copy.update(memoryview(content)[at:])
    assert copy.digest() == as_defined(content)
    assert hasher.digest() == as_defined(content[:at])


@given(parts=PARTS)
def test_holes_and_written_zeros_are_the_same(parts):
    """
    Wherever a file system has its holes.
    """
    told, read = SparseHasher(), SparseHasher()
    for data, count in parts:
        if data:
            told.update(b"\1" * count)
        else:
            told.zeros(count)
    read.update(content_of(parts))
    assert told.digest() == read.digest()


@given(parts=PARTS)
def test_an_ordinary_digest_is_blake3(parts):
    """
    Zeros or not, told or read.
    """
    hasher = OrdinaryHasher()
    for data, count in parts:
        if data:
            hasher.update(b"\1" * count)
        else:
            hasher.zeros(count)
    assert hasher.copy().digest() == blake3(content_of(parts)).digest()


def test_a_file_of_any_size():
    """
    In no time, and exactly: one zero more or less, or a byte elsewhere, is another.
    """

    def digest_of(*runs: int) -> bytes:
        hasher = new_hasher(sparse=True)
        for index, count in enumerate(runs):
            if index % 2:
                hasher.zeros(count)
            else:
                hasher.update(b"\1" * count)
        return hasher.digest()

    huge = 2**63 - 1
    digests = {
        digest_of(0, huge),
        digest_of(0, huge - 1),
        digest_of(1, huge - 1),
        digest_of(0, huge - 1, 1),
        digest_of(0, 2**62, 1, 2**62 - 2),
        digest_of(0, 2**62 - 1, 1, 2**62 - 1),
        digest_of(0, 2**62 + BLOCK, 1, 2**62 - 2 - BLOCK),
    }
    assert len(digests) == 7
    assert all(map(is_sparse, digests))


def test_content_that_looks_like_the_parts_of_a_digest():
    """
    Nobody can make up a file without absent blocks that has the digest of one with.
    """
    content = b"\1" * BLOCK + bytes(BLOCK)
    numbers = BLOCK.to_bytes(8, "little") * 2
    inner = blake3(content[:BLOCK]).digest()
    made_up = SparseHasher()
    made_up.update(numbers + inner)
    assert as_defined(content)[len(MARK) :] != made_up.digest()


def test_as_text():
    """
    An ordinary one as ``b3sum`` prints it; the other says that it is none of those.
    """
    ordinary, sparse = blake3(b"x").digest(), as_defined(bytes(5))
    assert digest_text(ordinary) == ordinary.hex()
    assert digest_text(sparse) == "sparse:" + sparse[1:].hex()
    for each in (ordinary, sparse, b""):
        assert parse_digest(digest_text(each)) == each
    assert [is_digest(each) for each in (ordinary, sparse, b"")] == [True, True, False]


@pytest.mark.parametrize("text", ["x", "00", "sparse:", "sparse:00", "00" * 33])
def test_no_digest(text):
    """
    What a damaged receipt may hold.
    """
    with pytest.raises(ValueError, match=r".*"):
        parse_digest(text)


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "ordinary"])
def test_zeros_without_end_can_be_ended(sparse):
    """
    What costs time can be ended, and pauses; what costs none has no need to.
    """
    hasher = new_hasher(sparse=sparse)
    pauses = iter(range(10))
    if sparse:
        hasher.zeros(2**62, lambda: next(pauses))
        assert next(pauses) == 0
    else:
        with pytest.raises(StopIteration):
            hasher.zeros(2**62, lambda: next(pauses))
