"""
Limits of real moves: given, changed in the middle, kept over a lost connection.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.epollreactor import EPollReactor

from realize.net.keys import load_private_key
from realize.peers import parse_public_key
from realize.wire.remote import Connection, connect
from tests.support.programs import World
from tests.support.relay import Relay

K, M = 1024, 1024 * 1024


pytestmark = pytest.mark.usefixtures("controlled")


@pytest.fixture
def runtime(tmp_path: Path) -> dict[str, str]:
    """
    A folder for sockets, as the environment names it.
    """
    (tmp_path / "run").mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run")}


def behind(world: World) -> Relay:
    """
    Start the daemon, and let the client reach it through a relay only.
    """
    world.nas.start()
    relay = Relay(world.nas.port)
    text = world.me.config.read_text()
    world.me.config.write_text(
        text.replace(f"127.0.0.1:{world.nas.port}", f"127.0.0.1:{relay.port}")
    )
    return relay


def plant(folder: Path, size: int) -> Path:
    """
    A directory with one file that can't be compressed.
    """
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(size))
    return folder


def wait_until(truth: Any, seconds: float = 20.0) -> None:
    """
    Wait for something to become true.
    """
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def end(move: subprocess.Popen[bytes]) -> tuple[int, str]:
    """
    Wait for a move: its status, and what it said on standard error.
    """
    _out, err = move.communicate(timeout=60)
    return move.returncode, err.decode()


@pytest.mark.alone
def test_change_in_the_middle_of_a_move(
    world: World, tmp_path: Path, runtime: dict[str, str]
) -> None:
    """
    From 1 MiB/s to 10 MiB/s and back, from outside, felt on the wire within 200 ms.
    """
    relay = behind(world)
    source = plant(tmp_path / "source", 200 * M)
    move = world.begin("move", source, "nas:inbox", "--throttle", "1M", env=runtime)
    wait_until(lambda: relay.rate(0, time.monotonic()) * time.monotonic() > 2 * M)

    def ask(up: str) -> float:
        said = world.realize(
            "throttle", "--pid", str(move.pid), "--up", up, env=runtime
        )
        assert "up" in said.out
        return time.monotonic()

    began = time.monotonic()
    time.sleep(1.5)
    assert relay.rate(began, began + 1.5) == pytest.approx(M, rel=0.1)
    after = ask("10M")
    time.sleep(1.7)
    assert relay.rate(after + 0.2, after + 1.7) == pytest.approx(10 * M, rel=0.1)
    after = ask("1M")
    time.sleep(1.7)
    assert relay.rate(after + 0.2, after + 1.7) == pytest.approx(M, rel=0.1)
    listed = world.realize("status", "--local", env=runtime)
    assert f"{move.pid}: {source} to nas:inbox" in listed.out
    assert "limit 1 MiB/s" in listed.out
    move.kill()
    end(move)
    listed = world.realize("status", "--local", env=runtime)
    assert "no moves" in listed.err
    relay.close()


@pytest.mark.alone
def test_limit_survives_a_lost_connection(world: World, tmp_path: Path) -> None:
    """
    The move goes on at its speed; what an administrator set on its connection holds
    too, and nobody else's connection has it.
    """
    relay = behind(world)
    source = plant(tmp_path / "source", 30 * M)
    move = world.begin("move", source, "nas:inbox", "--throttle-up", "1M")
    wait_until(lambda: relay.arrived)
    time.sleep(1)
    world.realize("throttle", "nas", "--connection", "1", "--receive", "500K")
    relay.cut()
    relay.arrived.clear()
    wait_until(lambda: sum(size for _when, size in relay.arrived) > 300 * K)
    began = time.monotonic()
    time.sleep(2)
    assert relay.rate(began, began + 2) == pytest.approx(500 * K, rel=0.1)
    listed = world.realize("throttle", "nas")
    assert "500 KiB/s" in listed.out
    world.realize("throttle", "nas", "--connection", "1", "--receive", "off")
    began = time.monotonic()
    time.sleep(2)
    assert relay.rate(began + 0.2, began + 2) == pytest.approx(M, rel=0.1)
    move.send_signal(signal.SIGKILL)
    end(move)
    relay.close()


@pytest.mark.alone
def test_slow_service_still_answers(world: World, tmp_path: Path) -> None:
    """
    Under 32 KiB/s, used up by a move in each direction, a status is answered in two
    seconds; Ctrl-C does not wait for what is queued.
    """
    world.allow_control('send_limit = "32K"\nreceive_limit = "32K"')
    world.nas.start()
    moves = [
        world.begin("move", plant(tmp_path / "source", 20 * M), "nas:inbox"),
        world.begin("move", "nas:inbox", make(tmp_path / "target")),
    ]
    plant(world.nas.directory("inbox") / "more", 20 * M)
    time.sleep(5)
    seconds, status = ask_status(world)
    assert seconds < 2
    assert status.service.send == 32 * K
    began = time.monotonic()
    for move in moves:
        move.send_signal(signal.SIGINT)
    for move in moves:
        status_, err = end(move)
        assert status_ == 20, err
    # Ten seconds are given to files in progress; no more than a second's worth of
    # bytes is on its way then.
    assert time.monotonic() - began < 14


def make(folder: Path) -> Path:
    """
    A directory.
    """
    folder.mkdir()
    return folder


def ask_status(world: World) -> tuple[float, Any]:
    """
    Seconds that a whole connection for the status takes, and the status.
    """
    clock: Any = EPollReactor()

    async def ask() -> tuple[float, Any]:
        began = clock.seconds()
        connection: Connection = await connect(
            TCP4ClientEndpoint(clock, "127.0.0.1", world.nas.port),
            load_private_key(world.me.key),
            "nas",
            parse_public_key(world.nas.public_key),
            os.urandom(16),
            clock,
        )
        status = await connection.get_status()
        seconds = clock.seconds() - began
        await connection.close()
        return seconds, status

    results: list[Any] = []
    Deferred.fromCoroutine(ask()).addBoth(results.append)
    while not results:
        clock.iterate(0.05)
    clock.removeAll()
    result: tuple[float, Any] = results[0]
    return result


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--throttle-down", "1M"], 0, "--throttle-down has no effect"),
        (["--throttle-up", "1M"], 0, "limits: up 1 MiB/s"),
        (["--throttle", "1M"], 0, "limits: up 1 MiB/s"),
        (["--throttle", "2M"], 0, "up 1.5 MiB/s (2 MiB/s asked for; nas allows less)"),
        (["--throttle", "off"], 0, "limits: up 1.5 MiB/s (off asked for"),
    ],
)
def test_effective_values_are_said(
    world: World, tmp_path: Path, words: list[str], status: int, says: str
) -> None:
    """
    What holds is the smaller of what both ends want; what has no effect is said.
    """
    world.allow_control('receive_limit = "1536K"')
    world.nas.start()
    source = plant(tmp_path / "source", 10 * K)
    said = world.realize("move", source, "nas:inbox", *words)
    assert said.status == status
    assert says in said.err
    assert (
        "limits"
        not in world.realize(
            "move", plant(tmp_path / "s", 10), "nas:inbox", *words, "--output", "quiet"
        ).err
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--peer", "laptop"], "nas: there is no peer 'laptop'; known here: me"),
        (["--peer", ""], "nas: there is no peer ''; known here: me"),
        (["--connection", "99"], "nas: there is no connection 99; there are: "),
    ],
)
def test_what_the_daemon_does_not_know_is_a_mistake_of_usage(
    world: World, words: list[str], says: str
) -> None:
    """
    A peer or a connection; and nothing else is limited in its place.
    """
    world.nas.start()
    said = world.realize("throttle", "nas", *words, "--send", "1M", status=2)
    assert says in said.err
    assert "service  off" in world.realize("throttle", "nas").out


def test_configured_limits_and_refusals(world: World, tmp_path: Path) -> None:
    """
    A limit of the peer holds from the start; who lacks the right is told which.
    """
    world.configure()
    text = world.nas.config.read_text()
    world.nas.config.write_text(
        text.replace("[peers.me]", '[peers.me]\nsend_limit = "20K"')
    )
    world.nas.start()
    plant(world.nas.directory("inbox") / "more", 100 * K)
    began = time.monotonic()
    world.realize("move", "nas:inbox", make(tmp_path / "target"))
    assert time.monotonic() - began > 4
    said = world.realize("throttle", "nas", status=3)
    assert "control = true" in said.err
    said = world.realize("throttle", "nas", "--send", "1M", status=3)
    assert "control = true" in said.err
    assert "not changed for me" in world.nas.log.read_text()
