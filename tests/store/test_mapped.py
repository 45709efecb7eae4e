"""
Files that other processes have mapped.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from realize.store import mapped
from realize.store.mapped import mapped_elsewhere, writeback_ns

PAGE = mmap.PAGESIZE

SCRIPT = """
import mmap, os, sys
path, size, access, at = sys.argv[1], *map(int, sys.argv[2:])
fd = os.open(path, os.O_RDWR)
memory = mmap.mmap(fd, size, prot=access)
os.close(fd)
memory[at] if access == mmap.PROT_READ else memory.__setitem__(at, 1)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def another(path, at, access=mmap.PROT_READ | mmap.PROT_WRITE):
    """
    A process that has mapped a file, and touched a byte of it.
    """
    command = [sys.executable, "-c", SCRIPT, path]
    command += [str(each) for each in (path.stat().st_size, access, at)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"\n"
        yield
        process.stdin.close()


def seen(path):
    """
    Whether it looks mapped.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        return mapped_elsewhere(fd, path.stat().st_size)
    finally:
        os.close(fd)


@pytest.fixture(params=["disk", "memory"])
def place(request, tree):
    """
    A directory on a disk, or in memory.
    """
    return request.getfixturevalue("in_memory") if request.param == "memory" else tree


@pytest.mark.parametrize("size", [0, 1, PAGE, 5 * PAGE + 1, mapped._WINDOW + 7 * PAGE])
def test_nobody(place, size):
    """
    A file that nobody has mapped, in the cache or not.
    """
    path = place / "file"
    path.write_bytes(bytes(size))
    assert seen(path) is False
    os.sync()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert seen(path) is False


@pytest.mark.parametrize(
    ("size", "at"),
    [
        (1, 0),
        (7 * PAGE, 6 * PAGE + 5),
        (mapped._WINDOW + 7 * PAGE, 0),
        (mapped._WINDOW + 7 * PAGE, mapped._WINDOW + 6 * PAGE),
    ],
)
def test_somebody(place, size, at):
    """
    One page that somebody has touched is enough, written back or not, until it is
    unmapped.
    """
    path = place / "file"
    path.write_bytes(bytes(size))
    with another(path, at):
        assert seen(path)
        os.sync()
        assert seen(path)
    assert seen(path) is False


def test_reader(place):
    """
    Whether it may be written through, the tables do not tell.
    """
    path = place / "file"
    path.write_bytes(bytes(PAGE))
    with another(path, 0, mmap.PROT_READ):
        assert seen(path)


def test_cannot_be_found_out(tree, monkeypatch):
    """
    Without the tables nobody knows.
    """
    path = tree / "file"
    path.write_bytes(b"content")
    monkeypatch.setattr(mapped, "_PAGEMAP", "/nowhere")
    assert seen(path) is None


def test_cannot_be_mapped():
    """
    What nobody can map, nobody has mapped.
    """
    reader, writer = os.pipe()
    assert mapped_elsewhere(reader, 10) is False
    os.close(reader)
    os.close(writer)


def test_writeback(tmp_path):
    """
    As the kernel is set, or as it usually is.
    """
    usual = writeback_ns(tmp_path)
    assert usual == 40 * 10**9
    (tmp_path / "dirty_expire_centisecs").write_text("6000\n")
    (tmp_path / "dirty_writeback_centisecs").write_text("500\n")
    assert writeback_ns(tmp_path) == usual + 30 * 10**9
