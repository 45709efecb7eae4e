"""
Disks that fail, fill up, or may not be written; names that do not fit.

The file that is concerned fails, with the end and the reason; its source stays, and
the rest is moved.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.proof.trees import assert_moved, checksums, grow, lost, torn
from tests.support.powercut import CrashDisk
from tests.support.processes import Call, as_user
from tests.support.programs import PATIENCE, PROGRAMS, Said, World
from tests.support.requirements import needs

CONTENT = os.urandom(50_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """
    An empty source.
    """
    source = tmp_path / "source"
    source.mkdir()
    return source


@contextmanager
def tmpfs(point: Path, options: str) -> Iterator[Path]:
    """
    A file system in memory, for as long as the block runs.
    """
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def failures(said: Said) -> dict[str, tuple[str, str]]:
    """
    The files that failed, with the end and the code.
    """
    return {
        each["path"]: (each["end"], each["code"])
        for each in said.json
        if each["event"] == "file" and each["outcome"] == "failed"
    }


def move(world: World, *words: str | Path, **more: Any) -> Said:
    """
    Run a move with JSON output.
    """
    return world.realize(
        "move", "--on-conflict=replace", "--output=json", *words, **more
    )


@needs("strace", "mkfs.ext4", root=True, loop=True)
@pytest.mark.parametrize("place", ["partial", "directory", "above"])
def test_a_failed_fsync(tmp_path: Path, world: World, source: Path, place: str) -> None:
    """
    Is not tried again: the partial goes, the source stays, and there is no name for
    what may be garbage.  The next run begins anew.
    """
    (source / "sub").mkdir()
    (source / "sub" / "bad").write_bytes(CONTENT)
    before = checksums(source)
    with CrashDisk.create(tmp_path / "disk") as disk:
        inbox = disk.root / "inbox"
        inbox.mkdir()
        disk.settle()
        path = {
            "partial": inbox / "sub" / ".bad.realize-part",
            "directory": inbox / "sub",
            "above": inbox,
        }[place]
        wrapper = Call("fsync", path).failing("EIO")
        said = move(world, source, inbox, wrapper=wrapper, status=1)
        assert failures(said) == {"sub/bad": (str(inbox), "SYNC_FAILED")}
        assert checksums(source) == before
        if place == "partial":
            assert checksums(inbox) == {}
        assert torn(before, inbox) == []
        disk.cut_power()
        assert lost(before, source, inbox) == []
        move(world, source, inbox)
        assert_moved(before, source, inbox)


@needs("strace")
def test_a_disk_that_keeps_failing(world: World, source: Path, tmp_path: Path) -> None:
    """
    After three failures nothing more is written in this run, and nothing is removed.
    """
    inbox = Path("/dev/shm") / f"realize-disks-{os.getpid()}"
    inbox.mkdir()
    try:
        if inbox.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second file system")
        before = grow(source, seed=3, small=50)
        wrapper = Call("fsync").failing("EIO")
        said = move(world, source, inbox, wrapper=wrapper, status=1)
        assert len(failures(said)) == len(before)
        assert checksums(source) == before
        assert torn(before, inbox) == []
        move(world, source, inbox)
        assert_moved(before, source, inbox)
    finally:
        subprocess.run(["rm", "-rf", inbox], check=True)


@needs("strace", "mkfs.xfs", root=True, loop=True)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_disk_that_is_pulled_out_between_rename_and_fsync(
    tmp_path: Path, world: World, source: Path, kind: str
) -> None:
    """
    The program goes on, and must not believe that the name is durable.  XFS says so
    of a directory after it has shut itself down.
    """
    (source / "file").write_bytes(CONTENT)
    before = checksums(source)
    with CrashDisk.create(tmp_path / "disk", kind) as disk:
        inbox = disk.root / "inbox"
        inbox.mkdir()
        disk.settle()
        process = world.begin(
            *("move", "--on-conflict=replace", source, inbox),
            wrapper=Call("fsync", inbox).delaying(1),
        )
        try:
            while not (inbox / "file").exists():
                assert process.poll() is None
            disk.stop()
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 1, (out, err)
        assert checksums(source) == before
        disk.unmount()
        disk.mount()
        move(world, source, inbox)
        assert_moved(before, source, inbox)


@needs(root=True)
@pytest.mark.parametrize("remote", [False, True])
def test_a_full_destination(
    tmp_path: Path, world: World, source: Path, remote: bool
) -> None:
    """
    What does not fit fails and stays; what does is moved.  With more room the rest
    follows.
    """
    for number in range(8):
        (source / f"large {number}").write_bytes(os.urandom(1 << 20))
    (source / "small").write_bytes(CONTENT)
    before = checksums(source)
    with tmpfs(tmp_path / "full", "size=3m") as inbox:
        word = "nas:inbox" if remote else str(inbox)
        if remote:
            world.nas.directory("inbox").rmdir()
            world.nas.directory("inbox").symlink_to(inbox)
            world.nas.start()
        said = move(world, source, word, status=1)
        failed = failures(said)
        assert set(failed.values()) == {(word, "NO_SPACE")}
        assert 6 <= len(failed) < 9
        assert {os.fsdecode(path) for path in checksums(source)} == set(failed)
        assert torn(before, inbox) == []
        assert lost(before, source, inbox) == []
        subprocess.run(["mount", "-o", "remount,size=30m", inbox], check=True)
        move(world, source, word)
        assert_moved(before, source, inbox)


@needs("strace")
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EDQUOT"])
def test_writing_fails(world: World, source: Path, tmp_path: Path, error: str) -> None:
    """
    In the middle of one file: that one fails, the other is moved.
    """
    inbox = Path("/dev/shm") / f"realize-disks-{os.getpid()}"
    inbox.mkdir()
    try:
        if inbox.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second file system")
        (source / "bad").write_bytes(os.urandom(3 << 20))
        (source / "good").write_bytes(CONTENT)
        before = checksums(source)
        wrapper = Call("pwrite64", inbox / ".bad.realize-part").failing(error)
        said = move(world, source, inbox, wrapper=wrapper, status=1)
        code = "DISK" if error == "EIO" else "NO_SPACE"
        assert failures(said) == {"bad": (str(inbox), code)}
        assert list(checksums(source)) == [b"bad"]
        move(world, source, inbox)
        assert_moved(before, source, inbox)
    finally:
        subprocess.run(["rm", "-rf", inbox], check=True)


@needs(root=True)
@pytest.mark.parametrize("which", ["source", "destination"])
def test_a_read_only_file_system(
    tmp_path: Path, world: World, source: Path, which: str
) -> None:
    """
    At the destination nothing can be put; at the source nothing can be taken away,
    which is told before anything is sent.
    """
    with tmpfs(tmp_path / "frozen", "size=8m") as point:
        (point / "there").mkdir()
        ends = (source, point) if which == "destination" else (point, source)
        (ends[0] / "file").write_bytes(CONTENT)
        subprocess.run(["mount", "-o", "remount,ro", point], check=True)
        said = move(world, *ends, status=1)
        if which == "destination":
            assert failures(said)["file"] == (str(point), "DISK")
        else:
            notices = [each for each in said.json if each["event"] == "notice"]
            assert [each["kind"] for each in notices] == ["unremovable"]
        assert (ends[0] / "file").read_bytes() == CONTENT
        assert checksums(ends[1]) == {}
        subprocess.run(["mount", "-o", "remount,rw", point], check=True)
        world.realize("move", "--on-conflict=replace", *ends)
        assert (ends[1] / "file").read_bytes() == CONTENT
        assert not (ends[0] / "file").exists()


@needs("strace")
def test_a_name_that_is_too_long_for_the_destination(
    world: World, source: Path, tmp_path: Path
) -> None:
    """
    As a file system with shorter names would answer.
    """
    inbox = Path("/dev/shm") / f"realize-disks-{os.getpid()}"
    inbox.mkdir()
    try:
        if inbox.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second file system")
        (source / "good").write_bytes(CONTENT)
        (source / "sub").mkdir()
        (source / "sub" / "bad").write_bytes(CONTENT)
        (inbox / "sub").mkdir()
        wrapper = Call("openat", inbox / "sub").failing("ENAMETOOLONG")
        said = move(world, source, inbox, wrapper=wrapper, status=1)
        assert failures(said) == {"sub/bad": (str(inbox), "NAME_TOO_LONG")}
        assert list(checksums(source)) == [b"sub/bad"]
    finally:
        subprocess.run(["rm", "-rf", inbox], check=True)


@pytest.mark.parametrize("remote", [False, True])
def test_something_else_has_the_name(world: World, source: Path, remote: bool) -> None:
    """
    A directory where a file should go, a file where a directory should go, a link
    where either should go.
    """
    inbox = world.nas.directory("inbox")
    if remote:
        world.nas.start()
    word = "nas:inbox" if remote else str(inbox)
    for name in ("a directory", "a link", "fine"):
        (source / name).write_bytes(CONTENT)
    for name in ("a file", "a link to a directory"):
        (source / name).mkdir()
        (source / name / "inside").write_bytes(CONTENT)
    (inbox / "a directory").mkdir()
    (inbox / "a file").write_text("mine")
    (inbox / "a link").symlink_to("/etc/passwd")
    (inbox / "a link to a directory").symlink_to("/tmp")
    said = move(world, source, word, status=1)
    assert failures(said) == {
        "a directory": (word, "NAME_TAKEN"),
        "a link": (word, "NAME_TAKEN"),
        "a file/inside": (word, "NAME_TAKEN"),
        "a link to a directory/inside": (word, "UNSAFE_PATH"),
    }
    assert (inbox / "a file").read_text() == "mine"
    assert (inbox / "a link").is_symlink()
    assert not Path("/tmp/inside").exists()
    assert sorted(map(os.fsdecode, checksums(source))) == sorted(failures(said))


@pytest.fixture
def nobody() -> Sequence[str | Path]:
    """
    Runs a program as a user who owns nothing, but can start the programs: an
    environment below somebody's private folder is out of reach for others.
    """
    user = as_user()
    command = [*user, PROGRAMS / "realize", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs programs that other users may start: {done.stderr}")
    return user


@needs("setpriv", root=True)
@pytest.mark.parametrize("which", ["directory", "file", "kept"])
def test_what_may_not_be_read_or_removed(
    world: World, which: str, nobody: Sequence[str | Path]
) -> None:
    """
    A sub-directory or file of somebody else's is reported, and the rest is moved.  What
    may be read but not removed stays at the source, and its directory is told of.
    """
    base = Path("/tmp") / f"realize-nobody-{os.getpid()}"
    source, inbox = base / "source", base / "inbox"
    try:
        for folder in (source / "open", source / "closed", inbox):
            folder.mkdir(parents=True)
        base.chmod(0o755)
        for name in ("open/fine", "closed/bad"):
            (source / name).write_bytes(CONTENT)
        subprocess.run(["chown", "-R", "nobody", base], check=True)
        bad = source / "closed" / ("bad" if which == "file" else "")
        os.chown(bad, 0, 0)
        bad.chmod(0o755 if which == "kept" else 0o600)
        # That of the test is out of reach for others.
        (base / "config.toml").touch()
        env = {"REALIZE_CONFIG": str(base / "config.toml")}
        said = move(world, source, inbox, wrapper=nobody, env=env, status=1)
        assert list(checksums(source)) == [b"closed/bad"]
        assert (inbox / "open" / "fine").read_bytes() == CONTENT
        lines = [each for each in said.json if each.get("path", "") in _BAD]
        assert len(lines) == 1
        assert lines[0]["event"] == ("file" if which == "file" else "notice")
        if which == "kept":
            assert (lines[0]["kind"], lines[0]["path"]) == ("unremovable", "closed")
            assert not (inbox / "closed").exists()
    finally:
        subprocess.run(["rm", "-rf", base], check=True)


_BAD = ("closed", "closed/bad")
