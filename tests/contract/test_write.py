"""
How every destination takes bytes.
"""

from __future__ import annotations

import os

import pytest

from realize.errors import BadRequest
from realize.model import (
    PREFIX_STEP,
    Failure,
    Finish,
    Offer,
    Piece,
    Written,
)
from tests.contract.conftest import contents
from tests.contract.pairs import run
from tests.contract.steps import (
    MTIME_NS,
    codes,
    digest,
    finish_of,
    put,
    sparse_digest,
)


class TestWrite:
    """
    Bytes go into partials.
    """

    def test_batches_of_many_files(self, pair, destination, there):
        """
        Pieces of several files, of which some are empty, in one payload.
        """
        files = {b"%d" % n: b"%d" % n * (n % 7) for n in range(100)}
        assert codes(put(pair, destination, files)) == ["Finished"] * 100
        assert contents(there) == {p.decode(): c for p, c in files.items()}

    def test_size_so_far(self, pair, destination):
        """
        Each answer says what the partial holds.
        """
        run(pair, destination.offer([Offer(b"x", 10)], []))
        pieces = [Piece(b"x", 0, 3), Piece(b"x", 3, 3)]
        results = run(pair, destination.write(pieces, b"123456"))
        assert results == [Written(3), Written(6)]

    def test_begin_anew(self, pair, destination, there):
        """
        Offset 0 drops what was there.
        """
        run(pair, destination.offer([Offer(b"x", 6)], []))
        run(pair, destination.write([Piece(b"x", 0, 6)], b"longer"))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"new"))
        assert contents(there) == {".x.realize-part": b"new"}

    def test_holes(self, pair, destination, there):
        """
        Bytes that were skipped are zeros, at the beginning, between and at the end.
        """
        content = bytes(100_000) + b"data" + bytes(100_000)
        run(pair, destination.offer([Offer(b"x", len(content), 200_000)], []))
        pieces = [Piece(b"x", 0, 0), Piece(b"x", 100_000, 4)]
        run(pair, destination.write(pieces, b"data"))
        finish = Finish(b"x", len(content), sparse_digest(content), 0o640, MTIME_NS)
        assert codes(run(pair, destination.finish([finish]))) == ["Finished"]
        assert contents(there) == {"x": content}

    @pytest.mark.parametrize(
        "piece",
        [
            Piece(b"x", 10, 4),
            Piece(b"x", 4, 10, runs=[4, 6]),
            Piece(b"x", 4, 20, runs=[4, 12, 0, 4]),
        ],
        ids=["gap", "hole", "holes"],
    )
    def test_a_hole_in_a_file_offered_without(self, pair, destination, piece):
        """
        Its digest would have every zero of it, and there may be any number.
        """
        run(pair, destination.offer([Offer(b"x", 100)], []))
        run(pair, destination.write([Piece(b"x", 0, 4)], b"data"))
        (result,) = run(pair, destination.write([piece], b"data"))
        assert result.code == "BAD_REQUEST"

    def test_an_end_that_was_not_written(self, pair, destination):
        """
        The same.
        """
        run(pair, destination.offer([Offer(b"x", 100)], []))
        run(pair, destination.write([Piece(b"x", 0, 4)], b"data"))
        finish = finish_of(b"x", b"data" + bytes(96))
        results = run(pair, destination.finish([finish]))
        assert codes(results) == ["DIGEST_MISMATCH"]

    @pytest.mark.parametrize(
        "piece",
        [
            Piece(b"x", 5, 6),
            Piece(b"x", 11, 0),
            Piece(b"x", 2**62, 6),
            Piece(b"x", 2, 6),
            Piece(b"y", 0, 6),
            Piece(b"x", 4, 6, [bytes(32)]),
            Piece(b"x", 4, 0, [bytes(32)] * 2),
        ],
        ids=["beyond", "after", "far", "before", "unknown", "bytes", "digests"],
    )
    def test_out_of_bounds(self, pair, destination, there, piece):
        """
        Refused, and so is what follows for the file, until it is offered again.
        """
        run(pair, destination.offer([Offer(b"x", 10)], []))
        run(pair, destination.write([Piece(b"x", 0, 4)], b"1234"))
        pieces = [piece, Piece(piece.path, 4, 1)]
        payload = bytes(piece.length + 1)
        first, second = run(pair, destination.write(pieces, payload))
        assert first == second
        assert first.code == "BAD_REQUEST"
        results = run(pair, destination.finish([finish_of(piece.path, b"1234")]))
        assert isinstance(results[0], Failure)
        if piece.path == b"x":
            assert results == [first]
            assert there.joinpath(".x.realize-part").read_bytes() == b"1234"
        run(pair, destination.offer([Offer(piece.path, 10)], []))
        results = run(pair, destination.write([Piece(piece.path, 0, 1)], b"1"))
        assert results == [Written(1)]

    def test_must_begin_at_the_beginning(self, pair, destination):
        """
        What an earlier run left is not simply continued.
        """
        run(pair, destination.offer([Offer(b"x", 10)], []))
        results = run(pair, destination.write([Piece(b"x", 4, 1)], b"1"))
        assert codes(results) == ["BAD_REQUEST"]

    def test_payload_of_another_length(self, pair, destination, there):
        """
        Then nothing at all is done.
        """
        run(pair, destination.offer([Offer(b"x", 10)], []))
        for payload in (b"", b"12", b"1234"):
            with pytest.raises(BadRequest):
                run(pair, destination.write([Piece(b"x", 0, 3)], payload))
        assert contents(there) == {}

    def test_resume(self, pair, destination, there):
        """
        A prefix whose digest agrees is kept, and the next piece continues it.
        """
        (there / ".x.realize-part").write_bytes(b"good, then bad")
        content = b"good, then better"
        run(pair, destination.offer([Offer(b"x", len(content))], []))
        pieces = [Piece(b"x", 6, 0, [digest(b"good, ")]), Piece(b"x", 6, 11)]
        results = run(pair, destination.write(pieces, b"then better"))
        assert results == [Written(6), Written(17)]
        results = run(pair, destination.finish([finish_of(b"x", content)]))
        assert codes(results) == ["Finished"]
        assert contents(there) == {"x": content}

    def test_resume_in_steps(self, pair, destination, there):
        """
        Of a long one as many steps as agree.
        """
        step = os.urandom(1024) * (PREFIX_STEP // 1024)
        with (there / ".x.realize-part").open("wb") as file:
            file.write(step)
            file.truncate(PREFIX_STEP + 5)
        content = step + b"tail!"
        run(pair, destination.offer([Offer(b"x", len(content))], []))
        steps = [digest(step), digest(content)]
        keep = Piece(b"x", len(content), 0, steps)
        assert run(pair, destination.write([keep], b"")) == [Written(PREFIX_STEP)]
        run(pair, destination.write([Piece(b"x", PREFIX_STEP, 5)], b"tail!"))
        results = run(pair, destination.finish([finish_of(b"x", content)]))
        assert codes(results) == ["Finished"]

    def test_nothing_to_resume(self, pair, destination, there):
        """
        What is not there, or is something else, keeps nothing, and is written anew.
        """
        (there / ".y.realize-part").write_bytes(b"other")
        for path in (b"x", b"y"):
            run(pair, destination.offer([Offer(path, 3)], []))
            keep = Piece(path, 2, 0, [digest(b"ne")])
            results = run(pair, destination.write([keep, Piece(path, 0, 3)], b"new"))
            assert results == [Written(0), Written(3)]

    def test_one_session_at_a_time(self, pair, destination, there):
        """
        Another is told that the file is busy, and leaves it alone; once the first is
        closed it may.
        """
        other = pair.open_destination(there)
        offers = [Offer(b"x", 3)]
        run(pair, destination.offer(offers, []))
        run(pair, other.offer(offers, []))
        run(pair, destination.write([Piece(b"x", 0, 2)], b"on"))
        results = run(pair, other.write([Piece(b"x", 0, 3)], b"two"))
        assert codes(results) == ["BUSY"]
        assert codes(run(pair, other.offer(offers, []))) == ["BUSY"]
        assert contents(there) == {".x.realize-part": b"on"}
        run(pair, destination.close())
        (held,) = run(pair, other.offer(offers, []))
        assert held.partial == 2
        run(pair, other.write([Piece(b"x", 0, 3)], b"two"))
        results = run(pair, other.finish([finish_of(b"x", b"two")]))
        assert codes(results) == ["Finished"]

    def test_not_replaceable(self, pair, there):
        """
        A present file that might have been the same, but is not, is not sent either.
        """
        (there / "x").write_bytes(b"old")
        destination = pair.open_destination(there, replace=False)
        run(pair, destination.offer([Offer(b"x", 3)], []))
        results = run(pair, destination.write([Piece(b"x", 0, 3)], b"new"))
        assert codes(results) == ["ALREADY_EXISTS"]
        assert contents(there) == {"x": b"old"}
