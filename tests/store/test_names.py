"""
What names lead to, and how finished files get theirs.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from realize.conflicts import Conflicts
from realize.errors import AlreadyExists, NameTaken, NoSuchFile
from realize.model import Offer
from realize.store import names as names_module
from realize.store.names import Naming, find, unlink
from realize.store.partial import Partial
from realize.store.replaced import Replaced
from realize.store.spelling import Shown
from tests.support.fuse.mounting import mount, needs_fuse
from tests.support.fuse.switches import Fault, Switches
from tests.support.putting import Putting, codes, contents, finish_of

PARTIAL = b".x.realize-part"


@pytest.fixture
def directory(tree: Path) -> Iterator[int]:
    """
    Descriptor of *tree*.
    """
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def partial(directory: int) -> Iterator[Partial]:
    """
    A partial with its whole content.
    """
    partial = Partial.begin(directory, PARTIAL)
    partial.write(0, memoryview(b"whole"))
    yield partial
    partial.close()


def swap(tree: Path) -> int:
    """
    Delete the partial, and begin another one.

    :returns: its descriptor.
    """
    name = tree / os.fsdecode(PARTIAL)
    name.unlink()
    fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"begin")
    return fd


class Swapping(Replaced):
    """
    Swaps the partial between the look at it and its rename.
    """

    def __init__(self, tree: Path, locked: bool) -> None:
        super().__init__()
        self.fd = -1
        self._tree, self._locked = tree, locked

    def hold(self, directory: int, name: bytes) -> None:
        """
        The last thing before the rename.
        """
        self.fd = swap(self._tree)
        if self._locked:
            fcntl.flock(self.fd, fcntl.LOCK_EX)


def test_find(tree, directory, partial):
    """
    The file itself, not another of the same name, and nothing where there is none.
    """
    found = find(directory, PARTIAL, partial.fd)
    assert found is not None
    assert found.certain
    assert found.status.st_size == 5
    os.close(swap(tree))
    assert find(directory, PARTIAL, partial.fd) is None
    (tree / os.fsdecode(PARTIAL)).unlink()
    assert find(directory, PARTIAL, partial.fd) is None


def test_only_itself_is_deleted(tree, directory, partial):
    """
    A file that somebody put under the name stays.
    """
    os.close(swap(tree))
    unlink(directory, PARTIAL, partial.fd)
    partial.discard(directory)
    assert contents(tree) == {os.fsdecode(PARTIAL): b"begin"}


@pytest.mark.parametrize("taken", [False, True])
def test_partial_that_was_swapped(tree, taken):
    """
    Does not get the name of the file; who began it goes on.
    """
    putting = Putting(tree)
    putting.send({b"x": b"whole"})
    if taken:
        (tree / "x").write_bytes(b"old")
    os.close(swap(tree))
    (result,) = putting.finish(finish_of(b"x", b"whole"))
    assert result.code == "NO_SUCH_FILE"
    assert "took its partial away" in result.text
    there = {"x": b"old"} if taken else {}
    assert contents(tree) == {os.fsdecode(PARTIAL): b"begin", **there}
    putting.close()


def test_discarding_a_partial_that_was_swapped(tree):
    """
    What is found to be wrong is not deleted under the name of another's.
    """
    putting = Putting(tree)
    putting.send({b"x": b"whole"})
    os.close(swap(tree))
    assert codes(putting.finish(finish_of(b"x", b"other"))) == ["DIGEST_MISMATCH"]
    assert contents(tree) == {os.fsdecode(PARTIAL): b"begin"}
    putting.close()


def test_swapped_just_before_the_rename(tree, directory, partial):
    """
    Another's partial that was renamed, and is being written, gets its name back.
    """
    (tree / "x").write_bytes(b"old")
    replaced = Swapping(tree, locked=True)
    with pytest.raises(NoSuchFile, match="leads to another file"):
        Naming(directory, Conflicts("replace"), replaced).give(
            partial.fd, PARTIAL, b"x", b"x"
        )
    assert contents(tree) == {os.fsdecode(PARTIAL): b"begin"}
    assert find(directory, PARTIAL, replaced.fd)
    os.close(replaced.fd)


def test_a_file_that_nobody_writes_is_left_where_it_is(tree, directory, partial):
    """
    Its owner may have put it there after the rename; nothing is answered for.
    """
    (tree / "x").write_bytes(b"old")
    replaced = Swapping(tree, locked=False)
    with pytest.raises(NoSuchFile):
        Naming(directory, Conflicts("replace"), replaced).give(
            partial.fd, PARTIAL, b"x", b"x"
        )
    assert contents(tree) == {"x": b"begin"}
    os.close(replaced.fd)


def test_a_name_that_seems_free(tree, directory, partial, monkeypatch):
    """
    Because that is remembered: where two names may be one, what the directory shows
    decides, and the file of the other name stays.
    """

    def unsupported(*names):
        raise OSError(errno.EINVAL, "")

    (tree / "README").write_bytes(b"old")
    monkeypatch.setattr(names_module, "look", lambda directory, name: None)
    monkeypatch.setattr(names_module, "rename_noreplace", unsupported)
    naming = Naming(directory, Conflicts("replace"), Replaced(), Shown(directory))
    with pytest.raises(NameTaken, match="takes README and readme for one name"):
        naming.give(partial.fd, PARTIAL, b"readme", b"readme")
    assert (tree / "README").read_bytes() == b"old"


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_nothing_can_be_promised(tree, directory, partial, monkeypatch, strict, taken):
    """
    Without links and ``RENAME_NOREPLACE`` a free name is given only to those who do not
    need the promise, and one that is taken to nobody.
    """

    def unsupported(*_args):
        raise OSError(errno.EINVAL, "")

    def no_links(*_args, **_more):
        raise PermissionError(errno.EPERM, "")

    if taken:
        (tree / "x").write_bytes(b"old")
    monkeypatch.setattr(names_module, "rename_noreplace", unsupported)
    monkeypatch.setattr(names_module.os, "link", no_links)
    naming = Naming(directory, Conflicts("fail", strict=strict), Replaced())
    if strict or taken:
        with pytest.raises(PermissionError if strict else AlreadyExists):
            naming.give(partial.fd, PARTIAL, b"x", b"x")
        assert (tree / "x").exists() == taken
    else:
        how, _ = naming.give(partial.fd, PARTIAL, b"x", b"x")
        assert how == "written"
    if taken:
        assert (tree / "x").read_bytes() == b"old"


def test_taken_name(tree, directory, partial):
    """
    Gives way only if it may.
    """
    (tree / "x").write_bytes(b"old")
    with pytest.raises(AlreadyExists):
        Naming(directory, Conflicts("fail"), Replaced()).give(
            partial.fd, PARTIAL, b"x", b"x"
        )
    assert (tree / "x").read_bytes() == b"old"
    how, found = Naming(directory, Conflicts("replace"), Replaced()).give(
        partial.fd, PARTIAL, b"x", b"x"
    )
    assert (how, found.status.st_size) == ("replaced", 5)
    assert contents(tree) == {"x": b"whole"}


@needs_fuse
@pytest.mark.parametrize(
    ("switches", "keeps"),
    [
        (Switches(), True),
        (Switches(noreplace="refused"), True),
        (Switches(link="refused"), True),
        (Switches(noreplace="refused", link="refused"), False),
    ],
)
def test_where_nothing_may_give_way(tmp_path, switches, keeps):
    """
    It is found out before anything is sent, and leaves nothing behind.
    """
    with mount(tmp_path / "fs", switches) as there:
        (there.root / "old").write_bytes(b"old")
        putting = Putting(there.root, replace=False)
        assert codes(putting.offer(Offer(b"x", 3))) == ["Held" if keeps else "DISK"]
        assert contents(there.root) == {"old": b"old"}
        if keeps:
            assert codes(putting.offer(Offer(b"old", 5))) == ["ALREADY_EXISTS"]
            assert codes(putting.put({b"x": b"new"})) == ["Finished"]
            assert contents(there.root) == {"old": b"old", "x": b"new"}
        putting.close()


@needs_fuse
@pytest.mark.parametrize("error", ["EIO", "ESTALE", "ENOENT"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_renames_that_fail(tmp_path, error, after, taken):
    """
    What was done is done, whatever was answered; what was not is told of, and can be
    done later.
    """
    with mount(tmp_path / "fs") as there:
        if taken:
            (there.root / "x").write_bytes(b"old")
        there.fail(Fault(call="rename", error=error, after=after))
        putting = Putting(there.root)
        (result,) = putting.put({b"x": b"whole"})
        if after:
            assert codes([result]) == ["Finished"], result
        elif codes([result]) != ["Finished"]:
            there.fail()
            assert codes(putting.put({b"x": b"whole"})) == ["Finished"]
        assert contents(there.root) == {"x": b"whole"}
        putting.close()


@needs_fuse
def test_inode_numbers_that_change(tmp_path):
    """
    What can be read under the name decides.
    """
    with mount(tmp_path / "fs", Switches(inodes="path")) as there:
        putting = Putting(there.root)
        assert codes(putting.put({b"x": b"whole"})) == ["Finished"]
        assert codes(putting.put({b"x": b"newer"})) == ["Finished"]
        assert contents(there.root) == {"x": b"newer"}
        putting.close()
