"""
Two moves of the same two directories, in opposite directions, again and again: whatever
was there is there.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import World, regular_files

FILES = 200
SECONDS = 20.0

#: What a move may end with: all moved, or some deferred, or refused by the other one's
#: partial or unfinished work; never an error of the program.
ENDINGS = {0, 1, 4}


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """
    A directory on another file system, so that files are copied.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def contents(*roots: Path) -> set[str]:
    """
    Digests of all that is in directories, hidden or kept or not.
    """
    return {
        hashlib.sha256((root / os.fsdecode(name)).read_bytes()).hexdigest()
        for root in roots
        for name in regular_files(root)
        if b".realize-part" not in name
    }


@pytest.mark.parametrize("remote", [False, True])
def test_two_loops(world: World, elsewhere: Path, remote: bool) -> None:
    """
    Locally, and through a daemon.
    """
    here = world.folder / "here"
    here.mkdir()
    there = world.nas.directory("inbox") if remote else elsewhere
    if remote:
        world.nas.start()
    ends = [str(here), "nas:inbox" if remote else str(there)]
    for number in range(FILES):
        path = (here, there)[number % 2] / f"file{number}"
        path.write_bytes(os.urandom(100 + number))
    before = contents(here, there)
    until = time.monotonic() + SECONDS
    running: dict[bool, subprocess.Popen[bytes]] = {}
    rounds = 0
    while time.monotonic() < until:
        for back in (False, True):
            if back not in running or running[back].poll() is not None:
                if back in running:
                    assert running[back].returncode in ENDINGS
                    rounds += 1
                source, destination = ends[::-1] if back else ends
                running[back] = world.begin(
                    "move",
                    "--on-conflict=replace",
                    source,
                    destination,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        time.sleep(0.01)
    for process in running.values():
        assert process.wait(60) in ENDINGS
    assert rounds > 4
    # What the last ones left hidden comes back, and all arrives.
    world.realize("move", "--on-conflict=replace", *ends, status=None)
    world.realize("move", "--on-conflict=replace", *ends, status=0)
    assert contents(there) == before
    assert contents(here) == set()
