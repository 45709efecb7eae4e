"""
The file system of switches does what its switches say; otherwise nothing that is
proven on it would mean anything.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fuse.mounting import Mounted, mount, needs_fuse
from tests.support.fuse.switches import HANG, LOCKS, Fault, Switches

pytestmark = needs_fuse

NOREPLACE = 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """
    One for all tests.
    """
    with mount(tmp_path_factory.mktemp("fuse") / "fs") as mounted:
        yield mounted


@pytest.fixture
def fs(shared: Mounted, request: pytest.FixtureRequest) -> Iterator[Mounted]:
    """
    The same, empty, as the test's marker says.
    """
    subprocess.run(f"rm -rf {shared.below}/*", shell=True, check=True)  # noqa: S602
    shared.fail()
    shared.switch(Switches())
    yield shared
    shared.fail()


def error_of(call: Callable[[], object]) -> str:
    """
    The name of the error that it fails with; empty if it does not.
    """
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def rename_noreplace(old: Path, new: Path) -> None:
    """
    By ``renameat2``.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, bytes(old), -100, bytes(new), NOREPLACE):
        raise OSError(ctypes.get_errno(), "renameat2")


NAMES = [
    (Switches(), "Name", "Name", "name"),
    (Switches(folds=True), "Name", "Name", None),
    (Switches(lowers=True), "Name", "name", None),
    (Switches(normalises="NFD"), "\u00e4", "a\u0308", "a"),
    (Switches(normalises="NFC"), "a\u0308", "\u00e4", "a"),
    (Switches(strips=True), "name. ", "name", "nam"),
]


@pytest.mark.parametrize(("switches", "given", "shown", "other"), NAMES)
def test_names(
    fs: Mounted, switches: Switches, given: str, shown: str, other: str | None
) -> None:
    """
    What is shown for a name; and *other* is another one, or None if ``name`` is not.
    """
    fs.switch(switches)
    (fs.root / given).write_text("content")
    assert os.listdir(fs.root) == os.listdir(fs.below) == [shown]
    assert (fs.root / given).read_text() == "content"
    assert (fs.root / (other or given.swapcase())).exists() == (other is None)


REFUSED = [
    (Switches(forbidden=":"), b"a:b", "EINVAL"),
    (Switches(text=True), b"\xff", "EINVAL"),
    (Switches(longest=3), b"abcd", "ENAMETOOLONG"),
    (Switches(longest=3, unit="characters"), "ääää".encode(), "ENAMETOOLONG"),
    (Switches(longest=3, unit="characters"), "äää".encode(), ""),
    (Switches(longest=3, unit="utf-16"), "🧀🧀".encode(), "ENAMETOOLONG"),
    (Switches(longest=4, unit="utf-16"), "🧀🧀".encode(), ""),
]


@pytest.mark.parametrize(("switches", "name", "error"), REFUSED)
def test_names_that_are_refused(
    fs: Mounted, switches: Switches, name: bytes, error: str
) -> None:
    """
    By the error that the kernel's file systems give.
    """
    fs.switch(switches)
    path = fs.root / os.fsdecode(name)
    assert error_of(path.touch) == error
    assert error_of(path.with_name(f"{path.name}-d").mkdir) in (error, "ENAMETOOLONG")


CALLS = [
    ("noreplace", lambda a, b: rename_noreplace(a, b), "EINVAL"),
    ("link", lambda a, b: os.link(a, b), "EPERM"),
    ("chmod", lambda a, b: a.chmod(0o600), "EPERM"),
    ("utimens", lambda a, b: os.utime(a, (1, 1)), "EPERM"),
    ("unlink", lambda a, b: a.unlink(), "EPERM"),
]


@pytest.mark.parametrize(("name", "call", "error"), CALLS)
def test_calls(
    fs: Mounted, name: str, call: Callable[[Path, Path], object], error: str
) -> None:
    """
    Refused, carried out, or answered as if.
    """
    one, two = fs.root / "one", fs.root / "two"
    one.write_text("x")
    fs.switch(Switches(**{name: "refused"}))
    assert error_of(lambda: call(one, two)) == error
    if name in ("chmod", "utimens", "unlink"):
        fs.switch(Switches(**{name: "ignored"}))
        call(one, two)
        assert one.exists()
        assert one.stat().st_mtime > 1
        assert one.stat().st_mode & 0o777 != 0o600
    fs.switch(Switches())
    call(one, two)
    assert (one.exists(), two.exists()) == {
        "noreplace": (False, True),
        "link": (True, True),
        "unlink": (False, False),
    }.get(name, (True, False))


@pytest.mark.parametrize("how", ["done", "hides", "refused"])
def test_unlink_of_what_is_open(fs: Mounted, how: str) -> None:
    """
    Out of sight; in sight under another name until it is closed; or not at all.
    """
    fs.switch(Switches(unlink=how))  # type: ignore[arg-type]
    folder = fs.root / "folder"
    folder.mkdir()
    path = folder / "file"
    path.write_text("content")
    with path.open() as file:
        assert error_of(path.unlink) == ("EPERM" if how == "refused" else "")
        shown = os.listdir(folder)
        assert file.read() == "content"
        assert os.fstat(file.fileno()).st_nlink == (how == "refused")
    match how:
        case "done":
            assert shown == []
            folder.rmdir()
        case "hides":
            assert [name[:12] for name in shown] == [".fuse_hidden"]
        case _:
            assert shown == ["file"]


@pytest.mark.parametrize(("step", "ctimes"), [(1, True), (2, True), (0, False)])
def test_times(fs: Mounted, step: int, ctimes: bool) -> None:
    """
    Rounded down, when they are shown; no change time but that of modification.
    """
    fs.switch(Switches(step_s=step, ctimes=ctimes))
    (fs.root / "file").touch()
    os.utime(fs.root / "file", ns=(0, 5_500_000_000))
    status = (fs.root / "file").stat()
    assert status.st_mtime_ns == {0: 5_500_000_000, 1: 5 * 10**9, 2: 4 * 10**9}[step]
    if step:
        assert status.st_ctime_ns % (step * 10**9) == 0
    assert (status.st_ctime_ns == status.st_mtime_ns) == (not ctimes)


@pytest.mark.parametrize("inodes", ["stay", "path", "look"])
def test_inodes(fs: Mounted, inodes: str) -> None:
    """
    Whether they survive a look, and a rename.
    """
    fs.switch(Switches(inodes=inodes))  # type: ignore[arg-type]
    (fs.root / "one").touch()
    with (fs.root / "one").open() as file:
        first, second = (os.fstat(file.fileno()).st_ino for _ in range(2))
        (fs.root / "one").rename(fs.root / "two")
        third = os.fstat(file.fileno()).st_ino
    assert (first == second, second == third) == {
        "stay": (True, True),
        "path": (True, False),
        "look": (False, False),
    }[inodes]


def test_caches(tmp_path: Path) -> None:
    """
    Of names, of sizes, and of there being no such name.
    """
    with mount(tmp_path / "fs", Switches(cache_s=60)) as fs:
        _caches(fs)


def _caches(fs: Mounted) -> None:
    (fs.below / "gone").touch()
    (fs.below / "grown").touch()
    for name, there in (("gone", True), ("grown", True), ("come", False)):
        assert (fs.root / name).exists() == there
    (fs.below / "gone").unlink()
    (fs.below / "grown").write_text("x")
    (fs.below / "come").touch()
    assert (fs.root / "gone").exists()
    assert (fs.root / "grown").stat().st_size == 0
    assert not (fs.root / "come").exists()
    fs.switch(Switches())
    (fs.below / "later").touch()
    assert (fs.root / "later").exists()


@pytest.mark.parametrize("after", [False, True])
def test_the_nth_call(fs: Mounted, after: bool) -> None:
    """
    And only for that path; carried out or not.
    """
    for name in ("a", "b", "c"):
        (fs.root / name).touch()
    fs.fail(Fault(call="unlink", error="EIO", first=2, after=after))
    said = [error_of((fs.root / name).unlink) for name in ("a", "b", "c")]
    assert said == ["", "EIO", ""]
    assert (fs.below / "b").exists() == (not after)
    assert len(fs.failed()) == 1
    fs.fail(Fault(call="flush", error="EDQUOT", path="/b"))
    assert error_of((fs.root / "a").touch) == ""
    fd = os.open(fs.root / "b", os.O_WRONLY | os.O_CREAT)
    assert error_of(lambda: os.close(fd)) == "EDQUOT"


CALL_NAMES = {
    "getattr": lambda f: f.stat(),
    "open": lambda f: f.open().close(),
    "create": lambda f: (f.parent / "new").touch(),
    "read": lambda f: f.read_text(),
    "write": lambda f: f.write_text("x"),
    "truncate": lambda f: os.truncate(f, 0),
    "rename": lambda f: f.rename(f.parent / "other"),
    "mkdir": lambda f: (f.parent / "new").mkdir(),
    "readdir": lambda f: os.listdir(f.parent),
    "link": lambda f: os.link(f, f.parent / "other"),
    "chmod": lambda f: f.chmod(0o600),
    "utimens": lambda f: os.utime(f),
    "statfs": lambda f: os.statvfs(f),
}


@pytest.mark.parametrize("name", CALL_NAMES)
def test_each_call_can_fail(fs: Mounted, name: str) -> None:
    """
    Else a fault that is planned would prove nothing.
    """
    (fs.below / "file").write_text("content")
    # The kernel tries again to read what it wanted to have read ahead.
    fs.fail(Fault(call=name, error="EDQUOT", times=5))
    said = error_of(lambda: CALL_NAMES[name](fs.root / "file"))
    # What is read comes by the page cache, which may make another error of it.
    assert said in (("EIO", "EDQUOT") if name == "read" else ("EDQUOT",))


def test_each_sync_can_fail(fs: Mounted) -> None:
    """
    Of files and of directories.
    """
    (fs.root / "file").touch()
    fs.fail(*(Fault(call=call, error="EIO") for call in ("fsync", "fsyncdir")))
    for path in (fs.root / "file", fs.root):
        fd = os.open(path, os.O_RDONLY)
        assert error_of(lambda fd=fd: os.fsync(fd)) == "EIO"
        os.fsync(fd)
        os.close(fd)
    fs.fail()
    for how, error in (("refused", "EINVAL"), ("ignored", "")):
        fs.switch(Switches(fsyncdir=how))  # type: ignore[arg-type]
        fd = os.open(fs.root, os.O_RDONLY)
        assert error_of(lambda fd=fd: os.fsync(fd)) == error
        os.close(fd)


def test_a_hang(fs: Mounted) -> None:
    """
    Until the fault is withdrawn; others go on.
    """
    (fs.root / "file").touch()
    (fs.root / "folder").mkdir()
    fs.fail(Fault(call="unlink", error=HANG))
    words = [sys.executable, "-c", f"import os; os.unlink({str(fs.root / 'file')!r})"]
    waits = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not fs.failed():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (fs.root / "folder" / "another").touch()
    assert waits.poll() is None
    fs.fail()
    assert waits.wait(30) == 1


@pytest.mark.parametrize("name", LOCKS)
def test_locks(tmp_path: Path, name: str) -> None:
    """
    Seen below the mount too, refused, or given to everybody.
    """
    script = (
        "import fcntl, sys; file = open(sys.argv[1]); "
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB); "
        "print(flush=True); sys.stdin.read()"
    )
    with mount(tmp_path / "fs", LOCKS[name]) as fs:
        (fs.root / "file").touch()
        held = []
        for folder in (fs.root, fs.root, fs.below):
            words = [sys.executable, "-c", script, folder / "file"]
            held.append(
                subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
            assert held[-1].stdout is not None
            held[-1].stdout.readline()
        got = [each.poll() is None for each in held]
        for each in held:
            each.communicate()
    assert [each.returncode == 0 for each in held] == {
        "locks below": [True, False, False],
        "locks refused": [False, False, True],
        "locks granted": [True, True, True],
    }[name], got
