"""
Under systemd: what it hears, socket activation, and the units.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field

from realize.daemon.upkeep import STATUS_INTERVAL
from tests.support.daemon import wait_for
from tests.support.programs import PATIENCE, PROGRAMS, World, environment
from tests.support.requirements import find_program, needs
from tests.support.running import begin_slow_move, tell

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


pytestmark = pytest.mark.usefixtures("controlled", "source_folder")


@define
class Manager:
    """
    A socket like the one on which systemd hears of its services.
    """

    path: Path
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(PATIENCE)

    def close(self) -> None:
        """
        Nobody listens any more.
        """
        self._socket.close()

    def drain(self) -> list[str]:
        """
        What is there already.
        """
        heard = []
        self._socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                heard.append(self._socket.recv(4096).decode())
        self._socket.settimeout(PATIENCE)
        return heard

    def until(self, text: str) -> str:
        """
        Wait for a message that has something, and return it.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self._socket.recv(4096).decode()
            if text in message:
                return message
        raise AssertionError(f"not heard: {text}")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """
    One that listens.
    """
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def test_what_systemd_hears(world: World, manager: Manager) -> None:
    """
    Ready only when connections are answered; signs of life; connections and rates;
    reloads; and the end.
    """
    world.nas.start(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="1000000")
    ready = manager.until("READY=1")
    assert ready == "READY=1\nSTATUS=0 connections, 0 B/s received, 0 B/s sent"
    for _ in range(3):
        assert manager.until("WATCHDOG") == "WATCHDOG=1"
    # Killed long before it is over, however slow the machine.
    moving = begin_slow_move(world, seconds=20 * int(STATUS_INTERVAL))
    try:
        status = manager.until(" MiB/s received, ")
        assert status.startswith("STATUS=1 connection, ")
        tell(world, signal.SIGHUP)
        told = manager.until("RELOADING")
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told)
        told = manager.until("READY=1")
        assert told.startswith("READY=1\nSTATUS=1 connection, ")
    finally:
        moving.kill()
        moving.communicate()
    manager.drain()  # few messages fit into it, and those that do not are dropped
    world.nas.stop()
    assert manager.until("STOPPING=1").startswith("STOPPING=1\nSTATUS=")


def test_no_signs_of_life_from_a_reactor_that_hangs(
    world: World, manager: Manager
) -> None:
    """
    Which is what the watchdog is for.
    """
    world.nas.start(NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="200000")
    manager.until("WATCHDOG=1")
    tell(world, signal.SIGSTOP)
    time.sleep(0.5)
    manager.drain()
    time.sleep(0.5)
    assert manager.drain() == []


@needs("systemd-socket-activate")
def test_a_move_through_socket_activation(world: World) -> None:
    """
    systemd listens; the first connection starts the daemon, which serves it.
    """
    nas = world.nas
    with nas.log.open("ab") as log:
        starter = subprocess.Popen(
            [
                find_program("systemd-socket-activate"),
                *("-l", f"127.0.0.1:{nas.port}", "--fdname=realized"),
                *(PROGRAMS / "twistd", "-n", "--pidfile=", "realized"),
                *("--config", nas.config, "--log-format", "text"),
                *("--address", "systemd:domain=INET:name=realized"),
            ],
            cwd=nas.folder,
            env=environment(),
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(nas.log, "Listening on ")
        assert "started: " not in nas.log.read_text()
        (world.folder / "source" / "a").write_text("a")
        world.realize(world.folder / "source", "nas:inbox")
        assert (nas.directory("inbox") / "a").read_text() == "a"
        wait_for(nas.log, rf"started: realized \S+ listens on 127.0.0.1:{nas.port},")
    finally:
        starter.terminate()
        starter.wait(PATIENCE)


def installed(tmp_path: Path) -> list[Path]:
    """
    The units, naming programs that are there.
    """
    copies = []
    for unit in sorted(UNITS.iterdir()):
        text = unit.read_text().replace("/usr/local/bin", str(PROGRAMS))
        name = unit.name.replace("@.", "@camera.")
        copies.append(tmp_path / name)
        copies[-1].write_text(text)
    return copies


@needs("systemd-analyze")
def test_units_are_valid(tmp_path: Path) -> None:
    """
    Nothing to complain about in any of them.
    """
    units = installed(tmp_path)
    assert len(units) == 4
    ended = subprocess.run(
        [find_program("systemd-analyze"), "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@needs("systemd-analyze")
def test_the_daemons_unit_is_hardened() -> None:
    """
    An exposure of 2.0 at most; the threshold is in tenths.
    """
    ended = subprocess.run(
        [
            find_program("systemd-analyze"),
            *("security", "--offline=true", "--threshold=20", "--no-pager"),
            UNITS / "realized.service",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ended.stdout)
    assert found
    assert float(found[1]) <= 2.0


def test_units_use_options_that_there_are(world: World, tmp_path: Path) -> None:
    """
    What the daemon's unit starts, starts; the check that it makes before succeeds.
    """
    service = (UNITS / "realized.service").read_text()
    for setting in ("ExecStartPre", "ExecStart"):
        found = re.search(rf"^{setting}=/usr/local/bin/twistd (.*)$", service, re.M)
        assert found
        words = (
            found[1]
            .replace("%d/realized.key", str(world.nas.key))
            .replace("/etc/realize/config.toml", str(world.nas.config))
            .split()
        )
        if setting == "ExecStart":
            words += ["--check"]
        ended = subprocess.run(
            [PROGRAMS / "twistd", *words, "--address", "127.0.0.1:0"],
            cwd=tmp_path,
            env=environment(REALIZE_JOURNAL=str(journal_at(tmp_path))),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


def journal_at(folder: Path) -> Path:
    """
    A socket that takes what is logged; one for a folder.
    """
    path = folder / "journal"
    if not path.exists():
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(path))
        _LISTENERS.append(listener)
    return path


_LISTENERS: list[socket.socket] = []


def test_the_unit_of_a_move(world: World) -> None:
    """
    The options in it are ones of the command, and its statuses are no failures.
    """
    service = (UNITS / "realize-move@.service").read_text()
    assert re.search(r"^SuccessExitStatus=4 20$", service, re.M)
    found = re.search(
        r"^ExecStart=/usr/local/bin/realize (move .*) \$OPTIONS$", service, re.M
    )
    assert found
    world.nas.start()
    (world.folder / "source" / "a").write_text("a")
    words = (
        found[1]
        .replace("${SRC}", str(world.folder / "source"))
        .replace("${DST}", "nas:inbox")
        .replace("/etc/realize/config.toml", str(world.me.config))
        .replace("%d/realize.key", str(world.me.key))
    )
    said = world.realize(*words.split())
    assert "move-ended: Moved 1 files, 1 B" in said.err
