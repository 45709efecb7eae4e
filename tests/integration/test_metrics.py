"""
Metrics read by the programs that read them: curl, promtool, Prometheus, Pushgateway.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import twistd
from tests.support.programs import PATIENCE, World, free_port
from tests.support.requirements import find_program, needs

LAST_SUCCESS = "realize_move_last_success_timestamp_seconds"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """
    Hosts that are configured and do not run yet.
    """
    world = World.create(tmp_path)
    yield world
    world.stop()


@pytest.fixture
def metrics_port(world: World) -> int:
    """
    Where the daemon of ``nas``, which runs, has its metrics.
    """
    port = free_port()
    world.nas.start(f"--metrics-addr=127.0.0.1:{port}")
    wait_until_open(port)
    return port


def wait_until_open(port: int) -> None:
    """
    The daemon opens this one after the port for its peers.
    """

    def is_open() -> bool:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    wait_until(is_open, f"port {port}")


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """
    The first true answer of *condition*.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.05)


def get(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> Any:
    """
    The response to a request, with its body in ``body``.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, headers=headers)
    response: Any = connection.getresponse()
    response.body = response.read()
    connection.close()
    return response


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """
    Values of a series by the values of its labels, sorted by the labels' names.
    """
    return {
        tuple(value for _label, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def grow(directory: Path, count: int, size: int = 100) -> None:
    """
    Put so many files into a directory.
    """
    directory.mkdir(exist_ok=True)
    for number in range(count):
        (directory / f"f{number}").write_bytes(os.urandom(size))


# -- the page


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


# -- what it says


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


@needs("promtool")
def test_promtool_has_nothing_to_say(world: World, metrics_port: int) -> None:
    """
    About the output of both programs.
    """
    grow(world.folder / "source", 3)
    textfile = world.folder / "realize.prom"
    world.realize("source", "nas:inbox", "--metrics-textfile", textfile)
    for text in (get(metrics_port).body, textfile.read_bytes()):
        checked = subprocess.run(
            [str(find_program("promtool")), "check", "metrics"],
            input=text,
            capture_output=True,
            check=False,
        )
        assert checked.returncode == 0, checked
        assert checked.stdout + checked.stderr == b""


@needs("promtool")
@pytest.mark.parametrize(
    "words",
    [
        ["check", "rules", "realize.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "realize.rules.test.yml"],
    ],
    ids=" ".join,
)
def test_rules(words: list[str]) -> None:
    """
    The alert rules are rules, and fire when they should.
    """
    subprocess.run(
        [str(find_program("promtool")), *words],
        cwd=Path(__file__).parents[2] / "deploy" / "prometheus",
        check=True,
        capture_output=True,
    )


# -- real Prometheus


@pytest.fixture
def prometheus(world: World, metrics_port: int) -> Iterator[int]:
    """
    The port of a Prometheus that scrapes the daemon four times a second.
    """
    port = free_port()
    config = world.folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\n"
        "scrape_configs:\n"
        "  - job_name: realized\n"
        f'    static_configs: [{{targets: ["127.0.0.1:{metrics_port}"]}}]\n'
    )
    process = subprocess.Popen(
        [
            str(find_program("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={world.folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def query(port: int, expression: str) -> list[tuple[dict[str, str], float]]:
    """
    What Prometheus answers; nothing while it starts.
    """
    asked = urllib.parse.urlencode({"query": expression})
    url = f"http://127.0.0.1:{port}/api/v1/query?{asked}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            answer = json.load(response)
    except (OSError, urllib.error.URLError):
        return []
    return [
        (each["metric"], float(each["value"][1])) for each in answer["data"]["result"]
    ]


@pytest.mark.alone
@needs("prometheus")
def test_prometheus_watches_a_move(world: World, prometheus: int) -> None:
    """
    It scrapes a daemon that is busy, and answers how many files have arrived.
    """
    wait_until(lambda: query(prometheus, "up == 1"), "up")
    source = world.folder / "source"
    grow(source, 3000, 4096)
    world.realize(str(source), "nas:inbox")
    expression = 'sum(realize_files_finished_total{directory="inbox"})'
    wait_until(
        lambda: [value for _labels, value in query(prometheus, expression)] == [3000.0],
        "scraped",
    )
    # Not one scrape was too slow: each has a quarter of a second.
    assert query(prometheus, "min_over_time(up[1m]) < 1") == []


@pytest.mark.alone
def test_scrapes_during_a_move_are_quick(world: World, metrics_port: int) -> None:
    """
    The page is made beside the move, not instead of it.
    """
    source = world.folder / "source"
    grow(source, 2000, 4096)
    (source / "large").write_bytes(os.urandom(200_000_000))
    process = world.begin(str(source), "nas:inbox")
    durations = []
    while process.poll() is None:
        began = time.monotonic()
        assert get(metrics_port).status == 200
        durations.append(time.monotonic() - began)
        time.sleep(0.02)
    process.communicate()
    assert process.returncode == 0
    assert len(durations) > 5
    durations.sort()
    # What else the machine has to do shows in the slowest ones; python -m
    # benchmarks.scrapes measures them on a quiet one.
    assert durations[len(durations) // 2] < 0.1


# -- the command


def test_a_running_move_can_be_scraped(world: World) -> None:
    """
    With what is pending, and without an end that has not come.
    """
    world.nas.start()
    source = world.folder / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(50_000_000))
    os.utime(source / "large", (1000, 1000))
    port = free_port()
    process = world.begin("source", "nas:inbox", f"--metrics-addr=127.0.0.1:{port}")

    def page() -> str:
        try:
            return str(get(port).body.decode())
        except OSError:
            assert process.poll() is None, process.communicate()
            return ""

    text = wait_until(page, "served")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    ends = ("nas:inbox", "local")
    assert ends in samples(text, "realize_move_pending_files")
    assert samples(text, "realize_move_exit_code") == {}
    assert samples(text, LAST_SUCCESS) == {}


def test_textfile_keeps_the_last_success(world: World) -> None:
    """
    A run that fails does not overwrite it, one that succeeds does.
    """
    source = world.folder / "source"
    grow(source, 2)
    (world.folder / "there").mkdir()
    textfile = world.folder / "realize.prom"
    words = ["source", "there", "--metrics-textfile", textfile]
    ends = ("local", "local")

    world.realize(*words)
    first = samples(textfile.read_text(), LAST_SUCCESS)[ends]
    assert samples(textfile.read_text(), "realize_move_exit_code")[ends] == 0

    grow(source, 1)
    (world.folder / "there" / "f0").unlink()
    (world.folder / "there" / "f0").mkdir()
    world.realize(*words, status=1)
    assert samples(textfile.read_text(), LAST_SUCCESS)[ends] == first
    assert samples(textfile.read_text(), "realize_move_exit_code")[ends] == 1

    (world.folder / "there" / "f0").rmdir()
    world.realize(*words)
    assert samples(textfile.read_text(), LAST_SUCCESS)[ends] > first
    assert [path.name for path in world.folder.glob("realize.prom*")] == [
        "realize.prom"
    ]


def test_a_run_that_cannot_begin_tells_its_end(world: World) -> None:
    """
    However it ends: here, because there is nowhere to write receipts.
    """
    grow(world.folder / "source", 1)
    (world.folder / "there").mkdir()
    textfile = world.folder / "realize.prom"
    world.realize(
        *("source", "there", "--metrics-textfile", textfile),
        *("--audit-log", world.folder / "nowhere" / "audit"),
        status=2,
    )
    ended = samples(textfile.read_text(), "realize_move_exit_code")
    assert ended == {("local", "local"): 2}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--metrics-addr", "127.0.0.1:99999"], "port from 1 to 65535"),
        (["--metrics-pushgateway", "gateway:9091"], "expected a URL"),
        (["--metrics-textfile", "/nowhere/a.prom"], "cannot be written"),
        (["--metrics-textfile", "metrics.txt"], "end in .prom"),
        (["--metrics-interval", "0s"], "more than zero"),
    ],
)
def test_bad_options_start_nothing(
    world: World, words: list[str], complaint: str
) -> None:
    """
    Usage errors, with the files where they were.
    """
    grow(world.folder / "source", 1)
    (world.folder / "there").mkdir()
    said = world.realize("source", "there", *words, status=2)
    assert complaint in said.err
    assert (world.folder / "source" / "f0").exists()


# -- real Pushgateway


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


def test_a_gateway_that_never_answers_delays_nothing_but_the_end(
    world: World,
) -> None:
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
