"""
Removing: the version that was moved and no other, at every moment.
"""

from __future__ import annotations

import os

import pytest
from blake3 import blake3

from realize.errors import BadRequest, PeerError, SourceChanged, StillOpen, UnsafePath
from realize.model import Failure, Removal, Removed
from tests.support.changing import append, overwrite, replace, truncate
from tests.support.files import descriptors, names_below
from tests.support.removing import CONTENT, one, removal, remove, step, whole


def test_removes(tree, remover):
    """
    Files of several directories, in one batch, and nothing else.
    """
    paths = [tree / name for name in ("a", "sub/b", "sub/c", "d", "sub/deep/e")]
    (tree / "sub/deep").mkdir(parents=True)
    for path in (*paths, tree / "other"):
        path.write_bytes(CONTENT)
    before = descriptors()
    answers = remove(remover, [removal(tree, path) for path in paths])
    assert answers == [Removed()] * 5
    assert names_below(tree) == {"other", "sub", "sub/deep"}
    assert descriptors() <= before + 3


@pytest.mark.parametrize(
    "name", [b"x" * 255, b"\xff\xfe", b"new\nline", b"{}", b"-rf", b"\x1b[31m"]
)
def test_awkward_names(tree, remover, name):
    """
    Names are bytes.
    """
    path = tree / os.fsdecode(name)
    path.write_bytes(CONTENT)
    assert whole(remover, removal(tree, path)) == Removed()
    assert names_below(tree) == set()


def test_gone_already(tree, remover, file):
    """
    As after an answer that was lost: the file, or the directory with it.
    """
    item = removal(tree, file)
    assert whole(remover, item) == Removed()
    assert one(remover, item) == Removed(found=False)
    below = Removal(b"none/file", item.identity, item.digest)
    assert one(remover, below) == Removed(found=False)
    assert one(remover, step(item, "unlink")) == Removed(found=False)
    assert one(remover, step(item, "restore")) == Removed(found=False)
    assert names_below(tree) == set()


@pytest.mark.parametrize("path", [b"../x", b"/etc/passwd", b"a/../b", b"", b"a\0"])
def test_refuses_names(remover, path):
    """
    What is not canonical.
    """
    with pytest.raises(UnsafePath):
        one(remover, Removal(path, bytes(40), bytes(32)))


def test_not_through_a_link(tree, remover, file):
    """
    A directory that became a symbolic link is not the directory that was listed.
    """
    (tree / "sub").symlink_to(tree)
    item = removal(tree, file)
    with pytest.raises(UnsafePath):
        one(remover, Removal(b"sub/file", item.identity, item.digest))
    assert file.exists()


def test_needs_a_digest(tree, remover, file):
    """
    Whoever removes must know what was moved.
    """
    item = removal(tree, file)
    for digest in (b"", bytes(31)):
        with pytest.raises(BadRequest):
            one(remover, Removal(item.path, item.identity, digest))
    with pytest.raises(BadRequest):
        one(remover, Removal(item.path, b"", item.digest))
    assert file.exists()


CHANGES = [append, overwrite, truncate, replace]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_before(tree, remover, file, change):
    """
    Since it was read: it stays, as it is now.
    """
    item = removal(tree, file)
    change(file)
    content = file.read_bytes()
    with pytest.raises(SourceChanged):
        one(remover, item)
    assert file.read_bytes() == content
    assert names_below(tree) == {"file"}


def test_replaced_between_check_and_hiding(tree, remover, guard, file):
    """
    Another file under its name is put back.
    """
    guard.after_open = lambda: replace(file)
    with pytest.raises(SourceChanged):
        one(remover, removal(tree, file))
    assert file.read_bytes() == CONTENT[::-1]
    assert names_below(tree) == {"file"}


def test_touched_between_check_and_hiding(tree, remover, guard, file):
    """
    So is the same file with another time.
    """
    guard.after_open = lambda: os.utime(file, ns=(1, 1))
    with pytest.raises(SourceChanged):
        one(remover, removal(tree, file))
    assert file.read_bytes() == CONTENT


def test_removed_between_check_and_hiding(tree, remover, guard, file):
    """
    Somebody else was faster.
    """
    guard.after_open = file.unlink
    assert one(remover, removal(tree, file)) == Removed(found=False)
    assert names_below(tree) == set()


@pytest.mark.parametrize("moment", ["after_open", "before_last_look"])
def test_opened_for_writing_meanwhile(tree, remover, guard, file, moment):
    """
    Somebody asked for it while we held the lease: they get it, and it stays.
    """

    def open_for_writing():
        (path,) = tree.rglob("file")
        with pytest.raises(BlockingIOError):
            os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    setattr(guard, moment, open_for_writing)
    with pytest.raises(StillOpen):
        one(remover, removal(tree, file))
    assert names_below(tree) == {"file"}
    append(file)


def test_open_for_writing(tree, remover, file):
    """
    Somebody may still write, though nothing has changed.
    """
    with file.open("ab"), pytest.raises(StillOpen):
        one(remover, removal(tree, file))
    assert names_below(tree) == {"file"}


def test_name_taken_while_it_is_put_back(tree, remover, guard, file):
    """
    Both stay: the new file under the name, ours under one that is told.
    """

    def meanwhile():
        file.write_bytes(b"new")
        os.utime(next(tree.glob(".realize-moved-*/file")), ns=(1, 1))
        with pytest.raises(BlockingIOError):
            os.open(next(tree.glob(".*/file")), os.O_WRONLY | os.O_NONBLOCK)

    guard.before_last_look = meanwhile
    with pytest.raises(StillOpen, match=r"kept as file\.realize-kept-") as caught:
        one(remover, removal(tree, file))
    assert file.read_bytes() == b"new"
    (kept,) = names_below(tree) - {"file"}
    assert (tree / kept).read_bytes() == CONTENT
    assert kept in str(caught.value)


def test_one_of_a_batch_changed(tree, remover):
    """
    The others go, and the hidden directory with them.
    """
    paths = [tree / name for name in "abc"]
    for path in paths:
        path.write_bytes(CONTENT)
    items = [removal(tree, path) for path in paths]
    truncate(tree / "b")
    answers = remove(remover, items)
    assert [type(answer) for answer in answers] == [Removed, Failure, Removed]
    assert names_below(tree) == {"b"}


def test_hard_links(tree, remover):
    """
    All names of one file go, though the removal of each changes the others.
    """
    names = ["a", "b", "c"]
    (tree / "a").write_bytes(CONTENT)
    for name in names[1:]:
        os.link(tree / "a", tree / name)
    items = [removal(tree, tree / name) for name in names]
    assert remove(remover, items) == [Removed()] * 3
    assert remover._versions == {}
    assert names_below(tree) == set()


def test_a_hard_link_that_was_read_as_something_else(tree, remover):
    """
    That another name of it has been hidden proves nothing of what was read by this one.
    """
    (tree / "a").write_bytes(CONTENT)
    os.link(tree / "a", tree / "b")
    one_name, other_name = (removal(tree, tree / name) for name in ("a", "b"))
    torn = blake3(b"torn").digest()
    other_name = Removal(other_name.path, other_name.identity, torn)
    assert isinstance(one(remover, one_name), Removed)
    with pytest.raises(SourceChanged):
        one(remover, other_name)
    assert one(remover, step(one_name, "restore")) == Removed()
    assert names_below(tree) == {"a", "b"}


def test_errors_tell_no_paths_of_the_host(tree, remover, file):
    """
    No path of the host in what is told.
    """
    item = removal(tree, file)
    truncate(file)
    with pytest.raises(PeerError) as caught:
        one(remover, item)
    assert str(tree) not in str(caught.value)
