"""
How groups of files become final.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve
from blake3 import blake3

from realize.conflicts import Conflicts
from realize.model import Finished, Offer, Piece
from realize.paths import is_partial
from realize.store.commit import Commits, WrittenEntry
from realize.store.filesystem import FileSystem
from realize.store.partial import Partial
from realize.store.replaced import Replaced
from realize.store.root import Root
from realize.store.together import WORTHWHILE
from tests.support.putting import MTIME_NS, Putting, codes, contents, finish_of
from tests.support.requirements import needs

FILES = {b"%s/%d" % (d, n): b"%d" % n * 3000 for d in (b"a", b"b/c") for n in range(3)}


class Disk:
    """
    Stands for ``fsync``: notes what is made durable, and in what state it is then.

    :ivar synced: paths below *top*, in order.
    """

    def __init__(self, top: Path) -> None:
        self.synced: list[str] = []
        self.names: list[set[str]] = []
        self.failing: set[str] = set()
        self.cut_at = -1
        self._top = top

    def sync(self, fd: int) -> None:
        """
        ``fsync``, unless something is to happen instead.
        """
        path = str(Path(os.readlink(f"/proc/self/fd/{fd}")).relative_to(self._top))
        if len(self.synced) == self.cut_at:
            raise PowerCutError
        self.synced.append(path)
        self.names.append({name for name, c in contents(self._top).items() if c})
        if path in self.failing:
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(fd)


class PowerCutError(BaseException):
    """
    Everything ends here.
    """


@pytest.fixture
def disk(tree: Path) -> Disk:
    """
    The disk that *tree* is on.
    """
    return Disk(tree)


@pytest.fixture
def putting(tree: Path, disk: Disk) -> Iterator[Putting]:
    """
    A destination on *tree*.
    """
    putting = Putting(tree, sync=disk.sync)
    yield putting
    putting.close()


class TestOrder:
    """
    Content before name, name before answer.
    """

    def test_files_before_names_before_directories(self, putting, disk, tree):
        """
        When the first name is there all contents are durable; directories follow,
        each once, with those above them.
        """
        assert codes(putting.put(FILES)) == ["Finished"] * 6
        unfinished, directories = disk.synced[:6], disk.synced[6:]
        assert all(is_partial(os.fsencode(Path(p).name)) for p in unfinished)
        assert len(set(unfinished)) == 6
        assert sorted(directories) == [".", "a", "b", "b/c"]
        final = {path.decode() for path in FILES}
        for names in disk.names[:6]:
            assert names.isdisjoint(final)
        for names in disk.names[6:]:
            assert names == final

    def test_attributes_before_content(self, tree):
        """
        What is made durable has its permission bits and time already.
        """
        seen = []

        def sync(fd: int) -> None:
            status = os.fstat(fd)
            seen.append((stat.S_IMODE(status.st_mode), status.st_mtime_ns))

        putting = Putting(tree, sync=sync)
        putting.put({b"x": b"content"})
        assert seen[0] == (0o640, MTIME_NS)
        putting.close()

    def test_parents_once(self, putting, disk):
        """
        Later groups synchronise their directory alone, until it is made anew.
        """
        putting.put({b"b/c/1": b"1"})
        del disk.synced[:]
        putting.put({b"b/c/2": b"2"})
        assert disk.synced[1:] == ["b/c"]

    def test_parents_of_directories_that_were_there(self, tree, disk):
        """
        They may have been made by a session that died before it got so far.
        """
        (tree / "b/c").mkdir(parents=True)
        putting = Putting(tree, sync=disk.sync)
        putting.put({b"b/c/1": b"1"})
        assert sorted(disk.synced[1:]) == [".", "b", "b/c"]
        putting.close()

    def test_parents_of_a_directory_made_again(self, putting, disk, tree):
        """
        Its new name is durable too.
        """
        putting.put({b"d/1": b"1"})
        (tree / "d/1").unlink()
        (tree / "d").rmdir()
        del disk.synced[:]
        putting.put({b"d/2": b"2"})
        assert sorted(disk.synced[1:]) == [".", "d"]

    def test_there_already(self, putting, disk, tree):
        """
        Made durable again, file and directories, although nothing is written.
        """
        (tree / "d").mkdir()
        (tree / "d/x").write_bytes(b"content")
        assert codes(putting.finish(finish_of(b"d/x", b"content"))) == ["Finished"]
        assert disk.synced == ["d/x", "d", "."]

    def test_nothing_done_nothing_synchronised(self, putting, disk, tree):
        """
        A file that does not get its name costs nobody anything.
        """
        putting.send({b"x": b"content"})
        assert codes(putting.finish(finish_of(b"x", b"CONTENT"))) == ["DIGEST_MISMATCH"]
        assert disk.synced == []
        assert contents(tree) == {}


class TestFailedSync:
    """
    A disk that cannot make something durable is not asked the same thing twice.
    """

    def test_file(self, putting, disk, tree):
        """
        Discarded, and refused for the rest of the run; others of its group arrive.
        """
        disk.failing = {".x.realize-part"}
        results = putting.put({b"x": b"new", b"y": b"new"})
        assert codes(results) == ["SYNC_FAILED", "Finished"]
        assert results[0].text == "x: not durable: Input/output error"
        assert contents(tree) == {"y": b"new"}
        disk.failing = set()
        assert codes(putting.offer(Offer(b"x", 3))) == ["SYNC_FAILED"]
        assert codes(putting.offer(Offer(b"z", 3))) == ["Held"]
        assert codes(putting.finish(finish_of(b"x", b"new"))) == ["SYNC_FAILED"]

    def test_old_file_stays(self, putting, disk, tree):
        """
        What was there before is still there.
        """
        (tree / "x").write_bytes(b"old")
        disk.failing = {".x.realize-part"}
        assert codes(putting.put({b"x": b"new"})) == ["SYNC_FAILED"]
        assert contents(tree) == {"x": b"old"}

    def test_present_file(self, putting, disk, tree):
        """
        It stays, but nobody may believe in it, however often they ask in this run.
        """
        (tree / "x").write_bytes(b"content")
        disk.failing = {"x"}
        for _ in range(2):
            results = putting.finish(finish_of(b"x", b"content"))
            assert codes(results) == ["SYNC_FAILED"]
            disk.failing = set()
        assert disk.synced == ["x"]

    @pytest.mark.parametrize("failing", ["d", "."])
    def test_directory(self, putting, disk, failing):
        """
        The names in it are not durable, nor will they be in this run.
        """
        disk.failing = {failing}
        assert codes(putting.put({b"d/x": b"content"})) == ["SYNC_FAILED"]
        disk.failing = set()
        before = disk.synced.count(failing)
        for _ in range(2):
            results = putting.finish(finish_of(b"d/x", b"content"))
            assert codes(results) == ["SYNC_FAILED"]
        assert disk.synced.count(failing) == before == 1

    def test_three_times(self, putting, disk, tree):
        """
        After that nothing more is written, wherever it would go.
        """
        disk.failing = {f".{n}.realize-part" for n in range(3)}
        files = {b"%d" % n: b"content" for n in range(4)}
        assert codes(putting.put(files)) == ["SYNC_FAILED"] * 3 + ["Finished"]
        results = putting.offer(Offer(b"other/x", 1))
        assert codes(results) == ["SYNC_FAILED"]
        assert "3 times" in results[0].text
        assert contents(tree) == {"3": b"content"}

    def test_files_that_were_offered_before(self, putting, disk):
        """
        Are not written either once the disk has shown what it is.
        """
        putting.offer(Offer(b"late", 7))
        disk.failing = {f".{n}.realize-part" for n in range(3)}
        putting.put({b"%d" % n: b"content" for n in range(3)})
        results = putting.write(b"content", Piece(b"late", 0, 7))
        assert codes(results) == ["SYNC_FAILED"]


class Together:
    """
    Stands for ``syncfs``.

    :ivar asked: paths below *top* of the descriptors that it was called with.
    :ivar works: whether anything can be done in this way.
    :ivar fails: whether something was not written.
    """

    def __init__(self, top: Path) -> None:
        self.asked: list[str] = []
        self.works = True
        self.fails = False
        self._top = top

    def sync(self, fd: int, files: int) -> bool:
        """
        What :func:`~realize.store.together.sync_together` would do.
        """
        path = Path(os.readlink(f"/proc/self/fd/{fd}")).relative_to(self._top)
        self.asked.append(str(path))
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        return self.works


class TestTogether:
    """
    Many small files are made durable with one call, where it can be believed.
    """

    MANY: ClassVar = {b"%03d" % n: b"%d" % n for n in range(WORTHWHILE)}
    PARTIALS: ClassVar = {f".{n:03}.realize-part" for n in range(WORTHWHILE)}

    @pytest.fixture
    def together(self, tree):
        """
        Of the disk that *tree* is on.
        """
        return Together(tree)

    @pytest.fixture
    def putting(self, tree, disk, together):
        """
        A destination on *tree*.
        """
        putting = Putting(tree, sync=disk.sync, together=together.sync)
        yield putting
        putting.close()

    def test_one_call(self, putting, disk, together):
        """
        On the descriptor that has been open for longest, whatever the order now; and
        one fsync, so that the disk's own cache is emptied, before there are names.
        """
        putting.send(self.MANY)
        backwards = [finish_of(*file) for file in reversed(self.MANY.items())]
        assert codes(putting.finish(*backwards)) == ["Finished"] * WORTHWHILE
        assert together.asked == [".000.realize-part"]
        assert disk.synced == [".000.realize-part", "."]
        assert disk.names[0].isdisjoint(name.decode() for name in self.MANY)

    def test_few(self, putting, disk, together):
        """
        A few are asked for one by one.
        """
        putting.put(dict(list(self.MANY.items())[1:]))
        assert together.asked == []
        assert len(disk.synced) == WORTHWHILE - 1 + 1

    def test_not_possible(self, putting, disk, together):
        """
        Where it is of no use each is asked for itself.
        """
        together.works = False
        assert codes(putting.put(self.MANY)) == ["Finished"] * WORTHWHILE
        assert set(disk.synced) == self.PARTIALS | {"."}

    def test_something_failed(self, putting, disk, together):
        """
        Each is asked for itself, and only those fail that were concerned.
        """
        together.fails = True
        disk.failing = {".007.realize-part"}
        results = codes(putting.put(self.MANY))
        assert results.count("SYNC_FAILED") == 1
        assert results[7] == "SYNC_FAILED"
        assert set(disk.synced) == self.PARTIALS | {"."}

    def test_the_last_question_failed(self, putting, disk):
        """
        The one file has failed, and the others are not believed in without asking.
        """
        disk.failing = {".000.realize-part"}
        results = codes(putting.put(self.MANY))
        assert results == ["SYNC_FAILED"] + ["Finished"] * (WORTHWHILE - 1)
        assert sorted(disk.synced) == sorted(self.PARTIALS | {"."})

    def test_what_was_kept(self, tree, disk, putting, together):
        """
        Bytes from before may have an error that only their own file tells of.
        """
        (tree / ".kept.realize-part").write_bytes(b"con")
        putting.send(self.MANY)
        putting.offer(Offer(b"kept", 7))
        keep = Piece(b"kept", 3, 0, [blake3(b"con").digest()])
        putting.write(b"tent", keep, Piece(b"kept", 3, 4))
        files = {**self.MANY, b"kept": b"content"}
        results = putting.finish(*(finish_of(*file) for file in files.items()))
        assert codes(results) == ["Finished"] * (WORTHWHILE + 1)
        assert len(together.asked) == 1
        assert disk.synced == [".000.realize-part", ".kept.realize-part", "."]


def test_power_cut_at_every_sync(tmp_path):
    """
    Wherever it ends: names have whole files, and the next run completes all.
    """
    steps = 0
    while True:
        top = tmp_path / f"{steps}"
        top.mkdir()
        disk = Disk(top)
        disk.cut_at = steps
        first = Putting(top, sync=disk.sync)
        try:
            first.put(FILES)
            break
        except PowerCutError:
            pass
        first.close()
        for name, content in contents(top).items():
            assert (
                content is None
                or is_partial(os.fsencode(Path(name).name))
                or (content == FILES[name.encode()])
            )
        second = Putting(top)
        assert codes(second.put(FILES)) == ["Finished"] * len(FILES)
        second.close()
        files = {name: c for name, c in contents(top).items() if c is not None}
        assert files == {path.decode(): content for path, content in FILES.items()}
        steps += 1
    assert steps == len(FILES) + 4


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.support.putting import Putting, finish_of
    top, mode = sys.argv[1:]
    putting = Putting(Path(top), replace=mode == "replace")
    files = {b"%d" % n: b"new %d" % n for n in range(4)}
    putting.send(files)
    if mode == "add":
        Path(top, "1").write_bytes(b"old 1")
    results = putting.finish(*(finish_of(*file) for file in files.items()))
    print([getattr(each, "how", None) or each.code for each in results])
    """
)


def strace(top: Path, replace: bool, inject: str) -> subprocess.CompletedProcess[str]:
    """
    Put four files in a process of its own, with something wrong.
    """
    return subprocess.run(
        [
            "strace",
            "-qq",
            "-f",
            "-o/dev/null",
            f"-etrace={inject.partition(':')[0]}",
            f"-einject={inject}",
            sys.executable,
            "-c",
            SCRIPT,
            top,
            "replace" if replace else "add",
        ],
        cwd=Path(__file__).parents[2],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


@needs("strace")
@pytest.mark.parametrize("syscall", ["pwrite64", "fchmod", "fsync", "renameat2"])
@pytest.mark.parametrize("when", [1, 3])
def test_killed(tree, syscall, when):
    """
    Killed in the middle of a group; old files are whole or replaced by whole ones.
    """
    for n in range(4):
        (tree / f"{n}").write_bytes(b"old %d" % n)
    process = strace(tree, True, f"{syscall}:signal=KILL:when={when}")
    assert process.returncode == -9, process.stderr
    for n in range(4):
        assert (tree / f"{n}").read_bytes() in (b"old %d" % n, b"new %d" % n)
    putting = Putting(tree)
    files = {b"%d" % n: b"new %d" % n for n in range(4)}
    assert codes(putting.put(files)) == ["Finished"] * 4
    putting.close()
    assert contents(tree) == {name.decode(): c for name, c in files.items()}


@needs("strace")
@pytest.mark.parametrize("replace", [True, False])
def test_without_renameat2(tree, replace):
    """
    File systems that cannot rename without replacing: a link does it.
    """
    if replace:
        (tree / "1").write_bytes(b"old 1")
    process = strace(tree, replace, "renameat2:error=EINVAL")
    if replace:
        expected = "['written', 'replaced', 'written', 'written']\n"
    else:
        expected = "['written', 'ALREADY_EXISTS', 'written', 'written']\n"
    assert process.stdout == expected, process.stderr
    one = b"new 1" if replace else b"old 1"
    assert contents(tree) == {"0": b"new 0", "1": one, "2": b"new 2", "3": b"new 3"}


def test_link_in_the_way(putting, tree):
    """
    One that came after the offer stays, and so does what it leads to.
    """
    (tree / "target").write_bytes(b"target")
    putting.send({b"x": b"content"})
    (tree / "x").symlink_to("target")
    assert codes(putting.finish(finish_of(b"x", b"content"))) == ["NAME_TAKEN"]
    assert (tree / "x").is_symlink()
    assert (tree / "target").read_bytes() == b"target"


def synced_by(script, tree, tmp_path, says):
    """
    The paths of what a script that gets *tree* makes durable.
    """
    trace = tmp_path / "trace"
    process = subprocess.run(
        [
            *("strace", "-qq", "-f", "-y", "-etrace=fsync", "-o", trace),
            *(sys.executable, "-c", script, tree),
        ],
        cwd=Path(__file__).parents[2],
        text=True,
        capture_output=True,
        check=True,
    )
    assert process.stdout == says
    return re.findall(r"fsync\(\d+<(.*)>\)", trace.read_text())


@needs("strace")
def test_directories_above_the_root_are_durable(tree, tmp_path):
    """
    When the root was made below the directory, so was its name.
    """
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.support.putting import Putting\n"
        "putting = Putting(Path(sys.argv[1]), below=b'a/b')\n"
        "print(putting.put({b'c/x': b'content'})[0].how)\n"
    )
    synced = synced_by(script, tree, tmp_path, "written\n")
    assert {f"{tree}", f"{tree}/a", f"{tree}/a/b", f"{tree}/a/b/c"} <= set(synced)


@needs("strace")
def test_a_root_made_once_more_is_durable(tree, tmp_path):
    """
    One that somebody removed during the session gets its name a second time.
    """
    script = (
        "import shutil, sys\n"
        "from pathlib import Path\n"
        "from tests.support.putting import Putting\n"
        "tree = Path(sys.argv[1])\n"
        "putting = Putting(tree, below=b'a/b')\n"
        "for name in (b'x', b'y'):\n"
        "    print(putting.put({name: b'content'})[0].how)\n"
        "    shutil.rmtree(tree / 'a' / 'b')\n"
    )
    synced = synced_by(script, tree, tmp_path, "written\n" * 2)
    assert synced.count(f"{tree}/a") == 2


def test_result_without_a_directory(putting, tree):
    """
    One that vanished before the rename takes only its own files with it.
    """
    putting.send({b"gone/x": b"1", b"here/x": b"1"})
    (tree / "gone").rename(tree / "elsewhere")
    results = putting.finish(finish_of(b"gone/x", b"1"), finish_of(b"here/x", b"1"))
    assert codes(results) == ["NO_SUCH_FILE", "Finished"]
    assert isinstance(results[1], Finished)
    assert contents(tree)["here/x"] == b"1"


class Cached(Root):
    """
    On a file system whose bytes may wait to be written elsewhere.
    """

    def filesystem(self, directory: int) -> FileSystem:
        """
        As one on another host.
        """
        return evolve(super().filesystem(directory), cached=True)


@pytest.mark.parametrize("number", [0, errno.EIO, errno.EDQUOT])
def test_what_closing_says_counts(tree, number):
    """
    Before there is a name: some file systems tell only then what they could not write.
    """
    asked = []

    def close(fd: int) -> None:
        asked.append(os.readlink(f"/proc/self/fd/{fd}"))
        if number:
            raise OSError(number, os.strerror(number))

    root = Cached.open(tree, name="there")
    commits = Commits(root, Conflicts("replace"), Replaced(), close=close)
    with root.directory(b"") as directory:
        partial = Partial.begin(directory, b".x.realize-part")
    partial.write(0, memoryview(b"content"))
    entry = WrittenEntry(finish_of(b"x", b"content"), b"", b"x", 0o640, partial=partial)
    commits.commit([entry])
    assert asked == [f"{tree}/.x.realize-part"]
    if number:
        assert codes([entry.result]) == ["SYNC_FAILED"]
        assert os.strerror(number) in str(entry.error)
        assert contents(tree) == {}
    else:
        assert codes([entry.result]) == ["Finished"]
        assert contents(tree) == {"x": b"content"}
    root.close()
