"""
How files become final at every destination.
"""

from __future__ import annotations

import os
import stat

import pytest

from realize.errors import BadRequest
from realize.model import (
    Directory,
    Finished,
    Offer,
    Piece,
)
from tests.contract.conftest import contents
from tests.contract.pairs import run
from tests.contract.steps import MTIME_NS, codes, finish_of, put


class TestFinish:
    """
    Verified and under the final name, or not at all.
    """

    def test_attributes(self, pair, destination, there):
        """
        Permission bits, whatever the umask, and time of modification.
        """
        previous = os.umask(0o077)
        try:
            (finished,) = put(pair, destination, {b"x": b"content"})
        finally:
            os.umask(previous)
        assert finished.how == "written"
        status = (there / "x").stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_mtime_ns == MTIME_NS

    def test_configured_modes(self, pair, there):
        """
        The administrator's wish wins, for files and for directories.
        """
        destination = pair.open_destination(
            there, file_mode=0o604, directory_mode=0o2751
        )
        run(pair, destination.offer([Offer(b"d/x", 1)], [Directory(b"d", 0o700)]))
        put(pair, destination, {b"d/x": b"1"})
        assert stat.S_IMODE((there / "d").stat().st_mode) == 0o2751
        assert stat.S_IMODE((there / "d/x").stat().st_mode) == 0o604

    def test_replaces(self, pair, destination, there):
        """
        The old file gives way in one step: whoever has it open keeps it.
        """
        (there / "x").write_bytes(b"old")
        with (there / "x").open("rb") as held:
            (finished,) = put(pair, destination, {b"x": b"new"})
            assert held.read() == b"old"
        assert finished.how == "replaced"
        assert contents(there) == {"x": b"new"}

    def test_does_not_replace(self, pair, there):
        """
        Neither a file that was there, nor one that came meanwhile.
        """
        destination = pair.open_destination(there, replace=False)
        run(pair, destination.offer([Offer(b"x", 3)], []))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"new"))
        (there / "x").write_bytes(b"old")
        results = run(pair, destination.finish([finish_of(b"x", b"new")]))
        assert codes(results) == ["ALREADY_EXISTS"]
        assert contents(there) == {"x": b"old"}

    def test_directory_in_the_way(self, pair, destination, there):
        """
        One that came after the offer.
        """
        run(pair, destination.offer([Offer(b"x", 3)], []))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"new"))
        (there / "x").mkdir()
        results = run(pair, destination.finish([finish_of(b"x", b"new")]))
        assert codes(results) == ["NAME_TAKEN"]

    def test_other_content(self, pair, destination, there):
        """
        What was written is not what was read: no final name, nothing to resume.
        """
        (there / "x").write_bytes(b"old")
        run(pair, destination.offer([Offer(b"x", 3)], []))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"nev"))
        results = run(pair, destination.finish([finish_of(b"x", b"new")]))
        assert codes(results) == ["DIGEST_MISMATCH"]
        assert contents(there) == {"x": b"old"}
        (finished,) = put(pair, destination, {b"x": b"new"})
        assert finished.how == "replaced"

    def test_incomplete(self, pair, destination, there):
        """
        Bytes that never came are not taken for zeros.
        """
        run(pair, destination.offer([Offer(b"x", 6)], []))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"thr"))
        results = run(pair, destination.finish([finish_of(b"x", b"three!")]))
        assert codes(results) == ["DIGEST_MISMATCH"]
        assert "x" not in contents(there)

    def test_other_size_than_offered(self, pair, destination, there):
        """
        Space was kept for another file than this.
        """
        run(pair, destination.offer([Offer(b"x", 6)], []))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"thr"))
        results = run(pair, destination.finish([finish_of(b"x", b"thr")]))
        assert codes(results) == ["BAD_REQUEST"]

    def test_there_already(self, pair, destination, there):
        """
        Said to be there: it is, or it is something else, or there is nothing.
        """
        (there / "same").write_bytes(b"content")
        (there / "other").write_bytes(b"CONTENT")
        (there / "shorter").write_bytes(b"conten")
        wanted = [
            finish_of(name, b"content")
            for name in (b"same", b"other", b"shorter", b"none", b"no/directory")
        ]
        before = contents(there)
        results = run(pair, destination.finish(wanted))
        assert codes(results) == [
            "Finished",
            "DIGEST_MISMATCH",
            "DIGEST_MISMATCH",
            "NO_SUCH_FILE",
            "NO_SUCH_FILE",
        ]
        assert results[0].how == "present"
        assert contents(there) == before

    def test_version(self, pair, destination):
        """
        The same as an offer tells afterwards.
        """
        (finished,) = put(pair, destination, {b"x": b"content"})
        offers = [Offer(b"x", 7)]
        (held,) = run(pair, destination.offer(offers, [], reserve=False))
        assert finished.version == held.version != b""
        (again,) = run(pair, destination.finish([finish_of(b"x", b"content")]))
        assert again == Finished("present", held.version)

    def test_safe_to_repeat(self, pair, destination, there):
        """
        In one session, or in another; with another store too.
        """
        run(pair, destination.offer([Offer(b"x", 3)], []))
        run(pair, destination.write([Piece(b"x", 0, 3)], b"new"))
        wanted = finish_of(b"x", b"new")
        (first,) = run(pair, destination.finish([wanted]))
        (second,) = run(pair, destination.finish([wanted]))
        assert (first.how, second.how) == ("written", "present")
        other = pair.open_destination(there, replace=False)
        (third,) = run(pair, other.finish([wanted]))
        assert third.how == "present"

    def test_a_file_once(self, pair, destination):
        """
        No request names one twice: what is asked of it again would cost as much again.
        """
        wanted = finish_of(b"x", b"new")
        offer = Offer(b"x", 3)
        for request in (
            destination.offer([offer, offer], []),
            destination.offer([offer, offer], [], reserve=False),
            destination.compare([wanted, wanted]),
            destination.finish([wanted, wanted]),
        ):
            with pytest.raises(BadRequest):
                run(pair, request)

    def test_one_failure_among_many(self, pair, destination, there):
        """
        The others of its group are finished.
        """
        files = {b"%d" % n: b"%d" % n for n in range(10)}
        run(pair, destination.offer([Offer(p, 1) for p in files], []))
        pieces = [Piece(path, 0, 1) for path in files]
        run(pair, destination.write(pieces, b"0123X56789"))
        wanted = [finish_of(path, content) for path, content in files.items()]
        results = run(pair, destination.finish(wanted))
        assert codes(results) == [
            "DIGEST_MISMATCH" if n == 4 else "Finished" for n in range(10)
        ]
        assert sorted(contents(there)) == sorted(str(n) for n in range(10) if n != 4)

    @pytest.mark.parametrize(
        "name",
        [
            b"caf\xe9",
            b"-rf",
            b"{path}",
            b"new\nline",
            b"\x1b[31m",
            b"n" * 255,
            b"\xff" * 242,
            b" ",
            b"...",
        ],
    )
    def test_awkward_names(self, pair, destination, there, name):
        """
        Names are bytes.
        """
        assert codes(put(pair, destination, {name: b"content"})) == ["Finished"]
        assert os.listdir(os.fsencode(there)) == [name]
