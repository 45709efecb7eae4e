"""
Signatures: pages, what is refused of a peer's, and what they cost on the wire.
"""

from __future__ import annotations

import io

import msgspec
import pytest
from blake3 import blake3

from realize.delta.chunks import Cutting
from realize.delta.plan import Span
from realize.delta.signature import (
    MAX_PAGE,
    SHORT_DIGEST,
    Groups,
    Signature,
    check_parts,
    pages_of,
    sign_blocks,
    sign_chunks,
)
from tests.delta.test_chunks import DATA
from tests.delta.versions import blocks as blocks_of
from tests.delta.versions import pages

CUTTING = Cutting(2048)


def fake(offset: int, *lengths: int) -> Signature:
    """
    A signature that is well formed.
    """
    return Signature(offset, list(lengths), bytes(SHORT_DIGEST * len(lengths)))


@pytest.mark.parametrize("count", [1, 2, 100])
def test_pages_follow_each_other(count: int) -> None:
    """
    However long the pages, the groups are the same, and each digest is of its bytes.
    """
    made = list(pages(DATA, CUTTING, count))

    assert all(len(page.lengths) <= count for page in made)
    parts = [part for page in made for part in page.parts()]
    assert sum(length for _, length, _ in parts) == len(DATA)
    for offset, length, digest in parts:
        (blocks,) = blocks_of(DATA, [Span(offset, length)], CUTTING)
        assert digest == blake3(blocks.digests).digest(SHORT_DIGEST)
        for begin, size, each in blocks.parts():
            assert each == blake3(DATA[begin : begin + size]).digest(SHORT_DIGEST)


def test_a_page_can_be_made_alone() -> None:
    """
    Beginning at the end of a page gives the pages that follow.
    """
    first, *rest = pages(DATA, CUTTING, 2)
    stream = io.BytesIO(DATA[first.end :])
    groups = sign_blocks(stream, first.end, CUTTING)
    assert list(pages_of(groups, first.end, 2)) == rest


def test_groups_are_those_of_every_version() -> None:
    """
    As for cuts: both ends have to end groups at the same blocks.
    """
    page = next(pages(DATA, CUTTING, 3))
    assert page.lengths == [957299, 948481, 752187]


def test_groups_end_where_digests_say() -> None:
    """
    Not too soon, and not too late where no digest says so.
    """
    for chunk in (2048, 65536, 2**20):
        cutting = Cutting(chunk)
        least = cutting.smallest_group // cutting.smallest_block
        most = cutting.largest_group // cutting.largest_block
        assert [
            [cutting.ends_group(count, digest) for count in (least - 1, least, most)]
            for digest in (b"\0", b"\1")
        ] == [[False, True, True], [False, False, True]]
        assert least * 2 == cutting.group // cutting.block


def test_an_empty_file_has_no_pages() -> None:
    """
    And its groups are complete at once.
    """
    assert list(pages(b"", CUTTING)) == []
    assert Groups(0, CUTTING).complete


def test_groups_by_number() -> None:
    """
    Offsets, lengths and digests are those of the pages, and every byte has its group.
    """
    groups = Groups(len(DATA), CUTTING)
    made = list(pages(DATA, CUTTING))
    for page in made:
        assert not groups.complete
        groups.add(page)

    parts = [part for page in made for part in page.parts()]
    assert groups.complete
    assert list(groups) == parts
    assert [groups[number] for number in range(len(groups))] == parts
    for number, (offset, length, _) in enumerate(parts):
        assert groups.offset(number) == offset
        assert groups.at(offset) == groups.at(offset + length - 1) == number
    assert groups.offset(len(groups)) == len(DATA)
    with pytest.raises(IndexError):
        groups[len(groups)]


def test_a_signature_crosses_the_wire_in_little() -> None:
    """
    A group costs about 20 bytes and a chunk about 19.
    """
    page = next(pages(DATA, CUTTING, 100))
    chunks = sign_chunks(DATA[: page.lengths[0]], 0, CUTTING)

    for signature, each in ((page, 21), (chunks, 19)):
        encoded = msgspec.msgpack.encode(signature)
        assert msgspec.msgpack.decode(encoded, type=Signature) == signature
        assert len(encoded) <= each * len(signature.lengths) + 40


@pytest.mark.parametrize(
    ("offset", "lengths", "digests"),
    [
        (-1, [5], 16),
        (2**43, [5], 16),
        (0, [0], 16),
        (0, [-5], 16),
        (0, [2**25], 16),
        (0, [5], 15),
        (0, [5], 32),
        (0, [5] * (MAX_PAGE + 1), 16 * (MAX_PAGE + 1)),
    ],
)
def test_malformed_signatures_are_refused(
    offset: int, lengths: list[int], digests: int
) -> None:
    """
    What can be seen from the value alone is seen when it is decoded.
    """
    encoded = msgspec.msgpack.encode(["signature", offset, lengths, bytes(digests)])
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encoded, type=Signature)


@pytest.mark.parametrize(
    "page",
    [
        fake(0),
        fake(500, 2**20),
        fake(2**20 + 1, 2**20),
        fake(2**20, 2**20, 2**21),
        fake(2**20, 2**20 + 1),
    ],
    ids=["empty", "before", "gap", "beyond by much", "beyond by little"],
)
def test_pages_that_do_not_follow_are_refused(page: Signature) -> None:
    """
    A peer can't make the groups of a file overlap, or go on beyond it.
    """
    groups = Groups(2**21, CUTTING)
    groups.add(fake(0, 2**20))

    with pytest.raises(ValueError, match="another part"):
        groups.add(page)

    assert (len(groups), groups.end) == (1, 2**20)


@pytest.mark.parametrize(
    "page",
    [fake(0, 1), fake(0, 2**20, 1), fake(0, 1, 2**20), fake(0, 2**22 + 1)],
    ids=["short", "short at last", "short at first", "long"],
)
def test_groups_of_other_sizes_are_refused(page: Signature) -> None:
    """
    A peer can't fill the memory with groups of one byte, nor lay many of them where
    there is room for one.
    """
    groups = Groups(2**23, CUTTING)
    with pytest.raises(ValueError, match="none"):
        groups.add(page)
    assert len(groups) == 0


def test_the_last_group_may_be_short() -> None:
    """
    Files end where they end.
    """
    groups = Groups(2**20 + 1, CUTTING)
    groups.add(fake(0, 2**20, 1))
    assert groups.complete


def test_chunks_are_held_against_what_was_asked() -> None:
    """
    The very group, in no more chunks than can be.
    """
    check_parts(fake(100, 1024, 400), 100, 1424, 2)
    for wrong in (fake(99, 1024, 400), fake(100, 1024, 399), fake(100, 1024, 401)):
        with pytest.raises(ValueError, match="another part"):
            check_parts(wrong, 100, 1424, 2)
    with pytest.raises(ValueError, match="too many"):
        check_parts(fake(100, 1024, 399, 1), 100, 1424, 2)
