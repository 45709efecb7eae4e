"""
The destination loses power while files are moved to it: which are gone for good?

``mv`` and ``rsync`` are there to show that the harness can tell: if it finds nothing
lost with them, it is broken.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define

from tests.proof.conftest import Tell
from tests.proof.trees import Sums, assert_moved, checksums, count, grow, lost, torn
from tests.support.powercut import CrashDisk
from tests.support.programs import PATIENCE, PROGRAMS, World
from tests.support.requirements import needs

pytestmark = needs("mkfs.ext4", "mkfs.xfs", root=True, loop=True)

#: How often the power is cut under each program.
CUTS = 5

#: Starts a program that moves the first directory's content to the second.
Mover = Callable[[Path, Path], subprocess.Popen[bytes]]


@define
class Scene:
    """
    A source that survives, and a disk that does not.
    """

    source: Path
    disk: CrashDisk

    @property
    def inbox(self) -> Path:
        """
        The destination.
        """
        return self.disk.root / "inbox"

    def plant(self, seed: int) -> Sums:
        """
        A new tree at the source, and an empty destination, durably.
        """
        self.inbox.mkdir(exist_ok=True)
        self.disk.settle()
        return grow(self.source, seed, small=1200, large=2)

    def clear(self) -> None:
        """
        Forget what is at both ends.
        """
        subprocess.run(["rm", "-rf", self.source, self.inbox], check=True)
        self.source.mkdir()


@pytest.fixture(params=["ext4", "xfs"])
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """
    Both ends, empty.
    """
    source = tmp_path / "source"
    source.mkdir()
    with CrashDisk.create(tmp_path / "disk", request.param) as disk:
        yield Scene(source, disk)


def mv(source: Path, inbox: Path) -> subprocess.Popen[bytes]:
    """
    To another file system: copies and deletes.
    """
    command = 'cd "$1" && mv -- * "$2"'
    return _start("sh", "-c", command, "-", source, inbox)


def rsync(source: Path, inbox: Path) -> subprocess.Popen[bytes]:
    """
    With the option that makes a move of a copy.
    """
    return _start("rsync", "-a", "--remove-source-files", f"{source}/", inbox)


def realize(source: Path, inbox: Path) -> subprocess.Popen[bytes]:
    """
    The program under test.
    """
    return _start(
        PROGRAMS / "realize",
        "move",
        "--on-conflict=replace",
        "--output=quiet",
        source,
        inbox,
    )


def _start(*command: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_an_instant(
    scene: Scene, process: subprocess.Popen[bytes], numbers: random.Random
) -> None:
    """
    Until a certain number of files has begun to arrive, has arrived, or has gone from
    the source.
    """
    total = count(scene.source)
    number, sight = numbers.randrange(1, total), numbers.choice(SIGHTS)
    deadline = time.monotonic() + PATIENCE
    while sight(scene, total) < number and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(numbers.uniform(0, 0.01))


#: What may be seen of a move: how many files are that far.
SIGHTS: tuple[Callable[[Scene, int], int], ...] = (
    lambda scene, _: count(scene.inbox),
    lambda scene, _: count(scene.inbox, finished=True),
    lambda scene, total: total - count(scene.source),
)


def cut_under(scene: Scene, before: Sums, mover: Mover, numbers: random.Random) -> None:
    """
    Cut the power at some instant of a move.
    """
    process = mover(scene.source, scene.inbox)
    try:
        wait_for_an_instant(scene, process, numbers)
        scene.disk.stop()
        # It now sees a disk that fails, and has to end.
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    scene.disk.unmount()
    scene.disk.mount()


@pytest.mark.parametrize("mover", [mv, pytest.param(rsync, marks=needs("rsync"))])
def test_others_lose_files(scene: Scene, mover: Mover, tell: Tell) -> None:
    """
    What had been deleted at the source was only in memory at the destination.
    """
    numbers = random.Random(1)
    gone = 0
    for seed in range(CUTS):
        before = scene.plant(seed)
        cut_under(scene, before, mover, numbers)
        gone += len(lost(before, scene.source, scene.inbox))
        scene.clear()
    tell(f"{gone} files lost in {CUTS} power cuts")
    assert gone > 0, "the harness is broken"


def test_nothing_is_lost(scene: Scene, tell: Tell) -> None:
    """
    Each file is whole at one end or the other, and the next run moves the rest.
    """
    numbers = random.Random(2)
    arrived = 0
    for seed in range(CUTS):
        before = scene.plant(seed)
        cut_under(scene, before, realize, numbers)
        assert lost(before, scene.source, scene.inbox) == []
        assert torn(before, scene.inbox) == []
        arrived += len(before) - len(checksums(scene.source))
        assert realize(scene.source, scene.inbox).wait(PATIENCE) == 0
        assert_moved(before, scene.source, scene.inbox)
        scene.clear()
    tell(f"none lost in {CUTS} power cuts, {arrived} moved before them")


def test_nothing_is_lost_when_the_daemon_goes_too(tmp_path: Path, scene: Scene) -> None:
    """
    The whole host of the destination loses power: its disk and its daemon.
    """
    numbers = random.Random(3)
    world = World.create(tmp_path / "world")
    world.nas.directory("inbox").rmdir()
    world.nas.directory("inbox").symlink_to(scene.inbox)
    for seed in range(CUTS):
        before = scene.plant(seed)
        world.nas.start()
        process = world.begin("move", scene.source, "nas:inbox")
        try:
            wait_for_an_instant(scene, process, numbers)
            scene.disk.stop()
            world.nas.stop(signal.SIGKILL)
        finally:
            process.kill()
            process.communicate()
        scene.disk.unmount()
        scene.disk.mount()
        assert lost(before, scene.source, scene.inbox) == []
        assert torn(before, scene.inbox) == []
        world.nas.start()
        try:
            world.realize("move", scene.source, "nas:inbox")
        finally:
            world.nas.stop()
        assert_moved(before, scene.source, scene.inbox)
        scene.clear()
