"""
What every destination answers to offers.
"""

from __future__ import annotations

import os
import stat

import pytest

from realize.model import (
    Directory,
    Held,
    Offer,
    Piece,
)
from tests.contract.conftest import contents
from tests.contract.pairs import run
from tests.contract.steps import codes


class TestOffer:
    """
    What is there already, and whether the rest can be taken.
    """

    def test_nothing_there(self, pair, destination, there):
        """
        An empty destination has nothing, and nothing is made of a file yet.
        """
        assert run(pair, destination.offer([Offer(b"x", 5)], [])) == [Held()]
        assert contents(there) == {}

    def test_present_and_partial(self, pair, destination, there):
        """
        What is there is told by size, and by a version that changes with the file.
        """
        (there / "present").write_bytes(b"12345")
        (there / ".partial.realize-part").write_bytes(b"123")
        offers = [Offer(b"present", 9), Offer(b"partial", 9)]
        present, partial = run(pair, destination.offer(offers, []))
        assert (present.partial, present.present) == (0, 5)
        assert partial == Held(partial=3)
        assert present.version
        (again,) = run(pair, destination.offer(offers[:1], [], reserve=False))
        assert again.version == present.version
        (there / "present").write_bytes(b"54321")
        (changed,) = run(pair, destination.offer(offers[:1], [], reserve=False))
        assert changed.version != present.version

    def test_directories_are_made(self, pair, destination, there):
        """
        Those above the files, with the modes given whatever the umask; others with a
        default; those that are there stay as they are.
        """
        (there / "old").mkdir(mode=0o700)
        files = [Offer(b"old/new/x", 1), Offer(b"unsaid/x", 1)]
        directories = [Directory(b"old", 0o777), Directory(b"old/new", 0o775)]
        previous = os.umask(0o077)
        try:
            results = run(pair, destination.offer(files, directories))
        finally:
            os.umask(previous)
        assert results == [Held(), Held()]
        modes = {
            name: stat.S_IMODE((there / name).stat().st_mode)
            for name in ("old", "old/new", "unsaid")
        }
        assert modes == {"old": 0o700, "old/new": 0o775, "unsaid": 0o755}

    def test_safe_to_repeat(self, pair, destination, there):
        """
        The same offer has the same answer.
        """
        offers = [Offer(b"d/x", 5)]
        first = run(pair, destination.offer(offers, []))
        assert run(pair, destination.offer(offers, [])) == first

    def test_without_reserving_nothing_changes(self, pair, destination, there):
        """
        A dry run makes no directory, and lets nobody write.
        """
        offers = [Offer(b"d/x", 1)]
        assert run(pair, destination.offer(offers, [], reserve=False)) == [Held()]
        assert contents(there) == {}
        results = run(pair, destination.write([Piece(b"d/x", 0, 1)], b"x"))
        assert codes(results) == ["BAD_REQUEST"]

    @pytest.mark.parametrize("reserve", [True, False])
    def test_what_cannot_be_taken(self, pair, destination, there, reserve):
        """
        One answer per file, in order, and the good ones among them.
        """
        (there / "directory").mkdir()
        (there / "file").write_bytes(b"")
        (there / "link").symlink_to("directory")
        offers = [
            Offer(b"directory", 1),
            Offer(b"good", 1),
            Offer(b"file/below", 1),
            Offer(b"link/x", 1),
            Offer(b"link", 1),
            Offer(b"../x", 1),
            Offer(b"/x", 1),
            Offer(b"a//x", 1),
            Offer(b".x.realize-part", 1),
            Offer(b".realize-moved-0123456789abcdef/x", 1),
            Offer(b"n" * 256, 1),
            Offer(b"also good", 2**62),
        ]
        results = run(pair, destination.offer(offers, [], reserve=reserve))
        assert codes(results) == [
            "NAME_TAKEN",
            "Held",
            "NAME_TAKEN",
            "UNSAFE_PATH",
            "NAME_TAKEN",
            "UNSAFE_PATH",
            "UNSAFE_PATH",
            "UNSAFE_PATH",
            "UNSAFE_PATH",
            "UNSAFE_PATH",
            "NAME_TOO_LONG",
            "NO_SPACE",
        ]
        assert sorted(os.listdir(there)) == ["directory", "file", "link"]

    @pytest.mark.parametrize("reserve", [True, False])
    def test_present_files_that_may_not_be_replaced(self, pair, there, reserve):
        """
        Refused at once, unless its size says that it could be the same file.
        """
        (there / "x").write_bytes(b"12345")
        destination = pair.open_destination(there, replace=False)
        offers = [Offer(b"x", 4)]
        results = run(pair, destination.offer(offers, [], reserve=reserve))
        assert codes(results) == ["ALREADY_EXISTS"]
        offers = [Offer(b"x", 5)]
        (held,) = run(pair, destination.offer(offers, [], reserve=reserve))
        assert held.present == 5

    def test_space_is_kept_for_files(self, pair, there):
        """
        What would not leave the configured reserve is refused before it is sent, and
        what one session was promised another does not get.
        """
        status = os.statvfs(there)
        free = status.f_bavail * status.f_frsize
        one = pair.open_destination(there, min_free=free - 2**28)
        huge = [Offer(b"x", 2**29)]
        assert codes(run(pair, one.offer(huge, []))) == ["NO_SPACE"]
        half = [Offer(b"x", 2**27), Offer(b"y", 2**27), Offer(b"z", 2**27)]
        assert codes(run(pair, one.offer(half, [])))[2] == "NO_SPACE"
