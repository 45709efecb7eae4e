"""
Metrics read by those that they are for: promtool and Prometheus.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import PATIENCE, World, free_port
from tests.support.requirements import find_program, needs
from tests.support.scraping import get, grow, wait_until


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
