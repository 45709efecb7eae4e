"""
Moving files inside one file system.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from realize.model import Directory, Failure, File, Finished, Offer
from realize.store.identity import matches
from realize.store.source import LocalSource
from tests.store.test_commit import Disk
from tests.support.memory.disk import Disk as MemoryDisk
from tests.support.memory.link import Link
from tests.support.memory.source import MemorySource
from tests.support.putting import Putting, codes, contents
from tests.support.requirements import needs
from tests.support.threads import result_of


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """
    Where files go.
    """
    path = tmp_path / "there"
    path.mkdir()
    return path


def listed(source: LocalSource) -> dict[bytes, File]:
    """
    The files of a source.
    """
    return {file.path: file for file in result_of(source.list(0)).files}


def adopt(
    putting: Putting, source: Any, files: list[File], *directories: Directory
) -> list[Finished | Failure] | None:
    """
    Adopt files.
    """
    results = result_of(putting.store.adopt(source, files, directories))
    return None if results is None else list(results)


def test_files_change_places(source, tree, there):
    """
    The same inode, with its content and time; directories are made.
    """
    (tree / "d").mkdir()
    for name in ("x", "d/y"):
        (tree / name).write_bytes(b"content of " + name.encode())
        os.utime(tree / name, ns=(1, 2))
    inode = (tree / "d/y").stat().st_ino
    putting = Putting(there)
    files = list(listed(source).values())
    results = adopt(putting, source, files, Directory(b"d", 0o750))
    assert codes(results) == ["Finished"] * 2
    assert {result.how for result in results} == {"renamed"}
    assert contents(tree) == {"d": None}
    assert contents(there) == {
        "d": None,
        "d/y": b"content of d/y",
        "x": b"content of x",
    }
    status = (there / "d/y").stat()
    assert (status.st_ino, status.st_mtime_ns) == (inode, 2)
    assert (there / "d").stat().st_mode & 0o7777 == 0o750
    putting.close()


def test_all_links_of_a_file(source, tree, there):
    """
    Each rename changes the change time of the others, and they stay links of one file.
    """
    (tree / "a").write_bytes(b"content")
    for name in ("b", "c"):
        os.link(tree / "a", tree / name)
    files = list(listed(source).values())
    while matches((tree / "a").stat(), files[0].identity):
        (tree / "a").chmod(0o600)
    putting = Putting(there)
    assert codes(adopt(putting, source, files)) == ["Finished"] * 3
    assert contents(tree) == {}
    assert contents(there) == dict.fromkeys("abc", b"content")
    assert (there / "a").stat().st_nlink == 3
    putting.close()


def test_whether_it_can_be_done_is_known_without_doing_it(source, there):
    """
    A batch without files only asks.
    """
    putting = Putting(there)
    assert adopt(putting, source, [], Directory(b"d", 0o750)) == []
    assert contents(there) == {}
    putting.close()


def test_order(source, tree, there):
    """
    The content is durable while the file has its old name; then the new directory.
    """
    (tree / "x").write_bytes(b"content")
    disk = Disk(there.parent)
    putting = Putting(there, sync=disk.sync)
    adopt(putting, source, list(listed(source).values()))
    assert disk.synced == ["tree/x", "there"]
    putting.close()


#: Kills it instead of replacing a file.
KILL = "inject=renameat:error=EINTR:signal=KILL"

#: Adopts all files of one directory into another; prints how each ended.
SCRIPT = """
import sys
from pathlib import Path
from realize.store.guard import ignore_lease_signals
from realize.store.root import Root
from realize.store.source import LocalSource
from realize.store.work import WorkPool, WorkQueue
from tests.support.putting import Putting, codes
from tests.support.recording import new_recorder
from tests.support.threads import *
ignore_lease_signals()
work = WorkQueue(WorkPool(InlineReactor(), InlineThreads()))
root = Root.open(Path(sys.argv[1]))
source = LocalSource(root, work, 0, 'here', new_recorder())
files = result_of(source.list(0)).files
putting = Putting(Path(sys.argv[2]))
print(*codes(result_of(putting.store.adopt(source, files, []))))
"""


def adopt_traced(tree: Path, there: Path, *options: str) -> tuple[str, list[str]]:
    """
    Adopt in a process of its own, under strace.

    :returns: what it printed, and the system calls.
    """
    trace = there.parent / "trace"
    process = subprocess.run(
        [
            *("strace", "-qq", "-f", "-y", *options),
            *("-o", trace, sys.executable, "-c", SCRIPT, tree, there),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = trace.read_text().splitlines()
    return process.stdout.strip(), [line.split(None, 1)[1] for line in lines]


@needs("strace")
def test_both_directories_are_durable(tree, there):
    """
    The one that lost a name too.
    """
    (tree / "x").write_bytes(b"content")
    said, calls = adopt_traced(tree, there, "-e", "trace=fsync,renameat2")
    assert said == "Finished"
    kinds = [call.partition("(")[0] for call in calls]
    renamed = kinds.index("renameat2")
    assert any(f"{tree}/x>" in call for call in calls[:renamed])
    assert any(f"{there}>" in call for call in calls[renamed + 1 :])
    assert any(f"{tree}>" in call for call in calls[renamed + 1 :])


@needs("strace")
@pytest.mark.parametrize("has_renameat2", [True, False])
def test_three_kinds_of_names(tree, there, has_renameat2):
    """
    A free one, a taken one, and another of the same file; also where a file system
    cannot promise not to replace.
    """
    for name in ("free", "taken", "own"):
        (tree / name).write_bytes(b"content")
    (there / "taken").write_bytes(b"old")
    os.link(tree / "own", there / "own")
    lacks = [] if has_renameat2 else ["-e", "inject=renameat2:error=EINVAL"]
    said, _calls = adopt_traced(tree, there, "-e", "trace=renameat2", *lacks)
    assert said == "Finished Finished Finished"
    assert contents(tree) == {}
    assert contents(there) == dict.fromkeys(("free", "taken", "own"), b"content")


@needs("strace")
def test_killed_just_before_it_replaces(source, tree, there):
    """
    The file is hidden at its source, from where the next listing puts it back; what
    it was to replace is there.
    """
    (tree / "x").write_bytes(b"new")
    (there / "x").write_bytes(b"old")
    adopt_traced(tree, there, "-e", "trace=renameat", "-e", KILL)
    assert contents(there) == {"x": b"old"}
    assert b"new" in contents(tree).values()
    assert not (tree / "x").exists()
    putting = Putting(there)
    assert codes(adopt(putting, source, list(listed(source).values()))) == ["Finished"]
    assert contents(there) == {"x": b"new"}
    assert contents(tree) == {}
    putting.close()


class TestWhatStays:
    """
    Files that cannot be moved, or not now, stay where they are.
    """

    def test_changed_or_open(self, source, tree, there):
        """
        As with any other way of taking them.
        """
        for name in ("changed", "good", "open", "gone"):
            (tree / name).write_bytes(b"content")
        files = listed(source)
        (tree / "changed").write_bytes(b"other")
        (tree / "gone").unlink()
        names = (b"changed", b"good", b"open", b"gone")
        putting = Putting(there)
        with (tree / "open").open("ab"):
            results = adopt(putting, source, [files[name] for name in names])
        assert codes(results) == [
            "SOURCE_CHANGED",
            "Finished",
            "STILL_OPEN",
            "NO_SUCH_FILE",
        ]
        assert contents(tree) == {"changed": b"other", "open": b"content"}
        assert contents(there) == {"good": b"content"}
        putting.close()

    def test_names_that_are_taken(self, source, tree, there):
        """
        By a directory, or by a file that may not be replaced.
        """
        for name in ("directory", "file"):
            (tree / name).write_bytes(b"new")
        (there / "directory").mkdir()
        (there / "file").write_bytes(b"older")
        files = listed(source)
        wanted = [files[b"directory"], files[b"file"]]
        putting = Putting(there, replace=False)
        assert codes(adopt(putting, source, wanted)) == ["NAME_TAKEN", "ALREADY_EXISTS"]
        assert contents(tree) == {"directory": b"new", "file": b"new"}
        putting.close()
        putting = Putting(there)
        assert codes(adopt(putting, source, wanted)) == ["NAME_TAKEN", "Finished"]
        assert contents(there) == {"directory": None, "file": b"new"}
        putting.close()

    def test_content_that_is_not_durable(self, source, tree, there):
        """
        Not renamed then.
        """
        (tree / "x").write_bytes(b"content")
        disk = Disk(there.parent)
        disk.failing = {"tree/x"}
        putting = Putting(there, sync=disk.sync)
        results = adopt(putting, source, list(listed(source).values()))
        assert codes(results) == ["SYNC_FAILED"]
        assert contents(tree) == {"x": b"content"}
        putting.close()

    def test_swapped_while_it_is_moved(self, source, tree, there):
        """
        A file that takes the name between the last check and the rename is put back.
        """
        (tree / "x").write_bytes(b"content")
        files = list(listed(source).values())

        class Swapping(Disk):
            def sync(self, fd: int) -> None:
                """
                Just before the rename.
                """
                super().sync(fd)
                open_file = source.guard.open_to_rename

                def open_then_swap(*args: Any, **options: Any) -> int:
                    fd = open_file(*args, **options)
                    (tree / "other").write_bytes(b"precious")
                    (tree / "other").rename(tree / "x")
                    return fd

                source.guard.open_to_rename = open_then_swap

        putting = Putting(there, sync=Swapping(there.parent).sync)
        assert codes(adopt(putting, source, files)) == ["SOURCE_CHANGED"]
        assert contents(tree) == {"x": b"precious"}
        assert contents(there) == {}
        putting.close()

    @pytest.mark.parametrize("other_name", [False, True])
    def test_swapped_while_it_is_to_replace(self, source, tree, there, other_name):
        """
        A file that takes the name just before the rename replaces nothing.
        """
        (tree / "x").write_bytes(b"content")
        (there / "x").write_bytes(b"present")
        if other_name:
            (there / "x").unlink()
            os.link(tree / "x", there / "x")
        files = list(listed(source).values())
        present = (there / "x").stat()
        open_file = source.guard.open_to_rename

        def open_then_swap(*args: Any, **options: Any) -> int:
            fd = open_file(*args, **options)
            (tree / "other").write_bytes(b"precious")
            (tree / "other").rename(tree / "x")
            return fd

        def sync(fd: int) -> None:
            os.fsync(fd)
            source.guard.open_to_rename = open_then_swap

        putting = Putting(there, sync=sync)
        assert codes(adopt(putting, source, files)) == ["SOURCE_CHANGED"]
        assert contents(tree) == {"x": b"precious"}
        assert (there / "x").stat().st_ino == present.st_ino
        assert list(there.iterdir()) == [there / "x"]
        putting.close()


def test_two_names_of_one_file(source, tree, there):
    """
    Renaming one to the other would do nothing and report success.
    """
    (tree / "x").write_bytes(b"content")
    os.link(tree / "x", there / "x")
    putting = Putting(there, replace=False)
    (result,) = adopt(putting, source, list(listed(source).values()))
    assert result.how == "renamed"
    assert contents(tree) == {}
    assert contents(there) == {"x": b"content"}
    putting.close()


def test_modes(source, tree, there):
    """
    Special bits go, and the administrator's wish wins.
    """
    (tree / "x").write_bytes(b"content")
    (tree / "x").chmod(0o4755)
    putting = Putting(there)
    adopt(putting, source, list(listed(source).values()))
    assert (there / "x").stat().st_mode & 0o7777 == 0o755
    putting.close()
    (there / "x").rename(tree / "x")
    putting = Putting(there, file_mode=0o600)
    adopt(putting, source, list(listed(source).values()))
    assert (there / "x").stat().st_mode & 0o7777 == 0o600
    putting.close()


def test_version(source, tree, there):
    """
    The same as an offer tells afterwards.
    """
    (tree / "x").write_bytes(b"content")
    putting = Putting(there)
    (result,) = adopt(putting, source, list(listed(source).values()))
    (held,) = putting.offer(Offer(b"x", 7), reserve=False)
    assert result.version == held.version
    putting.close()


def test_other_stores(tree, there):
    """
    Only stores of this host can rename between each other.
    """
    putting = Putting(there)
    source = MemorySource(MemoryDisk(), Link(Clock()))
    assert adopt(putting, source, []) is None
    putting.close()


@needs("mount", root=True)
class TestOtherFileSystems:
    """
    Where there is nothing to rename to, files are copied by the caller.
    """

    @pytest.fixture
    def mount(self, tmp_path: Path):
        """
        Mounts something for the length of a test.
        """
        mounted = []

        def mount(path: Path, *options: str) -> None:
            path.mkdir(exist_ok=True)
            subprocess.run(["mount", *options, path], check=True)
            mounted.append(path)

        yield mount
        for path in reversed(mounted):
            subprocess.run(["umount", "-l", path], check=True)

    def test_another_disk(self, source, tree, there, mount: Callable[..., None]):
        """
        Nothing is done.
        """
        mount(there, "-t", "tmpfs", "tmpfs")
        (tree / "x").write_bytes(b"content")
        putting = Putting(there)
        assert adopt(putting, source, []) is None
        assert adopt(putting, source, list(listed(source).values())) is None
        assert contents(tree) == {"x": b"content"}
        assert contents(there) == {}
        putting.close()

    def test_the_same_disk_mounted_twice(self, source, tree, there, tmp_path, mount):
        """
        Looks like one file system, but cannot be renamed across.
        """
        mount(there, "--bind", tmp_path / "there")
        (tree / "x").write_bytes(b"content")
        putting = Putting(there)
        assert adopt(putting, source, list(listed(source).values())) is None
        assert contents(tree) == {"x": b"content"}
        assert contents(there) == {}
        putting.close()

    def test_a_disk_within(self, source, tree, there, mount):
        """
        Some can be renamed, some have to be copied; each says so.
        """
        mount(tree / "within", "-t", "tmpfs", "tmpfs")
        for name in ("a", "b", "within/x"):
            (tree / name).write_bytes(b"content")
        files = listed(source)
        putting = Putting(there)
        wanted = [files[name] for name in (b"a", b"within/x", b"b")]
        results = adopt(putting, source, wanted)
        assert codes(results) == ["Finished", "OTHER_FILE_SYSTEM", "Finished"]
        assert contents(tree) == {"within": None, "within/x": b"content"}
        assert adopt(putting, source, wanted[1:2]) is None
        putting.close()
