"""
What is done to daemons that run: signals, and moves that last.
"""

from __future__ import annotations

import os
import subprocess
import time

from tests.support.daemon import wait_for
from tests.support.programs import PATIENCE, World


def tell(world: World, number: int) -> None:
    """
    Send the daemon on ``nas`` a signal.
    """
    assert world.nas.daemon is not None
    world.nas.daemon.send_signal(number)


def begin_slow_move(world: World, seconds: int = 3) -> subprocess.Popen[bytes]:
    """
    A move to ``nas`` of a large file and small ones that takes so many seconds.
    """
    source = world.folder / "source"
    (source / "large").write_bytes(os.urandom(seconds * 2 * 1024 * 1024))
    (source / "small").write_bytes(b"x")
    process = world.begin(source, "nas:inbox", "--throttle", "2M")
    wait_for(world.nas.log, r"peer-connected: me ")
    deadline = time.monotonic() + PATIENCE
    while not list(world.nas.directory("inbox").glob(".large*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process
