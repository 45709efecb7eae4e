"""
The metrics of a move: served, or in a file.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.programs import PATIENCE, World, free_port
from tests.support.requirements import find_program, needs
from tests.support.scraping import (
    LAST_SUCCESS,
    get,
    grow,
    samples,
    wait_until,
    wait_until_open,
)


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
    ends = ("local", "realize", "local")

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


@needs("prometheus-node-exporter")
def test_two_moves_on_one_page(world: World) -> None:
    """
    node_exporter serves the files of two moves between local places together.
    """
    folder = world.folder / "textfiles"
    folder.mkdir()
    (world.folder / "there").mkdir()
    for number, name in enumerate(("camera", "scanner"), 1):
        grow(world.folder / name, number)
        world.realize(
            *(name, "there", "--on-conflict=replace"),
            *("--metrics-textfile", folder / f"{name}.prom"),
        )
    port = free_port()
    exporter = subprocess.Popen(
        [
            find_program("prometheus-node-exporter"),
            f"--web.listen-address=127.0.0.1:{port}",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={folder}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_open(port)
        page = get(port).body.decode()
    finally:
        exporter.terminate()
        exporter.wait(PATIENCE)
    assert samples(page, "node_textfile_scrape_error") == {(): 0}
    moved = samples(page, "realize_move_bytes_total")
    assert moved["local", "renamed", "camera", "local"] == 100
    assert moved["local", "renamed", "scanner", "local"] == 200
    names = {line.split("{")[0] for line in page.splitlines() if "camera" in line}
    assert all(name.startswith(("realize_move_", "node_textfile_")) for name in names)


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
    assert ended == {("local", "realize", "local"): 2}


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
