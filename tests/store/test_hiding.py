"""
Removing in two steps: hidden, and then unlinked or put back.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import contextmanager

import pytest

from realize.errors import Busy, SourceChanged, StillOpen
from realize.model import Removed
from realize.store import removal as removal_module
from realize.store.filesystem import TICK_NS
from realize.store.hidden import HiddenDirectory, HiddenNames
from realize.store.listing import Walk
from realize.store.removal import Remover
from realize.store.root import Root
from tests.support.changing import append, overwrite, truncate
from tests.support.files import as_nobody, descriptors, names_below
from tests.support.removing import (
    CONTENT,
    Meddling,
    Warnings,
    hides,
    one,
    removal,
    step,
    whole,
)
from tests.support.requirements import needs


@pytest.fixture
def hidden(tree, remover, file):
    """
    A removal whose file is hidden.
    """
    item = removal(tree, file, "hide")
    assert hides(remover, item)
    return item


def test_hides(tree, remover, hidden, root):
    """
    Nobody sees it, a listing neither; hiding again changes nothing.
    """
    assert not (tree / "file").exists()
    assert Walk(root).page().files == []
    assert hides(remover, hidden)
    assert len(names_below(tree)) == 2


def test_hide_and_unlink(tree, remover, hidden):
    """
    Gone for good, with the hidden directory.
    """
    before = descriptors()
    assert one(remover, step(hidden, "unlink")) == Removed()
    assert names_below(tree) == set()
    assert descriptors() == before - 1


def test_hide_and_restore(tree, remover, hidden):
    """
    As if nothing had been.
    """
    assert one(remover, step(hidden, "restore")) == Removed()
    assert names_below(tree) == {"file"}
    assert (tree / "file").read_bytes() == CONTENT
    assert whole(remover, removal(tree, tree / "file")) == Removed()


def test_hidden_until_all_are_done(tree, remover):
    """
    One hidden directory for a batch; it goes with the last of its files.
    """
    paths = [tree / name for name in "abc"]
    for path in paths:
        path.write_bytes(CONTENT)
    items = [removal(tree, path, "hide") for path in paths]
    assert all(answer.mark for answer in remover.remove(items))
    assert len(list(tree.iterdir())) == 1
    answers = remover.remove([step(items[0], "unlink"), step(items[1], "restore")])
    assert answers == [Removed()] * 2
    assert len(list(tree.iterdir())) == 2
    assert one(remover, step(items[2], "unlink")) == Removed()
    assert names_below(tree) == {"b"}


@pytest.mark.parametrize("change", [append, overwrite, truncate])
def test_changed_while_hidden(tree, remover, hidden, change):
    """
    Somebody found it nevertheless: it goes back.
    """
    time.sleep(TICK_NS / 1e9)
    change(next(tree.glob(".realize-moved-*/file")))
    with pytest.raises(SourceChanged):
        one(remover, step(hidden, "unlink"))
    assert names_below(tree) == {"file"}


def test_open_for_writing_while_hidden(tree, remover, hidden):
    """
    The same for somebody who may write.
    """
    writer = next(tree.glob(".realize-moved-*/file")).open("ab")
    with writer, pytest.raises(StillOpen):
        one(remover, step(hidden, "unlink"))
    assert names_below(tree) == {"file"}


def test_new_file_while_hidden(tree, remover, hidden):
    """
    It keeps the name, and stays when the hidden one goes.
    """
    (tree / "file").write_bytes(b"new")
    assert one(remover, step(hidden, "unlink")) == Removed()
    assert (tree / "file").read_bytes() == b"new"
    assert names_below(tree) == {"file"}


def test_restored_beside_a_new_file(tree, remover, hidden):
    """
    Both stay, and the answer says so.
    """
    (tree / "file").write_bytes(b"new")
    with pytest.raises(SourceChanged, match="kept as"):
        one(remover, step(hidden, "restore"))
    (kept,) = names_below(tree) - {"file"}
    assert (tree / kept).read_bytes() == CONTENT
    assert (tree / "file").read_bytes() == b"new"


def test_unlink_needs_hide(tree, remover, file):
    """
    The second step alone removes nothing.
    """
    for word in ("unlink", "restore"):
        with pytest.raises(SourceChanged, match="not hidden"):
            one(remover, removal(tree, file, word))
    assert names_below(tree) == {"file"}


def test_close_puts_back(tree, remover, hidden):
    """
    What was hidden is there again, and nothing is left open.
    """
    before = descriptors()
    remover.close()
    assert names_below(tree) == {"file"}
    assert descriptors() == before - 1


def test_close_puts_back_into_a_renamed_directory(tree, remover):
    """
    The file goes where its directory went.
    """
    (tree / "sub").mkdir()
    (tree / "sub/file").write_bytes(CONTENT)
    item = removal(tree, tree / "sub/file", "hide")
    assert hides(remover, item)
    (tree / "sub").rename(tree / "other")
    remover.close()
    assert names_below(tree) == {"other", "other/file"}


@pytest.mark.parametrize("place", [HiddenDirectory, HiddenNames])
def test_not_gone_while_another_hides_it(tree, remover, file, place, monkeypatch):
    """
    Two moves of one source, or a session whose line was cut and the next one: what the
    first has hidden it may put back, so the other must not call it gone.
    """
    monkeypatch.setattr(removal_module, "make_hiding_place", place.make)
    item = removal(tree, file, "hide")
    root = Root.open(tree)
    other = Remover(root, Meddling(), Warnings())
    assert hides(other, item)
    with pytest.raises(Busy):
        one(remover, item)
    other.close()
    root.close()
    assert file.read_bytes() == CONTENT
    file.unlink()
    assert not hides(remover, item)


@needs(root=True)
def test_hidden_directory_may_be_used(public):
    """
    Whatever the umask, and a default ACL, which may take rights in the same way.
    """
    before = os.umask(0o300)
    directory = os.open(public, os.O_RDONLY)
    try:
        with as_nobody():
            place = HiddenDirectory.make(directory)
            assert os.fstat(place.fd).st_mode & 0o777 == 0o700
            place.remove(directory)
    finally:
        os.close(directory)
        os.umask(before)


@contextmanager
def no_descriptors():
    """
    The process may open nothing more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@needs(root=True)
@pytest.mark.parametrize("trouble", [as_nobody, no_descriptors])
def test_what_close_cannot_put_back_the_next_listing_does(public, trouble):
    """
    Also one of the same process, which may live for long.
    """
    public.chmod(0o755)
    (public / "file").write_bytes(CONTENT)
    before = descriptors()
    root = Root.open(public)
    remover = Remover(root, Meddling(), Warnings())
    one(remover, removal(public, public / "file", "hide"))
    with trouble():
        remover.close()
    assert len(names_below(public)) == 2
    (file,) = Walk(root).page().files
    assert file.path == b"file"
    assert names_below(public) == {"file"}
    root.close()
    assert descriptors() == before


def test_crash_while_hidden(tree, remover, hidden, root):
    """
    As long as the process lives the file is ours; once it is dead, the next listing
    has it again.
    """
    (waiting,) = remover._waiting.values()
    assert Walk(root).page().files == []
    waiting.let_go()  # as the end of a process does
    os.close(waiting.group.place.fd)
    remover._waiting.clear()
    (file,) = Walk(root).page().files
    assert file.path == b"file"
    assert names_below(tree) == {"file"}


@pytest.mark.parametrize("change", [None, "content", "time", "mode"])
def test_restored_beside_an_equal_file(tree, remover, hidden, change):
    """
    One that another move has brought back: one of them is enough, if they are equal in
    all that is moved.
    """
    (moved,) = tree.glob(".realize-moved-*/file")
    status = moved.stat()
    content = CONTENT[::-1] if change == "content" else CONTENT
    (tree / "file").write_bytes(content)
    (tree / "file").chmod(0o600 if change == "mode" else status.st_mode & 0o777)
    mtime_ns = status.st_mtime_ns + (change == "time")
    os.utime(tree / "file", ns=(mtime_ns, mtime_ns))
    if change is None:
        assert one(remover, step(hidden, "restore")) == Removed()
        assert names_below(tree) == {"file"}
    else:
        with pytest.raises(SourceChanged, match="kept as"):
            one(remover, step(hidden, "restore"))
        assert len(names_below(tree)) == 2
