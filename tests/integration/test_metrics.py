"""
The metrics of a daemon: the page, and what it says.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.daemon import twistd
from tests.support.programs import PATIENCE, World, free_port
from tests.support.scraping import get, grow, samples, wait_until, wait_until_open


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/metrics?name=x", 200),
        ("GET", "/", 401),
        ("GET", "/metrics/", 401),
        ("GET", "/favicon.ico", 401),
        ("POST", "/", 401),
        ("PUT", "/metrics", 405),
        ("DELETE", "/metrics", 405),
        ("NONSENSE", "/metrics", 405),
    ],
)
def test_only_the_page_is_served(
    metrics_port: int, method: str, path: str, status: int
) -> None:
    """
    Everything else is refused, with what would be right.
    """
    response = get(metrics_port, path, method)
    assert response.status == status
    if status == 401:
        assert response.headers["WWW-Authenticate"]
    if status == 405:
        assert response.headers["Allow"] == "GET, HEAD"
    if method == "HEAD":
        assert response.body == b""
        assert int(response.headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "length", ["Content-Length: 100000", "Transfer-Encoding: chunked"]
)
@pytest.mark.parametrize("path", ["/metrics", "/"])
def test_a_body_is_refused_before_it_is_read(
    metrics_port: int, path: str, length: str
) -> None:
    """
    Not a byte of it is sent, and the answer is there; nor is it invited.
    """
    with socket.create_connection(("127.0.0.1", metrics_port), PATIENCE) as client:
        client.sendall(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            f"{length}\r\n\r\n".encode()
        )
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_formats(metrics_port: int) -> None:
    """
    Text by default, OpenMetrics and compression as they are asked for.
    """
    plain = get(metrics_port)
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    open_metrics = get(
        metrics_port, Accept="application/openmetrics-text; version=1.0.0"
    )
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics")
    assert open_metrics.body.endswith(b"# EOF\n")
    compressed = get(metrics_port, **{"Accept-Encoding": "gzip"})
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert len(compressed.body) < len(plain.body) / 3


def test_slow_clients_do_not_keep_others_out(metrics_port: int) -> None:
    """
    Connections that say nothing are bounded in number and in time.
    """
    with ExitStack() as open_ones:
        clients = [
            open_ones.enter_context(
                socket.create_connection(("127.0.0.1", metrics_port), PATIENCE)
            )
            for _ in range(40)
        ]
        began = time.monotonic()
        for client in clients:
            # Too many: reset at once.  The others: cut off at their deadline.
            with suppress(ConnectionResetError):
                client.recv(1)
        assert time.monotonic() - began < 15
    assert get(metrics_port).status == 200


def test_without_the_option_no_port_is_opened(world: World) -> None:
    """
    The daemon listens where peers connect, and nowhere else.
    """
    world.nas.start()
    assert world.nas.daemon is not None
    mine = {
        os.readlink(link)
        for link in Path(f"/proc/{world.nas.daemon.pid}/fd").iterdir()
        if link.exists() or link.is_symlink()
    }
    listening = [
        line.split()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    ports = [
        int(fields[1].partition(":")[2], 16)
        for fields in listening
        if f"socket:[{fields[9]}]" in mine
    ]
    assert ports == [world.nas.port]


def test_port_in_use(world: World) -> None:
    """
    One clear line, and no daemon that nobody can look at.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = twistd(
            world.nas.folder,
            f"--config={world.nas.config}",
            "--address=127.0.0.1:0",
            f"--metrics-addr=127.0.0.1:{port}",
        )
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "already in use" in said.stderr


def test_a_move_is_seen_at_both_ends(world: World, metrics_port: int) -> None:
    """
    Files, bytes, connections, requests, commits, space.
    """
    source = world.folder / "source"
    grow(source, 30)
    (source / "large").write_bytes(os.urandom(5_000_000))
    world.realize(str(source), "nas:inbox")
    text = get(metrics_port).body.decode()
    assert samples(text, "realize_files_finished_total")[("inbox", "written")] == 31
    arrived = samples(text, "realize_file_bytes_total")[("written", "inbox")]
    assert arrived == 30 * 100 + 5_000_000
    assert samples(text, "realize_connections_opened_total")[("me",)] == 1
    assert samples(text, "realize_connections_open")[("me",)] == 0
    assert samples(text, "realize_command_requests_total")[("Finish", "answer")] >= 1
    assert samples(text, "realize_commit_files_sum")[("inbox",)] == 31
    assert samples(text, "realize_directory_available")[("inbox",)] == 1
    assert samples(text, "realize_directory_free_bytes")[("inbox",)] > 0
    received = samples(text, "realize_network_bytes_total")[("received", "me")]
    assert arrived < received < arrived * 1.1 + 100_000
    assert samples(text, "realize_commit_duration_seconds_sum")[("inbox",)] > 0
    assert samples(text, "realize_directory_free_inodes")[("inbox",)] > 0
    answered = samples(text, "realize_command_duration_seconds_count")
    assert answered[("Finish", "answer")] >= 1
    assert samples(text, "realize_log_messages_total")[("info",)] > 2
    assert list(samples(text, "realize_build_info").values()) == [1]
    world.realize("nas:inbox", str(source))
    text = get(metrics_port).body.decode()
    assert samples(text, "realize_files_removed_total")[("inbox",)] == 31
    assert samples(text, "realize_file_bytes_total")[("read", "inbox")] == arrived


def test_what_is_under_construction_is_counted(world: World, metrics_port: int) -> None:
    """
    When the page is asked for: files with a partial, and the bytes in it.
    """
    source = world.folder / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(50_000_000))
    process = world.begin("source", "nas:inbox", "--throttle=2M")

    def under_construction() -> tuple[float, float]:
        text = get(metrics_port).body.decode()
        return (
            samples(text, "realize_partial_files")[("inbox",)],
            samples(text, "realize_partial_bytes")[("inbox",)],
        )

    wait_until(lambda: under_construction()[1] > 0, "seen")
    assert under_construction()[0] == 1
    process.terminate()
    process.terminate()
    process.communicate(timeout=PATIENCE)
    wait_until(lambda: under_construction() == (0, 0), "over")


def test_refusals_are_counted_by_reason(world: World, metrics_port: int) -> None:
    """
    A stranger, and something that does not speak TLS.
    """
    stranger = World.create(world.folder / "elsewhere").me
    stranger.configure(world.nas)
    world.realize(
        ".",
        "nas:inbox",
        "--config",
        stranger.config,
        status=3,
        env={"REALIZE_CONFIG": ""},
    )
    with socket.create_connection(("127.0.0.1", world.nas.port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client.recv(1)

    def refused() -> dict[tuple[str, ...], float]:
        text = get(metrics_port).body.decode()
        return samples(text, "realize_connections_refused_total")

    # The one who looked whether the port was open counts too.
    wait_until(lambda: refused()[("handshake",)] == 2, "counted")
    assert refused()[("unknown key",)] == 1
    assert refused()[("too many",)] == 0
    log = world.nas.log.read_text()
    assert len(re.findall(r" warn  peer-refused: Refused 127\.0\.0\.1: ", log)) == 3


def test_a_directory_that_vanishes_shows(world: World, tmp_path: Path) -> None:
    """
    At the next start at the latest: here the daemon is started with its marker gone
    afterwards.
    """
    world.nas.offer("marked", 'put = ["me"]\nmarker = ".here"')
    (world.nas.directory("marked") / ".here").touch()
    world.configure()
    port = free_port()
    world.nas.start(f"--metrics-addr=127.0.0.1:{port}")
    wait_until_open(port)

    def available() -> float:
        text = get(port).body.decode()
        return samples(text, "realize_directory_available")[("marked",)]

    wait_until(lambda: available() == 1, "seen")
    (world.nas.directory("marked") / ".here").unlink()
    wait_until(lambda: available() == 0, "missed")
