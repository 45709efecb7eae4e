"""
Making many files durable with one call.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from realize.store.syscalls import file_system_type, sync_file_system
from realize.store.together import LITTLE, LITTLE_MORE, kib_waiting, sync_together
from tests.support.powercut import CrashDisk
from tests.support.requirements import needs

#: Files for which anything that waits is little.
ANY = 2**62

#: Files of a group.
FILES = 40

KINDS = [
    pytest.param(kind, marks=needs(f"mkfs.{kind}", loop=True), id=kind)
    for kind in ("ext4", "xfs")
]


def write_files(root: Path, size: int = 4096) -> list[int]:
    """
    Files, each with its own letters; their descriptors.
    """
    fds = []
    for number in range(FILES):
        fd = os.open(root / f"{number:02}", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(fd, b"%02d" % number * (size // 2))
        fds.append(fd)
    return fds


@contextmanager
def full(point: Path) -> Iterator[None]:
    """
    A file system in memory for the images of disks, with less room than they promise.
    """
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(point)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True, capture_output=True)


@pytest.mark.parametrize("kind", KINDS)
def test_survives_a_power_cut(tmp_path, kind):
    """
    Contents and sizes of all files; without it, none have content.
    """
    for together in (True, False):
        with CrashDisk.create(tmp_path / f"{together}", kind) as disk:
            fds = write_files(disk.root)
            if together:
                assert sync_together(fds[0], ANY)
            disk.stop()
            for fd in fds:
                os.close(fd)
            disk.unmount()
            disk.mount()
            whole = 0
            for number in range(FILES):
                with suppress(FileNotFoundError):
                    content = (disk.root / f"{number:02}").read_bytes()
                    whole += content == b"%02d" % number * 2048
            assert whole == (FILES if together else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_pulled_out(tmp_path, kind):
    """
    Says that nothing was written.
    """
    with CrashDisk.create(tmp_path / "disk", kind) as disk:
        fds = write_files(disk.root)
        disk.stop()
        with pytest.raises(OSError, match=r"."):
            sync_together(fds[0], ANY)
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_could_not_be_written(tmp_path, kind):
    """
    Everybody who had a file open hears of it, even when somebody else has before; and
    each file's own fsync still tells whether it was concerned.
    """
    with (
        full(tmp_path / "full"),
        CrashDisk.create(tmp_path / "full" / "disk", kind) as disk,
    ):
        before = os.open(disk.root, os.O_RDONLY)
        fds = write_files(disk.root, 5 << 19)
        for fd in (before, fds[0], fds[-1]):
            with pytest.raises(OSError, match=r"."):
                sync_file_system(fd)
        failed = 0
        for fd in fds:
            try:
                os.fsync(fd)
            except OSError:
                failed += 1
            os.close(fd)
        os.close(before)
        assert failed


def test_nothing_on_unknown_file_systems():
    """
    In /proc nothing can be made durable.
    """
    with open("/proc/self/status", "rb") as file:
        assert not sync_together(file.fileno(), ANY)


def test_nothing_while_others_write(tree):
    """
    All that others wrote would be waited for: more of it is worth it for more files.
    """
    with open(tree / "x", "wb") as file:
        file.write(b"content")
        file.flush()
        most = LITTLE + FILES * LITTLE_MORE
        assert sync_together(file.fileno(), FILES, lambda: most)
        assert not sync_together(file.fileno(), FILES, lambda: most + 1)


def test_what_waits():
    """
    The kernel says how much is to be written.
    """
    assert 0 <= kib_waiting() < 2**30


def test_errors_are_those_of_os():
    """
    The number tells the reason.
    """
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file_system(-1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file_system_type(-1)
