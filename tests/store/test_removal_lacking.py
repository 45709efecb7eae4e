"""
Removing where a system lacks something: rights, leases, room, system calls.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from realize.errors import DiskError, NotSettled, SourceChanged
from realize.model import Removed
from realize.store import hidden
from realize.store.filesystem import FileSystem
from realize.store.guard import Guard
from realize.store.listing import Walk
from realize.store.refusals import refusal
from realize.store.removal import Remover
from realize.store.root import Root
from tests.support.changing import truncate
from tests.support.files import as_nobody, in_a_minute, names_below
from tests.support.fuse.mounting import mount, needs_fuse
from tests.support.fuse.switches import ALWAYS, Fault, Switches
from tests.support.removing import (
    CONTENT,
    Meddling,
    Warnings,
    hides,
    one,
    removal,
    remove,
    step,
    whole,
)
from tests.support.requirements import needs


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
@pytest.mark.parametrize("words", [["hide", "unlink"], ["hide", "restore"]])
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
            assert one(remover, step(item, word)).found
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


def test_clock_of_a_server(tree, root, file):
    """
    The times of a file are of the server's clock.  If that is behind ours a file that
    was just written seems to have settled; what was just made there tells.
    """

    def on_a_server(_device, fd):
        return evolve(FileSystem.of(fd), leases=False)

    reasons = []
    guard = Guard(30 * 10**9, reasons.append, in_a_minute, on_a_server)
    with root.directory(b"") as directory:
        item = removal(tree, file)
        os.close(guard.open(directory, b"file", b"file", item.identity))
    with pytest.raises(NotSettled):
        one(Remover(root, guard, Warnings()), item)
    assert names_below(tree) == {"file"}


@pytest.fixture
def no_inodes(public):
    """
    A file system with two files, and room for no more.
    """
    command = ["mount", "-t", "tmpfs", "-o", "nr_inodes=3", "none", public]
    subprocess.run(command, check=True)
    for name in ("a", "b"):
        (public / name).write_bytes(CONTENT)
    yield public
    subprocess.run(["umount", public], check=True)


@needs(root=True)
def test_full_disk(no_inodes):
    """
    Where there is no room for a hidden directory, files are hidden without, or emptying
    a full disk would be impossible.
    """
    root = Root.open(no_inodes)
    remover = Remover(root, Meddling(), Warnings())
    changed = removal(no_inodes, no_inodes / "b")
    truncate(no_inodes / "b")
    answers = remove(remover, [removal(no_inodes, no_inodes / "a"), changed])
    assert answers[0] == Removed()
    assert isinstance(answers[1].error, SourceChanged)
    assert names_below(no_inodes) == {"b"}
    root.close()


@needs(root=True)
def test_full_disk_and_a_new_version(no_inodes):
    """
    It has the name, and stays.
    """
    root = Root.open(no_inodes)
    remover = Remover(root, Meddling(), Warnings())
    item = removal(no_inodes, no_inodes / "a")
    assert hides(remover, item)
    (no_inodes / "b").rename(no_inodes / "a")
    assert one(remover, step(item, "unlink")) == Removed()
    assert names_below(no_inodes) == {"a"}
    root.close()


@needs(root=True)
@pytest.mark.parametrize("crashed", [False, True])
def test_hidden_on_a_full_disk(no_inodes, crashed):
    """
    No listing shows it while somebody holds it, and the next one puts it back after a
    crash; a dry run tells of it.
    """
    root = Root.open(no_inodes)
    remover = Remover(root, Meddling(), Warnings())
    assert hides(remover, removal(no_inodes, no_inodes / "a"))
    if crashed:
        (waiting,) = remover._waiting.values()
        waiting.let_go()  # as the end of a process does
        waiting.group.place.give_up()
        remover._waiting.clear()
    page = Walk(root, restore=False).page()
    assert [file.path for file in page.files] == [b"b"]
    assert [(each.path, each.kind) for each in page.notices] == (
        [(b"a", "hidden")] if crashed else []
    )
    files = {file.path for file in Walk(root).page().files}
    assert files == ({b"a", b"b"} if crashed else {b"b"})
    remover.close()
    assert names_below(no_inodes) == {"a", "b"}
    root.close()


SCRIPT = """
import sys
from pathlib import Path
from realize.store.root import Root
from realize.store.refusals import refusal
from realize.store.removal import Remover
from tests.support.removing import Meddling, Warnings, one, removal, step

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


@needs_fuse
@pytest.mark.parametrize("call", ["unlink", "open"])
def test_a_file_that_is_said_to_be_gone(tmp_path, call):
    """
    And is still there: it has not been removed, and is put back.
    """
    with mount(tmp_path / "fs") as there:
        file = there.root / "file"
        file.write_bytes(CONTENT)
        root = Root.open(there.root)
        remover = Remover(root, Meddling(), Warnings())
        item = removal(there.root, file)
        assert hides(remover, item)
        there.fail(Fault(call=call, error="ENOENT", times=ALWAYS))
        with pytest.raises(DiskError, match="was not removed"):
            one(remover, step(item, "unlink"))
        there.fail()
        assert names_below(there.below) == {"file"}
        remover.close()
        root.close()


@needs_fuse
def test_removed_and_still_there(tmp_path):
    """
    Where the answer is not believed, a look decides; it is found out beforehand too.
    """
    with mount(tmp_path / "fs", Switches(unlink="ignored")) as there:
        file = there.root / "file"
        file.write_bytes(CONTENT)
        root = Root.open(there.root)
        remover = Remover(root, Meddling(), Warnings())
        with pytest.raises(DiskError, match="was not removed"):
            whole(remover, removal(there.root, file))
        assert names_below(there.below) == {"file"}
        remover.close()
        with root.directory(b"") as directory:
            assert "keeps it" in refusal(directory, root.filesystem(directory))
        root.close()


@needs("strace")
@pytest.mark.parametrize(
    ("fault", "words", "left", "lacks"),
    [
        ("renameat2:error=EINVAL", "hide unlink", set(), []),
        ("renameat2:error=ENOSYS", "hide restore", {"file"}, []),
        ("renameat2,linkat:error=EPERM", "hide", {"file"}, None),
        ("linkat:error=EPERM", "hide restore", {"file"}, []),
        ("flock:error=ENOLCK", "hide unlink", set(), []),
        ("flock:error=ENOLCK", "hide restore", {"file"}, []),
        ("mkdir,mkdirat:error=EACCES", "hide", {"file"}, None),
        ("unlink,unlinkat:error=EPERM:when=1", "hide unlink", {"file"}, None),
        ("fsync:error=EIO", "hide unlink", set(), ["syncing"]),
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


@pytest.mark.parametrize("last", ["unlink", "restore"])
def test_hidden_directory_on_another_disk(tree, remover, file, monkeypatch, last):
    """
    As in a union of directories: the file is hidden beside its name.
    """
    real = hidden.rename_noreplace

    def rename(from_directory, from_name, to_directory, to_name):
        if not os.path.samestat(os.fstat(from_directory), os.fstat(to_directory)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(from_directory, from_name, to_directory, to_name)

    monkeypatch.setattr(hidden, "rename_noreplace", rename)
    item = removal(tree, file, "hide")
    assert isinstance(one(remover, item), Removed)
    assert "file" not in names_below(tree)
    assert one(remover, step(item, last)) == Removed()
    assert names_below(tree) == ({"file"} if last == "restore" else set())
