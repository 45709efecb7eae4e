"""
Sparse files between real programs on real file systems: holes stay holes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import PATIENCE, World

GIB = 1024**3
MIB = 1024**2


pytestmark = pytest.mark.daemons


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """
    A directory on another file system, in memory.
    """
    path = Path("/dev/shm") / f"realize-holes-{os.getpid()}"
    path.mkdir()
    yield path
    for each in path.iterdir():
        each.unlink()
    path.rmdir()


def plant(path: Path, size: int) -> None:
    """
    A large file with data at its start, in its middle and at its end.
    """
    with path.open("wb") as file:
        for offset in (0, size // 2, size - MIB):
            file.seek(offset)
            file.write(os.urandom(MIB))


def islands(path: Path) -> list[tuple[int, bytes]]:
    """
    What is in the places where :func:`plant` wrote, and between.
    """
    size = path.stat().st_size
    found = []
    with path.open("rb") as file:
        for offset in (0, MIB, size // 2, size // 2 + MIB, size - MIB):
            file.seek(offset)
            found.append((offset, file.read(MIB)))
    return found


@pytest.mark.parametrize(
    ("source", "destination"),
    [("here", "elsewhere"), ("here", "nas"), ("nas", "here"), ("nas", "box")],
)
def test_a_large_sparse_file_takes_its_room_only(
    world: World, elsewhere: Path, source: str, destination: str
) -> None:
    """
    It crosses as what is in it, and takes as much at the other end as it took here.
    """
    here = world.folder / "here"
    here.mkdir()
    places = {
        "here": (str(here), here),
        "elsewhere": (str(elsewhere), elsewhere),
        "nas": ("nas:inbox", world.nas.directory("inbox")),
        "box": ("box:inbox", world.box.directory("inbox")),
    }
    (source_word, source_path), (word, path) = places[source], places[destination]
    plant(source_path / "image", 4 * GIB)
    before = islands(source_path / "image")
    taken = (source_path / "image").stat().st_blocks

    said = world.realize(source_word, word, "--output", "json")

    assert said.json[-1]["exit"] == 0
    assert said.json[-1]["sent"] == 4 * GIB
    assert not (source_path / "image").exists()
    assert (path / "image").stat().st_size == 4 * GIB
    assert islands(path / "image") == before
    # A file system may need a block or two of its own to find three places.
    assert taken <= (path / "image").stat().st_blocks <= taken + 64


def test_killed_behind_a_hole(world: World) -> None:
    """
    Both ends are killed; the next run goes on from what is there, and the hole is
    still one.
    """
    here, inbox = world.folder / "here", world.nas.directory("inbox")
    here.mkdir()
    plant(here / "image", 24 * GIB)
    before = islands(here / "image")
    taken = (here / "image").stat().st_blocks
    partial = inbox / ".image.realize-part"
    running = world.begin(str(here), "nas:inbox", "--throttle", "400K")
    until = time.monotonic() + PATIENCE
    while not (partial.exists() and partial.stat().st_size > 2 * GIB):
        assert time.monotonic() < until, "no hole has arrived"
        assert running.poll() is None, "it was over too soon"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    world.nas.stop(signal.SIGKILL)
    running.wait(PATIENCE)
    assert 12 * GIB < partial.stat().st_size < 24 * GIB
    assert partial.stat().st_blocks * 512 < 3 * MIB

    world.nas.start()
    said = world.realize(str(here), "nas:inbox", "--output", "json")

    assert said.json[-1]["exit"] == 0
    assert said.json[-1]["kept"] > 12 * GIB
    assert (inbox / "image").stat().st_size == 24 * GIB
    assert islands(inbox / "image") == before
    assert (inbox / "image").stat().st_blocks <= taken + 64
