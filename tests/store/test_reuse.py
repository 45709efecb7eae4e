"""
Copying from the present file, on file systems that can share blocks and others.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from realize.delta.plan import Reuse
from realize.errors import DigestMismatch
from realize.store import filesystem, reuse
from realize.store.partial import Partial
from realize.store.reuse import apply_patch
from tests.support.requirements import needs

MIB = 1024 * 1024
DATA = random.Random(3).randbytes(8 * MIB + 5000)  # noqa: S311  # no secret


@pytest.fixture(
    params=[
        "any",
        pytest.param("xfs", marks=needs("mkfs.xfs", "mount", loop=True)),
    ]
)
def place(request, tmp_path: Path) -> Iterator[Path]:
    """
    A directory of a file system that shares blocks, or of whatever is here.
    """
    if request.param == "any":
        yield tmp_path
        return
    image, point = tmp_path / "image", tmp_path / "disk"
    image.touch()
    os.truncate(image, 320 * MIB)
    point.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


def copied(place: Path, *steps: Reuse) -> bytes:
    """
    What comes of a patch, whose digest is right.
    """
    (place / "x").write_bytes(DATA)
    directory = os.open(place, os.O_RDONLY)
    present = os.open(place / "x", os.O_RDONLY)
    os.fsync(present)
    partial = Partial.begin(directory, b"partial")
    try:
        apply_patch(partial, present, steps, memoryview(b""))
        content = (place / "partial").read_bytes()
        assert partial.size == partial.stored == len(content)
        assert partial.hasher.digest() == blake3(content).digest()
        return content
    finally:
        partial.close()
        os.close(present)
        os.close(directory)


@pytest.mark.parametrize("shift", [0, 4096, 3, 5000])
@pytest.mark.parametrize("length", [1, 5000, 3 * MIB + 77])
def test_copied(place, shift, length):
    """
    Wherever it lay, and in whatever pieces.
    """
    steps = [
        Reuse(0, 100, shift),
        Reuse(100, length, shift + 100),
        Reuse(100 + length, 4096, shift),
    ]
    assert copied(place, *steps) == (
        DATA[shift : shift + 100 + length] + DATA[shift : shift + 4096]
    )


def test_to_the_end(place):
    """
    Also if that is not the end of a block; not beyond.
    """
    assert copied(place, Reuse(0, len(DATA), 0)) == DATA
    with pytest.raises(DigestMismatch):
        copied(place, Reuse(0, len(DATA) + 1, 0))
    with pytest.raises(DigestMismatch):
        copied(place, Reuse(0, 4096, len(DATA)))


@pytest.mark.parametrize("place", ["xfs"], indirect=True)
@needs("mkfs.xfs", "mount", loop=True)
def test_shared(place):
    """
    What lies in the same place of both files takes no room twice.
    """
    copied(place, Reuse(0, 100, 0), Reuse(100, 8 * MIB, 100))
    used = subprocess.run(
        ["filefrag", "-v", place / "partial"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "shared" in used


@pytest.mark.parametrize("place", ["any"], indirect=True)
@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EAGAIN])
def test_not_asked_twice(place, monkeypatch, error):
    """
    A file system that cannot share, or not yet, is asked once for each patch.
    """
    asked = []

    def refuse(*_wanted: int) -> None:
        asked.append(1)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(reuse, "share_blocks", refuse)
    steps = [Reuse(0, MIB, 0), Reuse(MIB, MIB, MIB)]
    assert copied(place, *steps) == DATA[: 2 * MIB]
    assert len(asked) == 1


@pytest.mark.parametrize("place", ["any"], indirect=True)
@pytest.mark.parametrize("answer", ["whole", "short", "cannot"])
def test_file_system_of_another_host(place, monkeypatch, answer):
    """
    Bytes do not cross the network twice where that host can copy them itself.
    """
    copy, asked = os.copy_file_range, []

    def copy_there(source: int, target: int, count: int, *offsets: int) -> int:
        asked.append(count)
        if answer == "cannot":
            raise OSError(95, "Operation not supported")
        return copy(
            source,
            target,
            min(count, MIB // 3 if answer == "short" else count),
            *offsets,
        )

    monkeypatch.setattr(filesystem, "file_system_type", lambda fd: 0x6969)
    monkeypatch.setattr(os, "copy_file_range", copy_there)
    assert copied(place, Reuse(0, MIB, 3), Reuse(MIB, MIB, 0)) == (
        DATA[3 : MIB + 3] + DATA[:MIB]
    )
    assert len(asked) == {"whole": 2, "short": 8, "cannot": 1}[answer]
    asked.clear()
    with pytest.raises(DigestMismatch):
        copied(place, Reuse(0, len(DATA), 3))
    assert asked
