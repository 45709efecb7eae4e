"""
Moves that are interrupted, by their user, the clock or the line.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time

import pytest

from tests.support.programs import PATIENCE, World, events_in, regular_files

pytestmark = pytest.mark.daemons


def test_out_of_time(world: World) -> None:
    """
    Exit 11, what is left is counted, and running again continues.
    """
    source = world.folder / "s"
    source.mkdir()
    (source / "f").write_bytes(bytes(1 << 20))
    os.kill(world.nas.daemon.pid, signal.SIGSTOP)
    said = world.realize(source, "nas:inbox", "--max-duration", "1s", status=11)
    assert "--max-duration" in said.err
    os.kill(world.nas.daemon.pid, signal.SIGCONT)
    world.realize(source, "nas:inbox")
    assert list(regular_files(source)) == []


def wait_for(condition: object, process: subprocess.Popen[bytes]) -> None:
    """
    Until a condition holds, while a process runs.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_interrupted(world: World) -> None:
    """
    It says so at once, waits ten seconds for what is in progress, sums up, and ends
    with 20; the next run keeps what had arrived.
    """
    source, inbox = world.folder / "s", world.nas.directory("inbox")
    source.mkdir()
    content = os.urandom(1 << 20) * 200
    (source / "large").write_bytes(content)
    (source / "small").write_text("1")
    process = world.begin(source, "nas:inbox")
    wait_for(
        lambda: any(
            partial.stat().st_size > 50 << 20
            for partial in inbox.glob(".large.realize-part")
        ),
        process,
    )
    os.kill(world.nas.daemon.pid, signal.SIGSTOP)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline().decode()
    assert time.monotonic() - began < 2
    assert line.startswith("realize: interrupted: finishing what is in progress")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 20, (out, err)
    assert 5 < time.monotonic() - began < 30
    assert b"1 left" in out
    assert b"Run the same command again to continue" in out
    os.kill(world.nas.daemon.pid, signal.SIGCONT)

    said = world.realize(source, "nas:inbox", "--output", "json")
    assert said.json[-1]["kept"] > 40 << 20
    assert (inbox / "large").read_bytes() == content
    assert list(regular_files(source)) == []
    assert stat.S_IMODE((inbox / "large").stat().st_mode) == 0o644


def test_interrupted_twice(world: World) -> None:
    """
    The second signal ends it at once, with the same status.
    """
    source, inbox = world.folder / "s", world.nas.directory("inbox")
    source.mkdir()
    (source / "f").write_bytes(os.urandom(50 << 20))
    process = world.begin(source, "nas:inbox", "--throttle-up", "1M", "--output=quiet")
    wait_for(lambda: list(inbox.glob(".f.realize-part")), process)
    # What is in progress will not come to its end.
    os.kill(world.nas.daemon.pid, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    assert b"interrupted" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 20
    assert err == b"realize: stopped at once\n"


def test_interrupted_while_waiting_for_a_connection(world: World) -> None:
    """
    There is nothing to wait for then.
    """
    world.nas.stop()
    with socket.create_server(("127.0.0.1", world.nas.port)) as silent:
        process = world.begin(".", "nas:inbox")
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=5)
    assert process.returncode == 20, err


def test_a_lost_connection_is_made_again(world: World) -> None:
    """
    The daemon is killed in the middle, and started again: the move goes on.
    """
    source, inbox = world.folder / "s", world.nas.directory("inbox")
    source.mkdir()
    content = os.urandom(1 << 20) * 300
    (source / "large").write_bytes(content)
    log = ("--log-file", "log", "--log-format", "json", "--log-level", "info")
    process = world.begin(source, "nas:inbox", "--output", "json", *log)
    wait_for(
        lambda: any(
            partial.stat().st_size > 30 << 20
            for partial in inbox.glob(".large.realize-part")
        ),
        process,
    )
    world.nas.stop(signal.SIGKILL)
    world.nas.start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    assert b"trying again in" in err
    assert b"going on" in err
    summary = json.loads(out.splitlines()[-1])
    assert summary["reconnects"] == 1
    assert summary["kept"] > 0
    assert events_in(world.folder / "log") == [
        "move-began",
        "connection-lost",
        "reconnected",
        "file-moved",
        "move-ended",
    ]
    assert (inbox / "large").read_bytes() == content
    assert list(regular_files(source)) == []
