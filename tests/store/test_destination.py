"""
What only a destination on a real disk can get wrong.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from realize.accounts import Resource
from realize.errors import DirectoryGone, NameTaken, UnsafePath
from realize.model import Directory, Offer, Piece, Written
from realize.store.incoming import MAX_OFFERED
from tests.support.files import NOBODY, as_nobody
from tests.support.putting import Putting, codes, contents, finish_of
from tests.support.requirements import needs
from tests.support.threads import result_of


@pytest.fixture
def putting(tree: Path) -> Iterator[Putting]:
    """
    A destination on *tree*.
    """
    putting = Putting(tree)
    yield putting
    putting.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """
    A file system of 1 MiB.
    """
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@needs("mount", root=True)
class TestFullDisk:
    """
    The files that don't fit fail, with figures; the others arrive.
    """

    def test_known_before(self, small_disk):
        """
        What was promised to the first files is not there for the next.
        """
        putting = Putting(small_disk)
        size = 400 * 1024
        results = putting.offer(*(Offer(b"%d" % n, size) for n in range(3)))
        assert codes(results) == ["Held", "Held", "NO_SPACE"]
        assert results[2].text == (
            "needs 400 KiB; 1 MiB free, of that 800 KiB promised to other files"
        )
        for name in (b"0", b"1"):
            putting.write(bytes(size), Piece(name, 0, size))
            wanted = finish_of(name, bytes(size))
            assert codes(putting.finish(wanted)) == ["Finished"]
        assert putting.ledger.promised == 0
        assert codes(putting.offer(Offer(b"2", size))) == ["NO_SPACE"]
        assert codes(putting.offer(Offer(b"3", 100 * 1024))) == ["Held"]
        putting.close()

    def test_somebody_else_fills_it(self, small_disk):
        """
        After the offer: the partial stays, and goes on once there is room.
        """
        putting = Putting(small_disk)
        size = 600 * 1024
        content = os.urandom(size)
        putting.offer(Offer(b"x", size))
        piece = Piece(b"x", 0, size // 2)
        assert codes(putting.write(content[: size // 2], piece)) == ["Written"]
        (small_disk / "other").write_bytes(bytes(600 * 1024))
        piece = Piece(b"x", size // 2, size // 2)
        results = putting.write(content[size // 2 :], piece)
        assert codes(results) == ["NO_SPACE"]
        assert "No space left" in results[0].text
        assert codes(putting.offer(Offer(b"x", size))) == ["NO_SPACE"]
        (small_disk / "other").unlink()
        (held,) = putting.offer(Offer(b"x", size))
        assert held.partial >= size // 2
        keep = Piece(b"x", size // 2, 0, [finish_of(b"", content[: size // 2]).digest])
        assert putting.write(b"", keep) == [Written(size // 2)]
        putting.write(content[size // 2 :], piece)
        assert codes(putting.finish(finish_of(b"x", content))) == ["Finished"]
        assert contents(small_disk) == {"x": content}
        putting.close()

    def test_resuming_needs_only_the_rest(self, small_disk):
        """
        What a partial holds already is not needed a second time.
        """
        content = os.urandom(900 * 1024)
        (small_disk / ".x.realize-part").write_bytes(content[: 800 * 1024])
        putting = Putting(small_disk)
        assert codes(putting.offer(Offer(b"x", 900 * 1024))) == ["Held"]
        putting.close()

    def test_what_is_there_needs_nothing(self, small_disk):
        """
        A run that only has to find out that all is there can do so on a full disk.
        """
        content = os.urandom(900 * 1024)
        (small_disk / "x").write_bytes(content)
        putting = Putting(small_disk)
        assert codes(putting.offer(Offer(b"x", len(content)))) == ["Held"]
        assert codes(putting.finish(finish_of(b"x", content))) == ["Finished"]
        (small_disk / "x").write_bytes(content)
        putting.offer(Offer(b"x", len(content)))
        results = putting.write(b"new", Piece(b"x", 0, 3))
        assert codes(results) == ["NO_SPACE"]
        left = contents(small_disk)
        assert left.pop("x") == content
        assert set(left.values()) <= {b""}
        putting.close()

    def test_no_room_for_names(self, small_disk):
        """
        Neither for directories.
        """
        subprocess.run(["mount", "-o", "remount,nr_inodes=3", small_disk], check=True)
        putting = Putting(small_disk)
        results = putting.offer(Offer(b"a/b/c/x", 1))
        assert codes(results) == ["NO_SPACE"]
        putting.close()

    def test_dry_run(self, small_disk):
        """
        Says that it would not fit.
        """
        putting = Putting(small_disk)
        offers = [Offer(b"x", 2**21), Offer(b"y", 2**19)]
        results = putting.offer(*offers, reserve=False)
        assert codes(results) == ["NO_SPACE", "Held"]
        assert putting.ledger.promised == 0
        putting.close()


@needs("mount", root=True)
def test_read_only(small_disk):
    """
    Each file fails and says why.
    """
    (small_disk / "x").write_bytes(b"content")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    putting = Putting(small_disk)
    results = putting.offer(Offer(b"y", 3), Offer(b"d/y", 3))
    assert codes(results) == ["Held", "DISK"]
    assert results[1].text == "d: cannot make the directory: Read-only file system"
    results = putting.write(b"new", Piece(b"y", 0, 3))
    assert codes(results) == ["DISK"]
    assert results[0].text == "y: cannot write: Read-only file system"
    putting.close()


@needs(root=True)
def test_without_permission(public):
    """
    A directory in which this program may not write.
    """
    (public / "d").mkdir(mode=0o755)
    with as_nobody():
        putting = Putting(public)
        putting.offer(Offer(b"d/x", 3), Offer(b"x", 3))
        pieces = [Piece(b"d/x", 0, 3), Piece(b"x", 0, 3)]
        results = putting.write(b"newnew", *pieces)
        assert codes(results) == ["DISK", "Written"]
        assert "Permission denied" in results[0].text
        putting.close()
    assert (public / ".x.realize-part").stat().st_uid == NOBODY


class TestSpace:
    """
    Promises end with the files they were made for.
    """

    def test_shrinks_as_bytes_arrive(self, putting):
        """
        What is written is missing from the free space already.
        """
        putting.offer(Offer(b"x", 10))
        assert putting.ledger.promised == 10
        putting.write(b"1234", Piece(b"x", 0, 4))
        assert putting.ledger.promised == 6
        putting.write(b"12", Piece(b"x", 0, 2))
        assert putting.ledger.promised == 8
        putting.finish(finish_of(b"x", b"12" + bytes(8)))
        assert putting.ledger.promised == 0

    def test_offered_again(self, putting):
        """
        The latest size counts.
        """
        for size in (10, 3, 20):
            putting.offer(Offer(b"x", size))
            assert putting.ledger.promised == size
        putting.offer(Offer(b"x", 2**62))
        assert putting.ledger.promised == 0

    def test_holes_of_an_update(self, putting, tree):
        """
        They need no room either, also if the present file is as long.
        """
        (tree / "x").write_bytes(bytes(1000))
        putting.offer(Offer(b"x", 1000, 900))
        putting.write(b"1234", Piece(b"x", 0, 4))
        assert putting.ledger.promised == 96

    def test_failed_write(self, putting):
        """
        Gives its space back, until the file is offered again.
        """
        for holes in (0, 4):
            putting.offer(Offer(b"x", 10, holes))
            putting.write(b"1", Piece(b"x", 0, 1))
            assert codes(putting.write(b"12", Piece(b"x", 9, 2))) == ["BAD_REQUEST"]
            assert putting.ledger.promised == 0
            putting.offer(Offer(b"x", 10, holes))
            assert putting.ledger.promised == 9 - holes

    def test_closing(self, putting):
        """
        Nothing is left promised, whatever state files were in.
        """
        putting.offer(*(Offer(b"%d" % n, 10) for n in range(3)))
        putting.write(b"12345", Piece(b"0", 0, 5))
        putting.write(bytes(20), Piece(b"1", 0, 20))
        putting.close()
        assert putting.ledger.promised == 0

    def test_failed_finish(self, putting):
        """
        Gives its space back too.
        """
        putting.send({b"x": b"content"})
        putting.finish(finish_of(b"x", b"CONTENT"))
        putting.offer(Offer(b"y", 10))
        putting.finish(finish_of(b"y", bytes(10)))
        assert putting.ledger.promised == 0


class TestDescriptors:
    """
    Files under construction are open, but not without bound.
    """

    def test_more_than_are_granted(self, tree):
        """
        What is under construction stays; another has to wait until one is finished.
        """
        putting = Putting(tree, max_open=2)
        putting.offer(*(Offer(name, 2) for name in (b"a", b"b", b"c")))
        for name in (b"a", b"b"):
            assert codes(putting.write(b"1", Piece(name, 0, 1))) == ["Written"]
        assert codes(putting.write(b"1", Piece(b"c", 0, 1))) == ["OVER_SHARE"]
        assert codes(putting.finish(finish_of(b"c", b"12"))) == ["OVER_SHARE"]
        assert codes(putting.write(b"2", Piece(b"a", 1, 1))) == ["Written"]
        assert codes(putting.finish(finish_of(b"a", b"12"))) == ["Finished"]
        assert codes(putting.write(b"1", Piece(b"c", 0, 1))) == ["OVER_SHARE"]
        putting.offer(Offer(b"c", 2))
        assert codes(putting.write(b"12", Piece(b"c", 0, 2))) == ["Written"]
        assert codes(putting.finish(finish_of(b"c", b"12"))) == ["Finished"]
        putting.close()

    def test_one_batch_beyond_the_bound(self, tree):
        """
        What is being written is not put aside: the rest has to wait.
        """
        putting = Putting(tree, max_open=3)
        files = {b"%d" % n: b"%d" % n for n in range(5)}
        results = putting.put(files)
        assert codes(results) == ["Finished"] * 3 + ["OVER_SHARE"] * 2
        assert codes(putting.put(files)) == ["Finished"] * 3 + ["OVER_SHARE"] * 2
        putting.close()

    def test_none_is_left_open(self, tree):
        """
        After finishing, failing, and closing in the middle.
        """
        before = len(os.listdir("/proc/self/fd"))
        putting = Putting(tree)
        putting.put({b"d/%d" % n: b"1" for n in range(20)})
        putting.send({b"x": b"content", b"y": b"content", b"z": b"content"})
        putting.finish(finish_of(b"x", b"other"), finish_of(b"none", b""))
        putting.write(b"beyond!!", Piece(b"y", 7, 8))
        putting.close()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_within_its_share(self, tree):
        """
        Of what the process has, with what else the store keeps open; all of it comes
        back.
        """
        descriptors = Resource("descriptors", "descriptors", 160)
        putting = Putting(tree, descriptors=descriptors.account("a", "1"))
        results = putting.put({b"%d" % n: b"1" for n in range(200)})
        assert codes(results) == ["Finished"] * 88 + ["OVER_SHARE"] * 112
        putting.close()
        assert descriptors.held == 0

    def test_directories_give_way(self, tree):
        """
        Those that are only kept in case they are needed again.
        """
        descriptors = Resource("descriptors", "descriptors", 16)
        putting = Putting(tree, descriptors=descriptors.account("a", "1"))
        for turn in range(10):
            files = {b"%d/%d" % (turn, n): b"1" for n in range(5)}
            assert codes(putting.put(files)) == ["Finished"] * 5
        putting.close()
        assert descriptors.held == 0


class TestModes:
    """
    Permission bits are exactly those that were asked for.
    """

    def test_special_bits_are_dropped(self, putting, tree):
        """
        Nobody gets a set-user-id program by moving files.
        """
        putting.send({b"x": b"content"})
        putting.finish(finish_of(b"x", b"content", 0o7755))
        assert stat.S_IMODE((tree / "x").stat().st_mode) == 0o755

    def test_directories_stay_usable(self, putting, tree):
        """
        A source's directory may be read-only; files have to be put into ours.
        """
        offers, directories = [Offer(b"d/x", 1)], [Directory(b"d", 0o555)]
        result_of(putting.store.offer(offers, directories))
        assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o755

    def test_inherited_group(self, putting, tree):
        """
        A directory whose group is inherited hands that on.
        """
        tree.chmod(0o2775)
        offers, directories = [Offer(b"d/e/x", 1)], [Directory(b"d", 0o750)]
        result_of(putting.store.offer(offers, directories))
        assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o2750
        assert stat.S_IMODE((tree / "d/e").stat().st_mode) == 0o2755


class TestBelow:
    """
    A root below the directory, which may not exist yet.
    """

    def test_made_with_the_first_offer(self, tree):
        """
        Not before, and durable like any directory.
        """
        putting = Putting(tree, below=b"a/b", directory_mode=0o700)
        assert codes(putting.offer(Offer(b"x", 1), reserve=False)) == ["Held"]
        assert contents(tree) == {}
        assert codes(putting.put({b"x": b"1", b"c/y": b"2"})) == ["Finished"] * 2
        assert contents(tree) == {
            "a": None,
            "a/b": None,
            "a/b/c": None,
            "a/b/c/y": b"2",
            "a/b/x": b"1",
        }
        assert stat.S_IMODE((tree / "a").stat().st_mode) == 0o700
        putting.close()

    def test_file_in_its_place(self, tree):
        """
        Nothing can be put below a file, nor through a link.
        """
        (tree / "file").write_bytes(b"")
        (tree / "link").symlink_to("/tmp")
        for below, error in ((b"file", NameTaken), (b"link", UnsafePath)):
            putting = Putting(tree, below=below)
            for reserve in (True, False):
                with pytest.raises(error):
                    putting.offer(Offer(b"x", 1), reserve=reserve)
            putting.close()


def test_marker(tree):
    """
    A directory without its marker is not there.
    """
    (tree / ".mounted").touch()
    putting = Putting(tree, marker=".mounted")
    assert codes(putting.put({b"x": b"1"})) == ["Finished"]
    (tree / ".mounted").unlink()
    with pytest.raises(DirectoryGone):
        putting.offer(Offer(b"y", 1))
    with pytest.raises(DirectoryGone):
        putting.finish(finish_of(b"x", b"1"))
    putting.close()


def test_leftover_of_a_file_that_is_there(putting, tree):
    """
    What an earlier run left is tidied away when the file turns out to be there.
    """
    (tree / "x").write_bytes(b"content")
    (tree / ".x.realize-part").write_bytes(b"cont")
    (held,) = putting.offer(Offer(b"x", 7))
    assert (held.partial, held.present) == (4, 7)
    assert codes(putting.finish(finish_of(b"x", b"other!!"))) == ["DIGEST_MISMATCH"]
    assert len(contents(tree)) == 2
    putting.offer(Offer(b"x", 7))
    assert codes(putting.finish(finish_of(b"x", b"content"))) == ["Finished"]
    assert contents(tree) == {"x": b"content"}


def test_link_in_place_of_the_partial(putting, tree, tmp_path):
    """
    Nothing is written through a planted link.
    """
    (tree / ".x.realize-part").symlink_to(tmp_path / "target")
    assert codes(putting.offer(Offer(b"x", 7))) == ["NAME_TAKEN"]
    putting.offer(Offer(b"y", 7))
    (tree / ".y.realize-part").symlink_to(tmp_path / "target")
    assert codes(putting.write(b"content", Piece(b"y", 0, 7))) == ["NAME_TAKEN"]
    assert not (tmp_path / "target").exists()


def test_directory_swapped_for_a_link(putting, tree, tmp_path):
    """
    After the offer: not followed.
    """
    putting.send({b"d/x": b"content"})
    (tree / "d").rename(tree / "old")
    (tmp_path / "outside").mkdir()
    (tree / "d").symlink_to(tmp_path / "outside")
    assert codes(putting.finish(finish_of(b"d/x", b"content"))) == ["UNSAFE_PATH"]
    putting.offer(Offer(b"d/y", 7))
    assert codes(putting.write(b"content", Piece(b"d/y", 0, 7))) == ["BAD_REQUEST"]
    assert list((tmp_path / "outside").iterdir()) == []


def test_too_many_offers(putting):
    """
    A session that only offers does not fill the memory, nor keep the space: what was
    offered first and not begun is forgotten.
    """
    putting.send({b"begun": b"content"})
    for first in range(0, MAX_OFFERED, 1024):
        putting.offer(*(Offer(b"%d" % n, 1) for n in range(first, first + 1024)))
    assert putting.ledger.promised == MAX_OFFERED - 1
    assert codes(putting.write(b"x", Piece(b"0", 0, 1))) == ["BAD_REQUEST"]
    assert codes(putting.write(b"x", Piece(b"1", 0, 1))) == ["Written"]
    assert codes(putting.finish(finish_of(b"begun", b"content"))) == ["Finished"]
