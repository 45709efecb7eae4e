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
from realize.store.filesystem import FileSystem
from realize.store.identity import Guard
from realize.store.removal import Remover
from realize.store.root import Root
from tests.support.changing import truncate
from tests.support.files import as_nobody, in_a_minute, names_below
from tests.support.removing import CONTENT, Meddling, Warnings, one, removal, step
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


@pytest.mark.parametrize("word", ["now", "hide"])
def test_clock_of_a_server(tree, root, file, word):
    """
    The times of a file are of the server's clock.  If that is behind ours a file that
    was just written seems to have settled; what was just made there tells.
    """

    def on_a_server(_device, fd):
        return evolve(FileSystem.of(fd), leases=False)

    reasons = []
    guard = Guard(30 * 10**9, reasons.append, in_a_minute, on_a_server)
    with root.directory(b"") as directory:
        item = removal(tree, file, word)
        os.close(guard.open(directory, b"file", b"file", item.identity))
    with pytest.raises(NotSettled):
        one(Remover(root, guard, Warnings()), item)
    assert names_below(tree) == {"file"}


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
        answers = remover.remove([step(hide, "now"), changed])
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
