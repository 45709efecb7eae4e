"""
A daemon that goes on while it is looked after: reloads, log levels, logrotate, and
what systemd hears of it.
"""

from __future__ import annotations

import gzip
import json
import os
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

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


@pytest.fixture
def world(world: World, tmp_path: Path) -> World:
    """
    Two daemons that are not started yet; ``me`` may control ``nas``.
    """
    text = world.nas.config.read_text()
    world.nas.config.write_text(
        text.replace("[peers.me]", "[peers.me]\ncontrol = true")
    )
    (tmp_path / "source").mkdir()
    return world


DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


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


# -- reload


def test_reload_keeps_connections(world: World) -> None:
    """
    Peers, directories and limits change; a transfer that is under way goes on, also
    in a directory whose settings have changed.
    """
    world.nas.start()
    moving = begin_slow_move(world)
    new = world.nas.offer("new", 'put = ["me"]')
    text = world.nas.config.read_text()
    text = text.replace('put = ["me"]', 'put = ["me"]\nfile_mode = "0640"', 1)
    text += f'\n[directories.new]\npath = "{new}"\nput = ["me"]\n'
    text += '\n[service]\nsend_limit = "5M"\n'
    world.nas.config.write_text(text)
    tell(world, signal.SIGHUP)
    said = wait_for(world.nas.log, r"reloaded: Configuration read again: (.*)\.$")
    assert said[1] == (
        "directories: new is new, inbox has changed; limits of the service"
    )
    assert moving.wait(60) == 0, moving.communicate()
    assert len(re.findall("peer-connected", world.nas.log.read_text())) == 1

    extra = world.folder / "extra"
    extra.mkdir()
    (extra / "a").write_text("a")
    world.realize(extra, "nas:new")
    (extra / "b").write_text("b")
    world.realize(extra, "nas:inbox")
    assert (world.nas.directory("inbox") / "b").stat().st_mode & 0o777 == 0o640


def test_reload_names_what_has_to_wait(world: World) -> None:
    """
    Address, key and log are those of the start.
    """
    world.nas.start()
    text = world.nas.config.read_text().replace("host.key", "other.key", 1)
    text += '\n[service]\naddress = "*:1"\nlog_level = "debug"\nsend_limit = "1M"\n'
    world.nas.config.write_text(text)
    tell(world, signal.SIGHUP)
    said = wait_for(world.nas.log, r"reloaded: Configuration read again: (.*)\.$")
    assert said[1] == (
        "limits of the service; not before the next start: address, log_level, privkey"
    )
    assert " debug " not in world.nas.log.read_text()


def test_reload_takes_rights_away(world: World) -> None:
    """
    At the next request, from a connection that was there before; other files of the
    same move are refused.
    """
    world.nas.start()
    moving = begin_slow_move(world)
    text = world.nas.config.read_text()
    world.nas.config.write_text(re.sub(r"(put|replace|take) = .*\n", "", text))
    tell(world, signal.SIGHUP)
    out, err = moving.communicate(timeout=60)
    assert moving.returncode == 1, (out, err)
    assert b"no such directory, or me may not put there" in err
    assert (world.folder / "source" / "large").exists()


def test_reload_sends_strangers_away(world: World) -> None:
    """
    A peer that is none any more loses its connection, and gets no other.
    """
    world.nas.start()
    moving = begin_slow_move(world)
    text = world.nas.config.read_text()
    text = text[: text.index("[peers.me]")]
    world.nas.config.write_text(text.replace('["me"]', "[]"))
    tell(world, signal.SIGHUP)
    _out, err = moving.communicate(timeout=60)
    assert moving.returncode == 3
    assert b"this key is not known here any more" in err
    assert (world.folder / "source" / "large").exists()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("\n[service]\nadress = 'x'\n", r'adress: unknown setting; .*"address"\?'),
        (
            '\n[directories.gone]\npath = "/nowhere/gone"\nput = ["me"]\n',
            r"\[directories\.gone\] path: /nowhere/gone: ",
        ),
        ("\nthis is not TOML", "config.toml: "),
    ],
)
def test_reload_refuses_a_bad_file(world: World, broken: str, reason: str) -> None:
    """
    The old configuration holds, and the daemon goes on; mended, the file is taken.
    """
    world.nas.start()
    good = world.nas.config.read_text()
    world.nas.config.write_text(good + broken)
    tell(world, signal.SIGHUP)
    wait_for(
        world.nas.log, rf"error reload-refused: Configuration not changed: .*{reason}"
    )
    (world.folder / "source" / "a").write_text("a")
    world.realize(world.folder / "source", "nas:inbox")
    world.nas.config.write_text(good)
    tell(world, signal.SIGHUP)
    wait_for(world.nas.log, "reloaded: Configuration read again: nothing has changed")


def test_a_directory_that_is_gone_does_not_prevent_a_reload(world: World) -> None:
    """
    Only new ones have to be there: a disk may be away just now.
    """
    world.nas.start()
    world.nas.directory("inbox").rmdir()
    text = world.nas.config.read_text()
    world.nas.config.write_text(f'{text}\n[service]\nsend_limit = "1M"\n')
    tell(world, signal.SIGHUP)
    wait_for(world.nas.log, r"reloaded: .*: limits of the service\.$")


def test_logrotate(world: World, tmp_path: Path) -> None:
    """
    After SIGHUP lines and receipts are in new files of the old names.
    """
    log, audit = tmp_path / "nas.log", tmp_path / "nas.audit"
    world.nas.start("--log-file", str(log), "--audit-log", str(audit))
    for path in (log, audit):
        path.rename(f"{path}.1")
    tell(world, signal.SIGHUP)
    wait_for(log, "reloaded: ")
    (world.folder / "source" / "a").write_text("a")
    world.realize(world.folder / "source", "nas:inbox")
    assert "file-final: a is in inbox" in log.read_text()
    assert json.loads(audit.read_text())["path"] == "a"
    assert "started: " in Path(f"{log}.1").read_text()
    assert Path(f"{audit}.1").read_text() == ""


@needs("logrotate", root=True)
def test_a_real_logrotate(world: World, tmp_path: Path) -> None:
    """
    With the lines of docs/deployment.md, in the middle of a move: each receipt is in
    one of the files, once.
    """
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o750)
    world.nas.start("--audit-log", str(logs / "audit.log"))
    assert world.nas.daemon is not None
    snippet = re.search(
        r"^```\n(/var/log/.*?)^```$", DEPLOYMENT.read_text(), re.M | re.S
    )
    assert snippet is not None
    rules = tmp_path / "logrotate.conf"
    rules.write_text(
        snippet[1]
        .replace("/var/log/realize", str(logs))
        .replace("su realize realize", "su root root")
        .replace(
            "systemctl reload realized.service", f"kill -HUP {world.nas.daemon.pid}"
        )
    )
    rules.chmod(0o644)
    for number in range(300):
        (world.folder / "source" / f"{number}").write_bytes(b"x" * 4096)
    moving = world.begin(world.folder / "source", "nas:inbox", "--throttle", "256K")
    command = [find_program("logrotate"), "--force", "--state", tmp_path / "state"]
    for number in (1, 2):
        wait_for(logs / "audit.log", '"event": ?"final"')
        subprocess.run([*command, rules], check=True)
        wait_for(world.nas.log, rf"(?s)(reloaded: .*){{{number}}}")
    assert moving.wait(60) == 0
    kept = sorted(path.name for path in logs.iterdir())
    assert kept == ["audit.log", "audit.log.1", "audit.log.2.gz"]
    texts = [gzip.decompress((logs / "audit.log.2.gz").read_bytes()).decode()]
    texts += [(logs / name).read_text() for name in ("audit.log.1", "audit.log")]
    assert all(texts)
    receipts = [json.loads(line) for text in texts for line in text.splitlines()]
    assert sorted(int(receipt["path"]) for receipt in receipts) == list(range(300))


# -- levels


def test_debug_on_and_off_by_signal(world: World) -> None:
    """
    SIGUSR2, and once more.
    """
    world.nas.start()
    tell(world, signal.SIGUSR2)
    wait_for(world.nas.log, r"level-changed: Log level is debug \(was info\), by SIG")
    (world.folder / "source" / "a").write_text("a")
    world.realize(world.folder / "source", "nas:inbox")
    wait_for(world.nas.log, "debug request-answered: Finish of me answered in ")
    tell(world, signal.SIGUSR2)
    wait_for(world.nas.log, r"level-changed: Log level is info \(was debug\), by SIG")


def test_loglevel(world: World) -> None:
    """
    By a peer with control, for a while; not by another.
    """
    world.nas.start()
    said = world.realize("loglevel", "nas", "info,wire=debug", "--for", "1s")
    assert said.out == "nas logs at info,wire=debug for 1.0s; it was info.\n"
    wait_for(world.nas.log, "debug request-answered: SetLogLevel of me answered")
    wait_for(world.nas.log, r"is info \(was info,wire=debug\), by the end of its time")
    assert world.realize("loglevel", "nas", "warn").out == (
        "nas logs at warn; it was info.\n"
    )
    world.box.start()
    said = world.realize("loglevel", "box", "debug", status=3)
    assert "control" in said.err
    said = world.realize("loglevel", "nas", "loud", status=2)
    assert "unknown log level 'loud'" in said.err


# -- systemd


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
