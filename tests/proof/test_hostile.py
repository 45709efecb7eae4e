"""
Nobody stops anybody else: an honest move beside a peer and strangers that mean harm.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from attrs import define

from tests.proof.conftest import Tell
from tests.proof.described import COMMANDS, RECORDS
from tests.support.programs import Host, World, free_port, snapshot

#: Seconds of the shorter run.
SOON: Final = 30

#: Files of the honest move, and how many times its usual time it may take.
FILES: Final = 2000
SLOWER: Final = 3

#: What the daemon may use meanwhile.
MOST_MEMORY: Final = 150 * 1024 * 1024
DESCRIPTORS: Final = 1024
LOG_BURST: Final = 256 * 1024
LOG_AN_HOUR: Final = 1024 * 1024


@define
class Watched:
    """
    A daemon, and the most that it used.
    """

    pid: int
    descriptors: int = 0

    def look(self) -> None:
        """
        See how much it uses now.
        """
        used = len(os.listdir(f"/proc/{self.pid}/fd"))
        self.descriptors = max(self.descriptors, used)

    @property
    def memory(self) -> int:
        """
        The most bytes that it had in memory.
        """
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


def timed_move(world: World, watched: Watched, number: int) -> float:
    """
    Move files to a directory of their own, and see that they are there.

    :returns: how many seconds it took.
    """
    source = world.folder / f"source-{number}"
    (source / "honest").mkdir(parents=True)
    for each in range(FILES):
        (source / "honest" / f"{each}").write_bytes(os.urandom(50 + each))
    before = snapshot(source)
    arrived = world.nas.directory("inbox") / f"move-{number}"
    arrived.mkdir()
    began = time.monotonic()
    process = world.begin("move", source, f"nas:inbox/move-{number}")
    while process.poll() is None:
        watched.look()
        assert time.monotonic() - began < 120, "the move does not end"
        time.sleep(0.05)
    took = time.monotonic() - began
    out, err = process.communicate()
    assert process.returncode == 0, (out, err)
    assert snapshot(arrived) == before
    assert snapshot(source) == {}
    return took


def test_described() -> None:
    """
    What is asked at random is all that the protocol has.
    """
    assert {"List", "Offer", "Write", "Reuse", "Sign", "SetThrottle"} < COMMANDS.keys()
    assert [key for key, _ in RECORDS["Offers"][1]] == ["files", "directories"]
    assert dict(RECORDS["Sign"][1])["spans"] == "list of Span"
    assert RECORDS["Reuse"][0] == "reuse"


@pytest.mark.alone
@pytest.mark.parametrize(
    "seconds",
    [SOON, pytest.param(600, marks=pytest.mark.nightly)],
    ids=["soon", "long"],
)
def test_beside_a_hostile_peer(world: World, tell: Tell, seconds: int) -> None:
    """
    A move of small files ends, whole, and what the daemon uses is bounded, however many
    requests of whatever kind come; the longer run takes the time and the memory, too.
    """
    evil = Host("evil", world.folder / "evil")
    world.nas.settings["inbox"] = (
        'put = ["me", "evil"]\nreplace = ["me", "evil"]\ntake = ["me"]'
    )
    rights = 'put = ["evil"]\nreplace = ["evil"]\ntake = ["evil"]'
    pool = world.nas.offer("pool", rights)
    with (pool / "large").open("wb") as large:
        large.write(os.urandom(1024 * 1024) * 256)
    with (pool / "hole").open("wb") as hole:
        hole.truncate(2**40)
    world.configure()
    world.nas.configure(world.me, evil)
    limit = f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"
    metrics = free_port()
    world.nas.start(f"--metrics-addr=127.0.0.1:{metrics}", wrapper=("prlimit", limit))
    assert world.nas.daemon is not None
    watched = Watched(world.nas.daemon.pid)
    usual = min(timed_move(world, watched, number) for number in (0, 1))

    plan = {"port": world.nas.port, "key": str(evil.key), "seconds": seconds}
    began = time.monotonic()
    attack = subprocess.Popen(
        [sys.executable, "-m", "tests.proof.hostile", json.dumps(plan)],
        stdout=subprocess.PIPE,
    )
    took = []
    try:
        while attack.poll() is None:
            took.append(timed_move(world, watched, len(took) + 2))
            world.nas.daemon.send_signal(signal.SIGHUP)
        made = json.loads(attack.communicate()[0])
    finally:
        attack.kill()
        attack.wait()
    hours = (time.monotonic() - began) / 3600
    logged = world.nas.log.read_bytes()
    tell(
        f"{sum(made.values())} attacks, {len(took)} moves of {max(took):.1f} s at most "
        f"({usual:.1f} s alone), {watched.memory / 1e6:.0f} MB, "
        f"{watched.descriptors} descriptors, {len(logged)} bytes of log"
    )
    assert world.nas.daemon.poll() is None, logged
    assert b"Traceback" not in logged
    assert b"BUG" not in logged
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xe2\x80\xae", logged)
    assert "A SINGLE BYTE WAS SIGNED" not in made
    assert all(made[name] for name in ("anything", "unread", "silent", "tiny"))
    assert len(logged) < LOG_BURST + LOG_AN_HOUR * hours
    assert watched.descriptors < DESCRIPTORS * 15 // 16
    if seconds > SOON:
        # What others have to do at the same time changes these.
        assert watched.memory < MOST_MEMORY
        assert max(took) < SLOWER * usual
    began = time.monotonic()
    world.nas.stop()
    assert time.monotonic() - began < 10
