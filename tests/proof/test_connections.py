"""
Connections that break, stall or dribble in the middle of a move.

The command connects through a proxy that misbehaves, is never started again, and has
to bring everything to its end.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.proof.trees import Sums, assert_moved, grow, lost, torn
from tests.support.programs import PATIENCE, World
from tests.support.proxy import Proxy


@frozen
class Scene:
    """
    The command's host, the daemon's, and what lies between.
    """

    world: World
    proxy: Proxy
    local: Path
    inbox: Path

    def ends(self, sending: bool) -> tuple[Path, Path, tuple[str, str]]:
        """
        Source and destination, and what to type.
        """
        here, there = str(self.local), "nas:inbox"
        if sending:
            return self.local, self.inbox, (here, there)
        return self.inbox, self.local, (there, here)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """
    The daemon runs; the command knows only the proxy.
    """
    world = World.create(tmp_path / "world")
    local = tmp_path / "local"
    local.mkdir()
    world.nas.start()
    try:
        with Proxy.create(world.nas.port) as proxy:
            text = world.me.config.read_text()
            world.me.config.write_text(
                text.replace(f":{world.nas.port}", f":{proxy.port}")
            )
            yield Scene(world, proxy, local, world.nas.directory("inbox"))
    finally:
        world.stop()


def finish(process: subprocess.Popen[bytes], patience: float = 60) -> bytes:
    """
    Wait until the command has ended well.

    :returns: what it said on standard error.
    """
    try:
        out, err = process.communicate(timeout=patience)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, (out, err)
    return err


def plant(source: Path) -> Sums:
    """
    Enough for several groups and several batches.
    """
    return grow(source, seed=5, small=400, large=4)


@pytest.mark.parametrize("sending", [True, False])
@pytest.mark.parametrize("fault", ["cut", "reset", "desert"])
def test_broken(scene: Scene, sending: bool, fault: str) -> None:
    """
    Twice, at random instants; the second time while it was about to go on.
    """
    source, destination, words = scene.ends(sending)
    before = plant(source)
    numbers = random.Random(fault)
    broken: list[list[bytes]] = []

    def breaks() -> None:
        getattr(scene.proxy, fault)()
        broken.append(lost(before, source, destination))

    # The handshake takes some of the first bytes.
    scene.proxy.after(numbers.randrange(8_000, 12_000_000), breaks)
    scene.proxy.after(numbers.randrange(12_000_000, 20_000_000), breaks)
    err = finish(scene.world.begin("move", *words))
    assert broken == [[]] * len(broken)
    assert broken
    assert b"trying again in" in err
    assert scene.proxy.connections == 1 + len(broken)
    assert_moved(before, source, destination)


@pytest.mark.parametrize("sending", [True, False])
def test_stalled_for_a_while(scene: Scene, sending: bool) -> None:
    """
    A line that is silent for some seconds is still the same line.
    """
    source, destination, words = scene.ends(sending)
    before = plant(source)
    timers: list[threading.Timer] = []

    def stall() -> None:
        scene.proxy.stall()
        timers.append(threading.Timer(4, scene.proxy.flow))
        timers[0].start()

    scene.proxy.after(5_000_000, stall)
    err = finish(scene.world.begin("move", *words))
    assert timers
    assert err == b""
    assert scene.proxy.connections == 1
    assert_moved(before, source, destination)


@pytest.mark.parametrize("sending", [True, False])
@pytest.mark.parametrize(("piece", "delay"), [(1, 0.0), (1000, 0.002)])
def test_dribbling(scene: Scene, sending: bool, piece: int, delay: float) -> None:
    """
    Byte by byte, or in small pieces, each of them late.
    """
    source, destination, words = scene.ends(sending)
    before = grow(source, seed=6, small=40)
    scene.proxy.piece, scene.proxy.delay = piece, delay
    finish(scene.world.begin("move", *words))
    assert_moved(before, source, destination)


@pytest.mark.parametrize("sending", [True, False])
def test_nobody_is_kept_out_by_their_own_ghost(scene: Scene, sending: bool) -> None:
    """
    For the daemon the old connection still lives when the command is back, and has a
    file in the making.  Nothing is deferred.
    """
    source, destination, words = scene.ends(sending)
    source.joinpath("large").write_bytes(random.Random(1).randbytes(64 << 20))
    before = grow(source, seed=7, small=10)
    scene.proxy.after(20_000_000, scene.proxy.desert)
    began = time.monotonic()
    err = finish(scene.world.begin("move", *words))
    assert b"trying again in" in err
    assert scene.proxy.connections == 2
    assert time.monotonic() - began < 30
    assert_moved(before, source, destination)


@pytest.mark.parametrize("sending", [True, False])
def test_killed_and_started_again_the_ghost_is_told_apart(
    scene: Scene, sending: bool
) -> None:
    """
    A command that was killed leaves a session that its host does not see end.  One
    that is started anew is another session: it defers what the ghost still holds,
    and loses nothing.
    """
    source, destination, words = scene.ends(sending)
    source.joinpath("large").write_bytes(random.Random(1).randbytes(64 << 20))
    before = grow(source, seed=8, small=10)
    held = threading.Event()
    scene.proxy.after(20_000_000, scene.proxy.stall)
    scene.proxy.after(20_000_000, held.set)
    process = scene.world.begin("move", *words)
    try:
        assert held.wait(PATIENCE)
    finally:
        process.kill()
        process.communicate()
    scene.proxy.desert()
    scene.proxy.flow()
    said = scene.world.realize("move", *words, status=None)
    assert said.status in (0, 4), said
    if said.status == 4:
        assert "another move is writing this file" in said.err
    assert lost(before, source, destination) == []
    assert torn(before, destination) == []
    scene.world.nas.stop()
    scene.world.nas.start()
    scene.world.realize("move", *words)
    assert_moved(before, source, destination)


@pytest.mark.parametrize("remote", [True, False])
def test_two_moves_of_one_file(scene: Scene, remote: bool, tmp_path: Path) -> None:
    """
    One wins, the other defers and says who has it.
    """
    other = tmp_path / "other"
    other.mkdir()
    content = random.Random(2).randbytes(64 << 20)
    for folder in (scene.local, other):
        (folder / "large").write_bytes(content)
    inbox, word = scene.inbox, "nas:inbox"
    if not remote:
        inbox = Path("/dev/shm") / f"realize-two-{tmp_path.name}"
        inbox.mkdir(exist_ok=True)
        word = str(inbox)
    try:
        first = scene.world.begin("move", scene.local, word)
        part = inbox / ".large.realize-part"
        _wait_for(lambda: part.exists() and part.stat().st_size > 1 << 20, first)
        first.send_signal(signal.SIGSTOP)
        try:
            said = scene.world.realize("move", other, word, status=4)
        finally:
            first.send_signal(signal.SIGCONT)
        assert "another move is writing this file" in said.err
        assert (other / "large").read_bytes() == content
        finish(first)
        assert (inbox / "large").read_bytes() == content
        assert list(scene.local.iterdir()) == []
        scene.world.realize("move", other, word)
        assert list(other.iterdir()) == []
        assert (inbox / "large").read_bytes() == content
    finally:
        if not remote:
            subprocess.run(["rm", "-rf", inbox], check=True)


def test_two_moves_of_one_source(scene: Scene, tmp_path: Path) -> None:
    """
    Two commands empty the same directory into the same place at the same time.
    """
    before = grow(scene.local, seed=9, small=600, large=2)
    commands = [
        scene.world.begin("move", scene.local, "nas:inbox", "--output=quiet")
        for _ in range(2)
    ]
    for each in commands:
        _, err = each.communicate(timeout=60)
        assert each.returncode in (0, 4), err
    scene.world.realize("move", scene.local, "nas:inbox")
    # One may have begun a file that the other had just brought to its end.
    for part in scene.inbox.rglob(".*.realize-part"):
        part.unlink()
    assert_moved(before, scene.local, scene.inbox)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
