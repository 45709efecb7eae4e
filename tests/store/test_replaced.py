"""
Large files that gave way are let go after the answer.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from realize.model import Offer
from realize.store import filesystem
from realize.store.replaced import Replaced
from tests.support.putting import Putting, codes
from tests.support.requirements import needs

MIB = 1024 * 1024


@pytest.fixture
def directory(tmp_path: Path):
    """
    Descriptor of a directory.
    """
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def descriptors() -> int:
    """
    How many this process has.
    """
    return len(os.listdir("/proc/self/fd"))


def test_held_until_let_go(directory, tmp_path):
    """
    Only then is a file without a name gone.
    """
    path = tmp_path / "x"
    path.touch()
    os.truncate(path, 16 * MIB)
    held = Replaced()
    before = descriptors()
    held.hold(directory, b"x")
    path.unlink()
    assert held
    assert descriptors() == before + 1
    held.let_go()
    assert not held
    assert descriptors() == before


def test_few_and_large(directory, tmp_path):
    """
    What costs little to delete is not held, nor more than a few files.
    """
    held = Replaced()
    before = descriptors()
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "link").symlink_to("small")
    for name in (b"small", b"link", b"gone", b"."):
        held.hold(directory, name)
    assert not held
    assert descriptors() == before
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 16 * MIB)
    for _ in range(20):
        held.hold(directory, b"large")
    assert descriptors() == before + 16
    held.let_go()
    assert descriptors() == before


def test_nothing_stays_open(tmp_path):
    """
    A file that was replaced is let go once it is answered for.
    """
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", 16 * MIB)
    putting = Putting(tmp_path)
    putting.put({b"y": b"first"})
    before = descriptors()
    assert [each.how for each in putting.put({b"x": b"new"})] == ["replaced"]
    assert descriptors() == before
    putting.close()


@needs("mount", root=True)
def test_what_gave_way_counts_as_free(tmp_path):
    """
    Who asks for room waits until it was given back.
    """
    disk = tmp_path / "small"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30M", "tmpfs", disk], check=True
    )
    putting = Putting(disk)
    try:
        (disk / "x").write_bytes(bytes(16 * MIB))
        assert codes(putting.offer(Offer(b"y", 16 * MIB))) == ["NO_SPACE"]
        # As finishing does in another session, before the threads come to it.
        fd = os.open(disk, os.O_RDONLY)
        putting.ledger.replaced.hold(fd, b"x")
        os.close(fd)
        (disk / "x").unlink()
        assert codes(putting.offer(Offer(b"y", 16 * MIB))) == ["Held"]
    finally:
        putting.close()
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("kind", [0x6969, 0x65735546])
def test_not_where_others_have_the_files(directory, tmp_path, monkeypatch, kind):
    """
    NFS does not replace a file that is open here in one step, and a server in FUSE does
    not wait for us.
    """
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", 16 * MIB)
    held = Replaced()
    monkeypatch.setattr(filesystem, "file_system_type", lambda fd: kind)
    held.hold(directory, b"x")
    assert not held


def test_closing_lets_go(directory, tmp_path):
    """
    Of what an operation left that came to no end.
    """
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", 16 * MIB)
    putting = Putting(tmp_path)
    putting.ledger.replaced.hold(directory, b"x")
    putting.close()
    assert not putting.ledger.replaced
