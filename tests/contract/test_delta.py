"""
Rules for signing files and reusing what is present, at every store.
"""

from __future__ import annotations

import io
import os
import random
import time

import pytest

from realize.delta.chunks import SMALLEST_FILE, Cutting
from realize.delta.exchange import MAX_REUSED, MAX_SIGNED, PAGE, Patch, Sign
from realize.delta.plan import Fetch, Reuse, Span
from realize.delta.signature import (
    SHORT_DIGEST,
    Groups,
    Signature,
    check_parts,
    sign_chunks,
    sign_group,
)
from realize.errors import (
    BadRequest,
    DigestMismatch,
    NoSuchFile,
    NotAllowed,
    PeerError,
    SourceChanged,
)
from realize.model import Finish, Finished, Offer, Piece, Written
from realize.store.signing import LEAST_TOLD
from tests.contract.conftest import contents
from tests.contract.pairs import run, run_all
from tests.contract.steps import (
    MTIME_NS,
    codes,
    digest,
    files_of,
    finish_of,
    sparse_digest,
)

CHUNK = 2048
CUTTING = Cutting(CHUNK)
MIB = 1024 * 1024
DATA = random.Random(5).randbytes(3 * MIB)  # noqa: S311  # no secret


@pytest.fixture(params=["source", "destination"])
def end(request, pair, here, there):
    """
    Makes a file at one of the ends and opens that.

    :returns: the store, the path of the file, and its version.
    """

    def make(content):
        path = (here if request.param == "source" else there) / "x"
        path.write_bytes(content)
        if request.param == "source":
            source = pair.open_source(here)
            return source, path, files_of(pair, source)[b"x"].identity
        destination = pair.open_destination(there)
        (held,) = run(pair, destination.offer([Offer(b"x", 5)], []))
        assert held.mtime_ns == path.stat().st_mtime_ns
        return destination, path, held.version

    make.is_source = request.param == "source"
    return make


def veiled(signature, *parts):
    """
    What is told of a present file: no digest of what is short, nor of these parts.
    """
    told = [
        b"" if length < LEAST_TOLD else each
        for length, (_, _, each) in zip(
            signature.lengths, signature.parts(), strict=True
        )
    ]
    for part in parts:
        told[part] = b""
    digests = b"".join(each.ljust(SHORT_DIGEST, b"\0") for each in told)
    return Signature(signature.offset, signature.lengths, digests)


def all_groups(pair, store, version, content, cutting=CUTTING):
    """
    The groups of a file, page by page, and the digest that came with them.
    """
    groups = Groups(len(content), cutting)
    digests = b""
    page = 0
    while not groups.complete:
        signed = run(pair, store.sign(Sign(b"x", version, cutting.chunk, page)))
        groups.add(signed.signatures[0])
        digests += signed.digest
        page += 1
    return groups, digests


class TestSign:
    """
    Signatures of versions of a file, at both ends.
    """

    def test_groups_and_chunks(self, pair, end):
        """
        Those that the content has; the source's come with its digest.
        """
        store, _, version = end(DATA)
        groups, found = all_groups(pair, store, version, DATA)
        assert found == (digest(DATA) if end.is_source else b"")
        spans = [Span(offset, length) for offset, length, _ in groups]
        for blocks in (True, False):
            wanted = Sign(b"x", version, CHUNK, 0, spans, blocks)
            signed = run(pair, store.sign(wanted))
            for span, signature in zip(spans, signed.signatures, strict=True):
                group = DATA[span.offset : span.offset + span.length]
                if blocks:
                    group = sign_group(io.BytesIO(group), span.offset, CUTTING)
                else:
                    group = sign_chunks(group, span.offset, CUTTING)
                assert signature == (group if end.is_source else veiled(group))

    def test_pages_asked_for_ahead(self, pair, end, here):
        """
        In order; behind the last come empty ones.
        """
        content = bytes(130 * CUTTING.largest_group)
        store, _, version = end(content)
        asked = [store.sign(Sign(b"x", version, CHUNK, page)) for page in range(5)]
        pages = [signed.signatures[0] for signed in run_all(pair, *asked)]
        assert [len(page.lengths) for page in pages] == [PAGE, PAGE, 2, 0, 0]
        assert pages[1].offset == pages[0].end
        assert pages[2].end == pages[3].offset == len(content)

    def test_blocks_of_any_span(self, pair, end):
        """
        Also of files that were not signed before, and of parts that are no groups.  Of
        a present file the digests at edges of somebody's choice are not told.
        """
        store, _, version = end(DATA)
        spans = [Span(0, 100), Span(5, 300_000), Span(len(DATA) - 7, 7)]
        for _ in range(2):
            wanted = Sign(b"x", version, CHUNK, 0, spans, blocks=True)
            signed = run(pair, store.sign(wanted))
            groups = [
                sign_group(
                    io.BytesIO(DATA[span.offset : span.offset + span.length]),
                    span.offset,
                    CUTTING,
                )
                for span in spans
            ]
            if not end.is_source:
                groups = [
                    veiled(groups[0]),
                    veiled(groups[1], 0, -1),
                    veiled(groups[2]),
                ]
            assert signed.signatures == groups
            all_groups(pair, store, version, DATA)

    def test_zeros_take_linear_time(self, pair, end):
        """
        All groups and all chunks are equal; that costs no more than if they were not.
        """
        content = bytes(16 * MIB)
        store, _, version = end(content)
        began = time.process_time()
        groups, _ = all_groups(pair, store, version, content)
        spans = [Span(offset, length) for offset, length, _ in groups]
        run(pair, store.sign(Sign(b"x", version, CHUNK, 0, spans)))
        assert time.process_time() - began < 5
        assert len({each for _, _, each in groups}) <= 2

    def test_beginning_again(self, pair, end):
        """
        The first page may be asked for at any time.
        """
        store, _, version = end(DATA)
        first, second = (all_groups(pair, store, version, DATA) for _ in range(2))
        assert list(first[0]) == list(second[0])
        assert first[1] == second[1]

    @pytest.mark.parametrize("page", [1, 7])
    def test_only_the_next_page(self, pair, end, page):
        """
        Any other is refused.
        """
        store, _, version = end(DATA)
        with pytest.raises(BadRequest):
            run(pair, store.sign(Sign(b"x", version, CHUNK, page)))

    @pytest.mark.parametrize(
        "spans",
        [
            [Span(len(DATA) - 5, 6)],
            [Span(len(DATA), 1)],
            [Span(0, CUTTING.largest_group + 1)],
            [Span(0, MIB)] * (MAX_SIGNED // MIB + 1),
        ],
        ids=["end", "behind", "long", "many"],
    )
    def test_no_such_groups(self, pair, end, spans):
        """
        Out of bounds, longer than a group, or too many.
        """
        store, _, version = end(DATA)
        with pytest.raises(BadRequest):
            run(pair, store.sign(Sign(b"x", version, CHUNK, 0, spans)))

    def test_no_such_chunks(self, pair, end):
        """
        Average sizes are powers of two.
        """
        store, _, version = end(DATA)
        with pytest.raises(BadRequest):
            run(pair, store.sign(Sign(b"x", version, CHUNK + 1)))

    def test_other_version(self, pair, end):
        """
        Only the version asked for is signed, to the end.
        """
        store, path, version = end(DATA)
        run(pair, store.sign(Sign(b"x", version, CHUNK)))
        path.write_bytes(DATA[1:])
        expected = SourceChanged if end.is_source else DigestMismatch
        for spans in ([], [Span(0, 100)]):
            with pytest.raises(expected):
                run(pair, store.sign(Sign(b"x", version, CHUNK, 0, spans)))

    def test_no_version_at_all(self, pair, end):
        """
        Nonsense is refused.
        """
        store, _, _ = end(DATA)
        with pytest.raises(PeerError):
            run(pair, store.sign(Sign(b"x", b"nonsense", CHUNK)))

    def test_gone(self, pair, end):
        """
        There is nothing to sign.
        """
        store, path, version = end(DATA)
        path.unlink()
        with pytest.raises(NoSuchFile):
            run(pair, store.sign(Sign(b"x", version, CHUNK)))

    def test_may_not_replace(self, pair, there):
        """
        Who may not replace a file learns nothing of what is in it.
        """
        (there / "x").write_bytes(DATA)
        destination = pair.open_destination(there, replace=False)
        (held,) = run(pair, destination.offer([Offer(b"x", len(DATA))], []))
        with pytest.raises(NotAllowed):
            run(pair, destination.sign(Sign(b"x", held.version, CHUNK)))

    def test_leads_nowhere_else(self, pair, end):
        """
        Not through a symbolic link, and not upwards.
        """
        store, path, version = end(DATA)
        path.rename(path.with_name("y"))
        path.symlink_to("y")
        with pytest.raises(PeerError):
            run(pair, store.sign(Sign(b"x", version, CHUNK)))
        with pytest.raises(PeerError):
            run(pair, store.sign(Sign(b"../x", version, CHUNK)))


@pytest.fixture
def present(pair, destination, there):
    """
    A present file, whose successor was offered.

    :returns: its version.
    """
    (there / "x").write_bytes(DATA)
    (held,) = run(pair, destination.offer([Offer(b"x", 2 * MIB)], []))
    return held.version


class TestReuse:
    """
    Parts of the present file go into the partial.
    """

    def test_patch(self, pair, destination, there, present):
        """
        Copied and sent parts, whatever their places, together with writes; all take
        effect in the order in which they were begun.  The present file stays.
        """
        new = b"new" + DATA[5000:6000] + b"middle" + DATA[MIB : 2 * MIB] + b"end"
        steps = [
            Fetch(0, 3),
            Reuse(3, 1000, 5000),
            Fetch(1003, 6),
            Reuse(1009, MIB, MIB),
        ]
        run(pair, destination.offer([Offer(b"x", len(new))], []))
        results = run_all(
            pair,
            destination.reuse(Patch(b"x", present, steps[:2]), b"new"),
            destination.reuse(Patch(b"x", present, steps[2:]), b"middle"),
            destination.write([Piece(b"x", 1009 + MIB, 3)], b"end"),
            destination.finish([finish_of(b"x", new)]),
        )
        assert results[0] == Written(1003)
        assert results[1] == Written(1009 + MIB)
        assert results[2] == [Written(len(new))]
        assert isinstance(results[3][0], Finished)
        assert results[3][0].how == "replaced"
        assert contents(there) == {"x": new}

    def test_present_stays_until_the_end(self, pair, destination, there, present):
        """
        It is only read.
        """
        steps = [Reuse(0, MIB, 100)]
        result = run(pair, destination.reuse(Patch(b"x", present, steps), b""))
        assert result == Written(MIB)
        assert contents(there) == {
            "x": DATA,
            ".x.realize-part": DATA[100 : 100 + MIB],
        }

    @pytest.mark.holes
    def test_holes_stay_holes(self, pair, destination, there):
        """
        Where the present file has some, nothing is written.
        """
        with (there / "x").open("wb") as file:
            file.truncate(8 * MIB)
            file.seek(3 * MIB)
            file.write(DATA[:MIB])
        if (there / "x").stat().st_blocks * 512 >= 8 * MIB:
            pytest.skip("needs a file system with holes")
        (held,) = run(pair, destination.offer([Offer(b"x", 8 * MIB)], []))
        patch = Patch(b"x", held.version, [Fetch(0, 5), Reuse(5, 8 * MIB - 5, 5)])
        run(pair, destination.reuse(patch, b"12345"))
        new = b"12345" + bytes(3 * MIB - 5) + DATA[:MIB] + bytes(4 * MIB)
        results = run(pair, destination.finish([finish_of(b"x", new)]))
        assert codes(results) == ["Finished"]
        assert contents(there) == {"x": new}
        assert (there / "x").stat().st_blocks * 512 < 2 * MIB

    @pytest.mark.parametrize("holes", [0, 2 * MIB])
    def test_sent_zeros_become_holes(self, pair, destination, there, present, holes):
        """
        If the source said that its file has holes; otherwise they are what they are.
        """
        new = b"12345" + bytes(2 * MIB) + DATA[:MIB]
        (held,) = run(pair, destination.offer([Offer(b"x", len(new), holes)], []))
        steps = [Fetch(0, 5 + 2 * MIB), Reuse(5 + 2 * MIB, MIB, 0)]
        patch = Patch(b"x", held.version, steps)
        run(pair, destination.reuse(patch, new[: 5 + 2 * MIB]))
        value = sparse_digest(new) if holes else digest(new)
        finish = Finish(b"x", len(new), value, 0o640, MTIME_NS)
        assert codes(run(pair, destination.finish([finish]))) == ["Finished"]
        assert contents(there) == {"x": new}
        stored = (there / "x").stat().st_blocks * 512
        assert (stored < 2 * MIB) == (holes > 0)

    def test_behind_what_was_kept(self, pair, destination, there, present):
        """
        A partial of an earlier run goes on in the same way.
        """
        (there / ".x.realize-part").write_bytes(b"begun, and more")
        new = b"begun" + DATA[: 2 * MIB - 5]
        run(pair, destination.offer([Offer(b"x", len(new))], []))
        run(pair, destination.write([Piece(b"x", 5, 0, [digest(b"begun")])], b""))
        patch = Patch(b"x", present, [Reuse(5, len(new) - 5, 0)])
        assert run(pair, destination.reuse(patch, b"")) == Written(len(new))
        results = run(pair, destination.finish([finish_of(b"x", new)]))
        assert codes(results) == ["Finished"]
        assert contents(there) == {"x": new}

    def test_from_the_beginning(self, pair, destination, there, present):
        """
        Offset 0 drops what was there.
        """
        for begin in (0, 7):
            patch = Patch(b"x", present, [Reuse(0, 10, begin)])
            assert run(pair, destination.reuse(patch, b"")) == Written(10)
        assert (there / ".x.realize-part").read_bytes() == DATA[7:17]

    @pytest.mark.parametrize(
        ("steps", "payload"),
        [
            ([Reuse(9, 1, 0)], b""),
            ([Reuse(11, 1, 0)], b""),
            ([Reuse(10, 1, 0), Reuse(12, 1, 0)], b""),
            ([Reuse(10, 2 * MIB, 0)], b""),
            ([Fetch(10, 2 * MIB)], bytes(2 * MIB)),
            ([Fetch(10, 3)], b"12"),
            ([Fetch(10, 3)], b"1234"),
            ([Reuse(10, 3, 0)], b"123"),
            ([Reuse(10, MAX_REUSED + 1, 0)], b""),
        ],
        ids=[
            "before",
            "after",
            "gap",
            "beyond",
            "fetched beyond",
            "short",
            "long",
            "payload",
            "much",
        ],
    )
    def test_out_of_bounds(self, pair, destination, there, present, steps, payload):
        """
        Refused, and so is what follows, until the file is offered again.
        """
        run(pair, destination.write([Piece(b"x", 0, 10)], b"0123456789"))
        result = run(pair, destination.reuse(Patch(b"x", present, steps), payload))
        assert codes([result]) == ["BAD_REQUEST"]
        results = run(pair, destination.write([Piece(b"x", 10, 1)], b"x"))
        assert results == [result]
        good = Patch(b"x", present, [Reuse(0, 1, 0)])
        assert run(pair, destination.reuse(good, b"")) == result
        run(pair, destination.offer([Offer(b"x", 2 * MIB)], []))
        assert run(pair, destination.reuse(good, b"")) == Written(1)
        assert (there / "x").read_bytes() == DATA

    def test_behind_the_end_of_the_present_file(
        self, pair, destination, there, present
    ):
        """
        There is nothing.
        """
        steps = [Reuse(0, 10, len(DATA) - 5)]
        result = run(pair, destination.reuse(Patch(b"x", present, steps), b""))
        assert codes([result]) == ["DIGEST_MISMATCH"]
        assert (there / "x").read_bytes() == DATA

    def test_other_version(self, pair, destination, there, present):
        """
        What was compared is not there any more.
        """
        (there / "x").write_bytes(DATA[::-1])
        patch = Patch(b"x", present, [Reuse(0, 10, 0)])
        result = run(pair, destination.reuse(patch, b""))
        assert codes([result]) == ["DIGEST_MISMATCH"]

    def test_gone(self, pair, destination, there, present):
        """
        Nothing is there any more.
        """
        (there / "x").unlink()
        patch = Patch(b"x", present, [Reuse(0, 10, 0)])
        result = run(pair, destination.reuse(patch, b""))
        assert codes([result]) == ["NO_SUCH_FILE"]

    def test_not_offered(self, pair, destination, there):
        """
        As for writing.
        """
        (there / "x").write_bytes(DATA)
        patch = Patch(b"x", bytes(40), [Reuse(0, 10, 0)])
        result = run(pair, destination.reuse(patch, b""))
        assert codes([result]) == ["BAD_REQUEST"]
        assert contents(there) == {"x": DATA}

    def test_may_not_replace(self, pair, there):
        """
        Then nothing of it goes anywhere.
        """
        (there / "x").write_bytes(DATA)
        destination = pair.open_destination(there, replace=False)
        (held,) = run(pair, destination.offer([Offer(b"x", len(DATA))], []))
        patch = Patch(b"x", held.version, [Reuse(0, 10, 0)])
        result = run(pair, destination.reuse(patch, b""))
        assert codes([result]) == ["NOT_ALLOWED"]
        assert contents(there) == {"x": DATA}

    def test_may_not_replace_what_came_meanwhile(self, pair, there):
        """
        Nor does anything of a file that was put there after the first byte.
        """
        destination = pair.open_destination(there, replace=False)
        offer = Offer(b"x", len(DATA))
        run(pair, destination.offer([offer], []))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"new"))
        (there / "x").write_bytes(DATA)
        (held,) = run(pair, destination.offer([offer], []))
        patch = Patch(b"x", held.version, [Reuse(3, 10, 0)])
        result = run(pair, destination.reuse(patch, b""))
        assert codes([result]) == ["NOT_ALLOWED"]
        assert contents(there) == {"x": DATA, ".x.realize-part": b"new"}

    def test_digest_still_decides(self, pair, destination, there, present):
        """
        What was put together wrongly gets no name.
        """
        new = DATA[: 2 * MIB]
        patch = Patch(b"x", present, [Reuse(0, len(new), 1)])
        assert run(pair, destination.reuse(patch, b"")) == Written(len(new))
        results = run(pair, destination.finish([finish_of(b"x", new)]))
        assert codes(results) == ["DIGEST_MISMATCH"]
        assert (there / "x").read_bytes() == DATA


def test_chunks_of_a_page_are_checked(pair, source, here):
    """
    What a store answers passes the checks that a mover makes.
    """
    (here / "x").write_bytes(os.urandom(100_000))
    file = files_of(pair, source)[b"x"]
    spans = [Span(0, 100_000)]
    signed = run(pair, source.sign(Sign(b"x", file.identity, CHUNK, 0, spans)))
    check_parts(signed.signatures[0], 0, 100_000, CUTTING.most_chunks(100_000))


@pytest.mark.parametrize("size", [1, 4, 1000, SMALLEST_FILE - 1])
def test_small_files_are_not_signed(pair, destination, there, size):
    """
    They are not compared, and what they hold could be guessed from a digest.
    """
    (there / "x").write_bytes(bytes(size))
    (held,) = run(pair, destination.offer([Offer(b"x", 1)], [], reserve=False))
    for spans in ([], [Span(0, 1)]):
        with pytest.raises(BadRequest):
            run(pair, destination.sign(Sign(b"x", held.version, CHUNK, 0, spans)))


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_nothing_is_learnt_byte_by_byte(pair, destination, there, blocks, first):
    """
    No digest comes back that depends on a part whose beginning or end was chosen: for
    spans of one byte, of a few, and for a window that is moved by one byte at a time.

    :param first: whether the file's own parts are known to the store.
    """
    (there / "x").write_bytes(DATA)
    (held,) = run(pair, destination.offer([Offer(b"x", 1)], [], reserve=False))
    if first:
        all_groups(pair, destination, held.version, DATA)
    for length in (1, 2, LEAST_TOLD - 1, LEAST_TOLD, 2 * LEAST_TOLD, 70_000):
        spans = [Span(300_001 + shift, length) for shift in range(8)]
        wanted = Sign(b"x", held.version, CHUNK, 0, spans, blocks)
        for signature in run(pair, destination.sign(wanted)).signatures:
            told = [digest for _, _, digest in signature.parts()]
            assert not any(told[0])
            assert not any(told[-1])
