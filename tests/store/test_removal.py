"""
Removing: the version that was moved and no other, at every moment.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3

from realize.errors import (
    BadRequest,
    DiskError,
    NotSettled,
    PeerError,
    SourceChanged,
    StillOpen,
    UnsafePath,
)
from realize.model import Failure, Removal, Removed
from realize.store.identity import STEP_NS, Guard
from realize.store.listing import Walk
from realize.store.removal import Remover
from realize.store.root import Root
from tests.store.conftest import as_nobody, identity_at, in_a_minute, names_below
from tests.support.requirements import needs

CONTENT = b"hello world"


class Meddling(Guard):
    """
    A guard that lets something happen to a file after its first look at it, and again
    just before its last.
    """

    def __init__(self):
        super().__init__(0, lambda reason: None, in_a_minute)
        self.after_open = lambda: None
        self.before_last_look = lambda: None

    def open_leased(self, *args, **options):
        """
        Open, and then it happens.
        """
        result = super().open_leased(*args, **options)
        self.after_open()
        return result

    def is_unbroken(self, fd):
        """
        It happens, and then look.
        """
        self.before_last_look()
        return super().is_unbroken(fd)


class Warnings:
    """
    What the remover complained of.
    """

    def __init__(self):
        self.lacks = []

    def __call__(self, lack, reason):
        """
        Note it.
        """
        self.lacks.append((lack, reason))


@pytest.fixture
def guard():
    """
    Does nothing, unless told to.
    """
    return Meddling()


@pytest.fixture
def warnings():
    """
    None yet.
    """
    return Warnings()


@pytest.fixture
def remover(root, guard, warnings):
    """
    A remover below *tree*.
    """
    remover = Remover(root, guard, warnings)
    yield remover
    remover.close()


@pytest.fixture
def file(tree):
    """
    A file to remove.
    """
    path = tree / "file"
    path.write_bytes(CONTENT)
    time.sleep(STEP_NS / 1e9)  # older kernels' clocks move in steps
    return path


def removal(tree, path, step="now"):
    """
    What removes the file that is there now.
    """
    name = os.fsencode(path.relative_to(tree))
    return Removal(name, identity_at(path), blake3(CONTENT).digest(), step)


def one(remover, item, prune=False):
    """
    The answer for one file, or the error.
    """
    (answer,) = remover.remove([item], prune)
    if isinstance(answer, Failure):
        raise answer.error
    return answer


def step(item, word):
    """
    Another step of the same removal.
    """
    return Removal(item.path, item.identity, item.digest, word)


def descriptors():
    """
    How many this process has.
    """
    return len(os.listdir("/proc/self/fd"))


def test_removes(tree, remover):
    """
    Files of several directories, in one batch, and nothing else.
    """
    paths = [tree / name for name in ("a", "sub/b", "sub/c", "d", "sub/deep/e")]
    (tree / "sub/deep").mkdir(parents=True)
    for path in (*paths, tree / "other"):
        path.write_bytes(CONTENT)
    before = descriptors()
    answers = remover.remove([removal(tree, path) for path in paths], False)
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
    assert one(remover, removal(tree, path)) == Removed()
    assert names_below(tree) == set()


def test_gone_already(tree, remover, file):
    """
    As after an answer that was lost: the file, or the directory with it.
    """
    item = removal(tree, file)
    assert one(remover, item) == Removed()
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


# -- every moment at which a file may change


def append(path):
    """
    Somebody goes on writing.
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    os.write(fd, b"!")
    os.close(fd)


def overwrite(path):
    """
    The same length, and the old time of modification.
    """
    status = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def truncate(path):
    """
    Shorter.
    """
    os.truncate(path, 3)


def replace(path):
    """
    Another file of the same size and time.
    """
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


CHANGES = [append, overwrite, truncate, replace]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("word", ["now", "hide"])
def test_changed_before(tree, remover, file, change, word):
    """
    Since it was read: it stays, as it is now.
    """
    item = removal(tree, file, word)
    change(file)
    content = file.read_bytes()
    with pytest.raises(SourceChanged):
        one(remover, item)
    assert file.read_bytes() == content
    assert names_below(tree) == {"file"}


@pytest.mark.parametrize("word", ["now", "hide"])
def test_replaced_between_check_and_hiding(tree, remover, guard, file, word):
    """
    Another file under its name is put back.
    """
    guard.after_open = lambda: replace(file)
    with pytest.raises(SourceChanged):
        one(remover, removal(tree, file, word))
    assert file.read_bytes() == CONTENT[::-1]
    assert names_below(tree) == {"file"}


@pytest.mark.parametrize("word", ["now", "hide"])
def test_touched_between_check_and_hiding(tree, remover, guard, file, word):
    """
    So is the same file with another time.
    """
    guard.after_open = lambda: os.utime(file, ns=(1, 1))
    with pytest.raises(SourceChanged):
        one(remover, removal(tree, file, word))
    assert file.read_bytes() == CONTENT


def test_removed_between_check_and_hiding(tree, remover, guard, file):
    """
    Somebody else was faster.
    """
    guard.after_open = file.unlink
    assert one(remover, removal(tree, file)) == Removed(found=False)
    assert names_below(tree) == set()


@pytest.mark.parametrize("moment", ["after_open", "before_last_look"])
@pytest.mark.parametrize("word", ["now", "hide"])
def test_opened_for_writing_meanwhile(tree, remover, guard, file, moment, word):
    """
    Somebody asked for it while we held the lease: they get it, and it stays.
    """

    def open_for_writing():
        (path,) = tree.rglob("file")
        with pytest.raises(BlockingIOError):
            os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    setattr(guard, moment, open_for_writing)
    with pytest.raises(StillOpen):
        one(remover, removal(tree, file, word))
    assert names_below(tree) == {"file"}
    append(file)


@pytest.mark.parametrize("word", ["now", "hide"])
def test_open_for_writing(tree, remover, file, word):
    """
    Somebody may still write, though nothing has changed.
    """
    with file.open("ab"), pytest.raises(StillOpen):
        one(remover, removal(tree, file, word))
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
    answers = remover.remove(items, False)
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
    assert remover.remove(items, False) == [Removed()] * 3
    assert names_below(tree) == set()


# -- in two steps


@pytest.fixture
def hidden(tree, remover, file):
    """
    A removal whose file is hidden.
    """
    item = removal(tree, file, "hide")
    assert one(remover, item) == Removed()
    return item


def test_hides(tree, remover, hidden, root):
    """
    Nobody sees it, a listing neither; hiding again changes nothing.
    """
    assert not (tree / "file").exists()
    assert Walk(root).page().files == []
    assert one(remover, hidden) == Removed()
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
    assert one(remover, removal(tree, tree / "file")) == Removed()


def test_hidden_until_all_are_done(tree, remover):
    """
    One hidden directory for a batch; it goes with the last of its files.
    """
    paths = [tree / name for name in "abc"]
    for path in paths:
        path.write_bytes(CONTENT)
    items = [removal(tree, path, "hide") for path in paths]
    assert remover.remove(items, False) == [Removed()] * 3
    assert len(list(tree.iterdir())) == 1
    answers = remover.remove(
        [step(items[0], "unlink"), step(items[1], "restore")], False
    )
    assert answers == [Removed()] * 2
    assert len(list(tree.iterdir())) == 2
    assert one(remover, step(items[2], "unlink")) == Removed()
    assert names_below(tree) == {"b"}


@pytest.mark.parametrize("change", [append, overwrite, truncate])
def test_changed_while_hidden(tree, remover, hidden, change):
    """
    Somebody found it nevertheless: it goes back.
    """
    time.sleep(STEP_NS / 1e9)
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
    assert one(remover, item) == Removed()
    (tree / "sub").rename(tree / "other")
    remover.close()
    assert names_below(tree) == {"other", "other/file"}


def test_crash_while_hidden(tree, remover, hidden, root):
    """
    As long as the process lives the file is ours; once it is dead, the next listing
    has it again.
    """
    (group,) = {waiting.group for waiting in remover._waiting.values()}
    assert Walk(root).page().files == []
    os.close(group.hidden.fd)  # as the end of a process does
    remover._waiting.clear()
    (file,) = Walk(root).page().files
    assert file.path == b"file"
    assert names_below(tree) == {"file"}


# -- directories


def test_prunes(tree, remover):
    """
    Directories that became empty, and their parents; not those that hold anything.
    """
    for name in ("a/b/c/file", "a/other/x", "d/e/file", "d/e/second"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(CONTENT)
    items = [
        removal(tree, tree / name) for name in ("a/b/c/file", "d/e/file", "d/e/second")
    ]
    assert remover.remove(items, True) == [Removed()] * 3
    assert names_below(tree) == {"a", "a/other", "a/other/x"}


def test_never_prunes_the_root(tree):
    """
    Nor anything above it.
    """
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_bytes(CONTENT)
    root = Root.open(tree, b"a")
    remover = Remover(root, Meddling(), Warnings())
    assert one(remover, removal(tree / "a", tree / "a/b/file"), prune=True) == Removed()
    assert names_below(tree) == {"a"}
    remover.close()
    root.close()


def test_does_not_prune_unless_asked(tree, remover):
    """
    Drop boxes have owners.
    """
    (tree / "a").mkdir()
    (tree / "a/file").write_bytes(CONTENT)
    one(remover, removal(tree, tree / "a/file"))
    assert names_below(tree) == {"a"}


def test_does_not_prune_for_a_file_that_stays(tree, remover, file):
    """
    Only what the move emptied.
    """
    (tree / "a").mkdir()
    (tree / "a/file").write_bytes(CONTENT)
    item = removal(tree, tree / "a/file")
    (tree / "a/file").write_bytes(b"other")
    with pytest.raises(SourceChanged):
        one(remover, item, prune=True)
    assert (tree / "a/file").exists()


def test_prunes_again(tree, remover):
    """
    After an answer that was lost the directory may still be there, or have gone.
    """
    (tree / "a/b").mkdir(parents=True)
    item = Removal(b"a/b/file", bytes(40), bytes(32))
    for _ in range(2):
        assert one(remover, item, prune=True) == Removed(found=False)
        assert names_below(tree) == set()


def test_prunes_after_the_second_step(tree, remover):
    """
    Not while the file is only hidden.
    """
    (tree / "a").mkdir()
    (tree / "a/file").write_bytes(CONTENT)
    item = removal(tree, tree / "a/file", "hide")
    one(remover, item, prune=True)
    assert len(names_below(tree)) == 3
    one(remover, step(item, "unlink"), prune=True)
    assert names_below(tree) == set()


# -- what a system may not be able to do


@needs(root=True)
def test_no_permission(public):
    """
    The file stays, and the reason is told.
    """
    (public / "file").write_bytes(CONTENT)
    public.chmod(0o755)
    root = Root.open(public)
    remover = Remover(root, Meddling(), Warnings())
    item = removal(public, public / "file")
    with as_nobody(), pytest.raises(DiskError, match="Permission denied"):
        one(remover, item)
    assert names_below(public) == {"file"}
    root.close()


@needs(root=True)
@pytest.mark.parametrize("words", [["now"], ["hide", "unlink"], ["hide", "restore"]])
def test_without_leases(public, words):
    """
    Files of another user, which settled: the other checks do without a lease.
    """
    (public / "file").write_bytes(CONTENT)
    root = Root.open(public)
    reasons = []
    now = in_a_minute
    remover = Remover(root, Guard(30 * 10**9, reasons.append, now), Warnings())
    item = removal(public, public / "file")
    with as_nobody():
        for word in words:
            assert one(remover, step(item, word)) == Removed()
    left = {"file"} if words[-1] == "restore" else set()
    assert names_below(public) == left
    assert reasons
    root.close()


@needs(root=True)
def test_without_leases_and_not_settled(public):
    """
    Then it stays.
    """
    (public / "file").write_bytes(CONTENT)
    root = Root.open(public)
    remover = Remover(root, Guard(30 * 10**9, lambda reason: None), Warnings())
    item = removal(public, public / "file")
    with as_nobody(), pytest.raises(NotSettled):
        one(remover, item)
    assert names_below(public) == {"file"}
    root.close()


@needs(root=True)
def test_full_disk(public):
    """
    Where there is no room for a hidden directory, files are removed without, or
    emptying a full disk would be impossible; that is told.
    """
    command = ["mount", "-t", "tmpfs", "-o", "nr_inodes=3", "none", public]
    subprocess.run(command, check=True)
    try:
        for name in ("a", "b"):
            (public / name).write_bytes(CONTENT)
        root, warnings = Root.open(public), Warnings()
        remover = Remover(root, Meddling(), warnings)
        hide = removal(public, public / "a", "hide")
        with pytest.raises(DiskError, match="cannot be hidden"):
            one(remover, hide)
        changed = removal(public, public / "b")
        truncate(public / "b")
        answers = remover.remove([step(hide, "now"), changed], False)
        assert answers[0] == Removed()
        assert isinstance(answers[1].error, SourceChanged)
        assert names_below(public) == {"b"}
        assert set(warnings.lacks) == {("hiding", os.strerror(errno.ENOSPC))}
        root.close()
    finally:
        subprocess.run(["umount", public], check=True)


SCRIPT = """
import sys
from pathlib import Path
from realize.store.root import Root
from realize.store.removal import Remover
from tests.store.test_removal import Meddling, Warnings, one, removal, step

tree, words = Path(sys.argv[1]), sys.argv[2:]
warnings = Warnings()
remover = Remover(Root.open(tree), Meddling(), warnings)
item = removal(tree, tree / "file")
for word in words:
    print(word, one(remover, step(item, word)).found)
print([lack for lack, _reason in warnings.lacks])
"""


def with_fault(fault, tree, *words):
    """
    Remove a file, with a fault injected into system calls.
    """
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}"]
    return subprocess.run(
        [*strace, sys.executable, "-c", SCRIPT, tree, *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@needs("strace")
@pytest.mark.parametrize(
    ("fault", "words", "left", "lacks"),
    [
        ("renameat2:error=EINVAL", "now", set(), []),
        ("renameat2:error=EINVAL", "hide unlink", set(), []),
        ("renameat2:error=ENOSYS", "hide restore", {"file"}, []),
        ("renameat2,linkat:error=EPERM", "now", {"file"}, None),
        ("linkat:error=EPERM", "hide restore", {"file"}, []),
        ("flock:error=ENOLCK", "now", set(), ["hiding"]),
        ("flock:error=ENOLCK", "hide", {"file"}, None),
        ("mkdir,mkdirat:error=EACCES", "now", {"file"}, None),
        ("unlink,unlinkat:error=EPERM:when=1", "now", {"file"}, None),
        ("fsync:error=EIO", "now", set(), ["syncing"]),
    ],
)
def test_systems_that_lack_something(tree, file, fault, words, left, lacks):
    """
    Each with a fault injected into the system calls: what can be done is done, the
    rest is told, and the file is there or gone, but nowhere else.
    """
    ended = with_fault(fault, tree, *words.split())
    assert names_below(tree) == left
    if lacks is None:
        assert "DiskError" in ended.stderr
    else:
        done = [f"{word} True" for word in words.split()]
        assert ended.stdout.splitlines() == [*done, str(lacks)], ended.stderr


@needs("strace")
def test_put_back_without_links(tree, file):
    """
    Where neither a rename nor a link can promise not to replace, the file comes back
    under a name that nobody else has.
    """
    fault = "renameat2,link,linkat:error=EINVAL"
    ended = with_fault(fault, tree, "hide", "restore")
    (kept,) = names_below(tree)
    assert kept.startswith("file.realize-kept-")
    assert kept in ended.stderr
    assert (tree / kept).read_bytes() == CONTENT


def test_errors_tell_no_paths_of_the_host(tree, remover, file):
    """
    No path of the host in what is told.
    """
    item = removal(tree, file)
    truncate(file)
    with pytest.raises(PeerError) as caught:
        one(remover, item)
    assert str(tree) not in str(caught.value)
