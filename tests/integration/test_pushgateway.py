"""
The metrics of a move, pushed to a Pushgateway.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import PATIENCE, World, free_port
from tests.support.requirements import find_program, needs
from tests.support.scraping import LAST_SUCCESS, get, grow, samples, wait_until


@pytest.fixture
def pushgateway(tmp_path: Path) -> Iterator[int]:
    """
    The port of a gateway.
    """
    port = free_port()
    process = subprocess.Popen(
        [
            str(find_program("prometheus-pushgateway")),
            f"--web.listen-address=127.0.0.1:{port}",
            # Debian's default is a file of the system's, with what was pushed before.
            "--persistence.file=",
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ready() -> bool:
        try:
            return bool(get(port, "/-/ready").status == 200)
        except OSError:
            return False

    try:
        wait_until(ready, "ready")
        yield port
    finally:
        process.kill()
        process.wait()


def pushed(port: int, name: str) -> list[float]:
    """
    Values of a series at the gateway.
    """
    text = get(port).body.decode()
    return list(samples(text, name).values())


@needs("prometheus-pushgateway")
def test_the_gateway_keeps_the_last_success(world: World, pushgateway: int) -> None:
    """
    Through a run that fails.
    """
    source, there = world.folder / "source", world.folder / "there"
    grow(source, 2)
    there.mkdir()
    words = [
        *("source", "there", "--metrics-pushgateway"),
        *(f"http://127.0.0.1:{pushgateway}", "--metrics-instance", "here/there"),
    ]

    world.realize(*words)
    (first,) = pushed(pushgateway, LAST_SUCCESS)
    assert pushed(pushgateway, "realize_move_exit_code") == [0]
    page = get(pushgateway).body.decode()
    assert 'instance="here/there"' in page
    assert 'job="realize"' in page

    grow(source, 1)
    (there / "f0").unlink()
    (there / "f0").mkdir()
    world.realize(*words, status=1)
    assert pushed(pushgateway, LAST_SUCCESS) == [first]
    assert pushed(pushgateway, "realize_move_exit_code") == [1]


@needs("prometheus-pushgateway")
@pytest.mark.daemons
def test_moves_do_not_undo_each_others_success(world: World, pushgateway: int) -> None:
    """
    Those of one host, with nothing said about groups: each pair of ends has its own
    last success and exit code, whoever pushes later.
    """

    def move(destination: str, status: int = 0) -> None:
        grow(world.folder / "source", 1)
        world.realize(
            *("source", destination, "--metrics-pushgateway"),
            f"http://127.0.0.1:{pushgateway}",
            status=status,
        )

    def told(name: str) -> dict[str, float]:
        text = get(pushgateway).body.decode()
        # The first of its labels, by their names, is "destination".
        return {labels[0]: value for labels, value in samples(text, name).items()}

    (world.folder / "there").mkdir()
    for destination in ("nas:inbox", "box:inbox", "there"):
        move(destination)
    before = told(LAST_SUCCESS)
    assert set(before) == {"nas:inbox", "box:inbox", "local"}
    (world.nas.directory("inbox") / "f0").unlink()
    (world.nas.directory("inbox") / "f0").mkdir()
    move("nas:inbox", status=1)
    move("box:inbox")
    after = told(LAST_SUCCESS)
    assert after["nas:inbox"] == before["nas:inbox"]
    assert after["local"] == before["local"]
    assert after["box:inbox"] > before["box:inbox"]
    codes = told("realize_move_exit_code")
    assert codes == {"nas:inbox": 1, "box:inbox": 0, "local": 0}


@needs("prometheus-pushgateway")
def test_a_long_run_is_seen_on_the_way(world: World, pushgateway: int) -> None:
    """
    Pushed while it runs, without an end; killed, it leaves the last success.
    """
    world.nas.start()
    grow(world.folder / "before", 1)
    url = f"http://127.0.0.1:{pushgateway}"
    world.realize("before", "nas:inbox", "--metrics-pushgateway", url)
    (first,) = pushed(pushgateway, LAST_SUCCESS)
    source = world.folder / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(50_000_000))
    process = world.begin(
        *("source", "nas:inbox", "--throttle=1M", "--metrics-interval", "1s"),
        *("--metrics-pushgateway", url),
    )
    try:
        wait_until(
            lambda: pushed(pushgateway, "realize_move_pending_files") == [1], "pushed"
        )
    finally:
        process.kill()
        process.communicate()
    assert pushed(pushgateway, LAST_SUCCESS) == [first]


def test_a_gateway_that_is_down_costs_the_status_only(world: World) -> None:
    """
    The files are moved, the status says what is wrong, no password is shown.
    """
    grow(world.folder / "source", 2)
    (world.folder / "there").mkdir()
    url = f"http://user:s3cret@127.0.0.1:{free_port()}"
    said = world.realize("source", "there", "--metrics-pushgateway", url, status=12)
    assert "metrics not pushed" in said.err
    assert "s3cret" not in said.err + said.out
    assert len(list((world.folder / "there").iterdir())) == 2


def test_a_gateway_that_never_answers_delays_nothing_but_the_end(world: World) -> None:
    """
    The move is over long before; then it is given ten seconds.
    """
    grow(world.folder / "source", 2)
    (world.folder / "there").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        said = world.realize("source", "there", "--metrics-pushgateway", url, status=12)
    assert 9 < time.monotonic() - began < 20
    assert "no answer in 10 s" in said.err


def test_a_gateway_that_refuses(world: World) -> None:
    """
    What it says is shown; a failed move stays a failed move.
    """

    def answer(listener: socket.socket) -> None:
        for _ in range(2):
            client, _address = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\n"
                    b"Connection: close\r\n\r\nno\x1b[31m!\n"
                )

    grow(world.folder / "source", 2)
    (world.folder / "there").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=answer, args=[listener], daemon=True)
        thread.start()
        words = ["source", "there", "--metrics-pushgateway", url]
        said = world.realize(*words, status=12)
        assert "answered 400: no\\x1b[31m!" in said.err
        grow(world.folder / "source", 1)
        (world.folder / "there" / "f0").unlink()
        (world.folder / "there" / "f0").mkdir()
        world.realize(*words, status=1)
        thread.join(PATIENCE)
