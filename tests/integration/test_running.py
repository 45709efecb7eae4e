"""
A daemon that goes on while it is looked after: reloads, log levels, logrotate.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import wait_for
from tests.support.programs import World
from tests.support.requirements import find_program, needs
from tests.support.running import begin_slow_move, tell

pytestmark = pytest.mark.usefixtures("controlled", "source_folder")

DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


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
        (world.folder / "source" / f"{number}").write_bytes(os.urandom(4096))
    # Slow until the log was rotated twice, however long that takes.
    world.realize("throttle", "nas", "--receive", "32K")
    moving = world.begin(world.folder / "source", "nas:inbox")
    command = [find_program("logrotate"), "--force", "--state", tmp_path / "state"]
    for number in (1, 2):
        wait_for(logs / "audit.log", '"event": ?"final"')
        subprocess.run([*command, rules], check=True)
        wait_for(world.nas.log, rf"(?s)(reloaded: .*){{{number}}}")
    world.realize("throttle", "nas", "--receive", "off")
    assert moving.wait(60) == 0
    kept = sorted(path.name for path in logs.iterdir())
    assert kept == ["audit.log", "audit.log.1", "audit.log.2.gz"]
    texts = [gzip.decompress((logs / "audit.log.2.gz").read_bytes()).decode()]
    texts += [(logs / name).read_text() for name in ("audit.log.1", "audit.log")]
    assert all(texts)
    receipts = [json.loads(line) for text in texts for line in text.splitlines()]
    assert sorted(int(receipt["path"]) for receipt in receipts) == list(range(300))


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
