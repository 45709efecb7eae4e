"""
What the service manager is told, over a socket like its own.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from realize.observe.notify import Notifier, start_watchdog, watchdog_interval


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, str]]:
    """
    A socket that the service manager listens on, and its name in the environment.
    """
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        if request.param == "abstract":
            listener.bind("\0" + name)
            yield listener, "@" + name
        else:
            listener.bind(name)
            yield listener, name


def test_what_is_said(manager: tuple[socket.socket, str]) -> None:
    """
    In the words of sd_notify(3).
    """
    listener, name = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name})

    def heard() -> str:
        return listener.recv(4096).decode()

    notifier.ready("1 connection")
    assert heard() == "READY=1\nSTATUS=1 connection"
    notifier.status("2 connections")
    assert heard() == "STATUS=2 connections"
    notifier.reloading()
    first, second = heard().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()
    notifier.stopping()
    assert heard().startswith("STOPPING=1\nSTATUS=")
    notifier.alive()
    assert heard() == "WATCHDOG=1"


def test_a_full_queue(manager: tuple[socket.socket, str]) -> None:
    """
    Signs of life are dropped; that we are ready waits for room.
    """
    listener, name = manager
    notifier = Notifier(name)
    for _ in range(1000):
        notifier.alive()
    reader = threading.Timer(0.1, listener.recv, [4096])
    reader.start()
    notifier.ready("")
    reader.join()
    listener.setblocking(False)
    heard = []
    with suppress(BlockingIOError):
        while True:
            heard.append(listener.recv(4096).decode())
    assert heard[-1].startswith("READY=1")
    assert len(heard) < 1000


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "@nobody-listens-here"])
def test_nobody_to_tell(name: str) -> None:
    """
    No reason to fail, or to wait.
    """
    Notifier.from_environment({"NOTIFY_SOCKET": name}).ready("")


def test_signs_of_life(manager: tuple[socket.socket, str]) -> None:
    """
    Twice as often as needed, until told otherwise.
    """
    listener, name = manager
    listener.setblocking(False)
    interval = watchdog_interval({"WATCHDOG_USEC": "60000000"})
    assert interval == 30
    clock = Clock()
    stop = start_watchdog(Notifier(name), interval, clock)
    clock.advance(30)
    clock.advance(30)
    stop()
    clock.advance(300)
    heard = [listener.recv(100) for _ in range(3)]
    assert heard == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        listener.recv(100)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_whether_signs_are_wanted(
    environ: dict[str, str], interval: float | None
) -> None:
    """
    Only from the process that is meant.
    """
    assert watchdog_interval(environ) == interval
