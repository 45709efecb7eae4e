"""
Who writes, as the kernel tells of processes.
"""

from __future__ import annotations

import mmap
import os

import pytest

from realize.store import writers
from realize.store.writers import LOOK_SECONDS, Writers


class Seconds:
    """
    A clock that stands still until told otherwise.
    """

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        """
        Seconds.
        """
        return self.now


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """
    However many processes there are.
    """
    monkeypatch.setattr(writers, "MOST_SECONDS", 60.0)


@pytest.fixture
def file(tree):
    """
    A page.
    """
    path = tree / "file"
    path.write_bytes(bytes(mmap.PAGESIZE))
    return path


@pytest.mark.parametrize(
    ("flags", "seen"),
    [(os.O_RDONLY, False), (os.O_WRONLY, True), (os.O_RDWR | os.O_APPEND, True)],
)
def test_open_file(file, flags, seen):
    """
    Who only reads does no harm.
    """
    fd = os.open(file, flags)
    assert Writers().have(file.stat()) is seen
    os.close(fd)
    assert not Writers().have(file.stat())


@pytest.mark.parametrize("access", [mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE])
def test_mapping(file, access):
    """
    Though it was never touched, and the file is closed.
    """
    fd = os.open(file, os.O_RDWR)
    memory = mmap.mmap(fd, mmap.PAGESIZE, prot=access, flags=mmap.MAP_SHARED)
    os.close(fd)
    # Python keeps a descriptor of its own for the mapping, open as the first was.
    assert Writers().have(file.stat())
    memory.close()
    assert not Writers().have(file.stat())


def test_lines_of_maps(file, tmp_path):
    """
    Only what is shared and may be written.
    """
    status = file.stat()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for allowed, seen in (("rw-s", True), ("r--s", False), ("rw-p", False)):
        process = tmp_path / allowed / "7"
        process.mkdir(parents=True)
        line = f"7f00-7f01 {allowed} 00000000 {place} {status.st_ino}   /a b\n"
        (process / "maps").write_text(f"00-01 rw-s 00000000 00:00 0 \n{line}")
        assert Writers(proc=tmp_path / allowed).have(status) is seen


def test_one_look_for_many(file):
    """
    What was seen is good for a second.
    """
    clock = Seconds()
    seen = Writers(clock)
    assert not seen.have(file.stat())
    with file.open("ab"):
        assert not seen.have(file.stat())
        clock.now += LOOK_SECONDS
        assert seen.have(file.stat())


def test_looks_for_so_long(file, monkeypatch):
    """
    Many processes are not waited for.
    """
    monkeypatch.setattr(writers, "MOST_SECONDS", 0.0)
    with file.open("ab"):
        assert not Writers(Seconds()).have(file.stat())


def test_nothing_to_see(file, tmp_path):
    """
    Processes of others, or that have ended.
    """
    (tmp_path / "12" / "fdinfo").mkdir(parents=True)
    (tmp_path / "self").mkdir()
    assert not Writers(proc=tmp_path).have(file.stat())
