"""
``realize move --compress`` with real daemons over limited lines.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.programs import World, free_port, snapshot

KIB = 1024


pytestmark = pytest.mark.daemons


def texts(root: Path, nbytes: int) -> None:
    """
    Source files of Python's own library, a large file and a small one in turn.
    """
    root.mkdir(exist_ok=True)
    library = sorted(Path(os.__file__).parent.glob("*.py"), key=lambda p: p.name)
    for path in library:
        content = path.read_bytes()[:nbytes]
        (root / path.name).write_bytes(content)
        nbytes -= len(content)
        if not nbytes:
            return


def noise(root: Path, nbytes: int) -> None:
    """
    What no program can compress.
    """
    root.mkdir(exist_ok=True)
    (root / "large").write_bytes(os.urandom(nbytes // 2))
    for number in range(8):
        (root / f"small-{number}").write_bytes(os.urandom(nbytes // 16))


def timed(world: World, *words: str) -> tuple[float, dict[str, int]]:
    """
    Seconds that a move takes, and its summary.
    """
    began = time.monotonic()
    said = world.realize(*words, "--output", "json")
    return time.monotonic() - began, said.json[-1]


@pytest.mark.alone
@pytest.mark.parametrize(
    ("source", "destination"),
    [("here", "nas:inbox"), ("nas:inbox", "here"), ("nas:inbox", "box:inbox")],
)
def test_text_over_a_limited_line(world: World, source: str, destination: str) -> None:
    """
    Faster than it could be uncompressed, in every direction, and what arrives is what
    was sent.
    """
    places = {
        "here": world.folder / "here",
        "nas:inbox": world.nas.directory("inbox"),
        "box:inbox": world.box.directory("inbox"),
    }
    places["here"].mkdir()
    texts(places[source], 3000 * KIB)
    before = snapshot(places[source])

    seconds, summary = timed(world, source, destination, "--throttle", "500K")

    assert snapshot(places[destination]) == before
    assert seconds < 3000 / 500
    # On two connections it is counted twice.
    legs = 1 + ("here" not in (source, destination))
    assert summary["compressed"] > 2900 * KIB * legs
    assert summary["compressed_to"] < summary["compressed"] / 3


@pytest.mark.alone
def test_noise_is_not_slower(world: World) -> None:
    """
    What does not shrink takes as long as without.
    """
    here = world.folder / "here"
    took = {}
    for mode in ("never", "auto"):
        noise(here, 1000 * KIB)
        took[mode], summary = timed(
            world, str(here), "nas:inbox", "--throttle", "500K", "--compress", mode
        )
        assert summary["compressed"] == 0
    assert took["auto"] < took["never"] * 1.2 + 0.3


def test_a_fast_line_is_left_alone(world: World) -> None:
    """
    On loopback the processor would be the slower part.
    """
    texts(world.folder / "here", 5000 * KIB)
    _seconds, summary = timed(world, str(world.folder / "here"), "nas:inbox")
    assert summary["compressed"] == 0


def test_never_and_always(world: World) -> None:
    """
    As asked; from the environment too, and the flag wins.
    """
    inbox = world.nas.directory("inbox")
    here = world.folder / "here"
    here.mkdir()
    for words, env, compressed in (
        (("--compress", "always"), {}, True),
        (("--throttle", "10M", "--compress", "never"), {}, False),
        ((), {"REALIZE_COMPRESS": "always"}, True),
        (("--compress", "never"), {"REALIZE_COMPRESS": "always"}, False),
    ):
        texts(inbox, 300 * KIB)
        said = world.realize("nas:inbox", str(here), *words, env=env)
        assert ("compressed to" in said.out + said.err) == compressed
        for each in here.iterdir():
            each.unlink()


def test_unknown_mode(world: World) -> None:
    """
    Is said to be none, with those that there are.
    """
    for words, env in (
        (("--compress", "sometimes"), {}),
        ((), {"REALIZE_COMPRESS": "sometimes"}),
    ):
        said = world.realize("here", "nas:inbox", *words, status=2, env=env)
        assert "'auto', 'always', 'never'" in said.err


def scraped(port: int) -> dict[str, float]:
    """
    What a program's metrics say of compression and the network.
    """
    with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        text = page.read().decode()
    found = re.findall(
        r'^realize_(compressed|network)_(\w+_)?bytes_total\{direction="(\w+)".*} (\S+)',
        text,
        re.M,
    )
    return {f"{area} {what}{way}": float(value) for area, what, way, value in found}


def test_counted_on_both_sides(tmp_path: Path) -> None:
    """
    The daemon counts what came in compressed and what it had become; the bytes of the
    network are those that crossed, and so is what the limit counts.
    """
    world = World.create(tmp_path)
    port = free_port()
    world.nas.start("--metrics-addr", f"127.0.0.1:{port}")
    try:
        texts(world.folder / "here", 1000 * KIB)
        words = ["--throttle", "1M", "--output", "json"]
        said = world.realize(str(world.folder / "here"), "nas:inbox", *words)
        counted = scraped(port)
    finally:
        world.stop()
    content, crossed = (
        counted["compressed content_received"],
        counted["compressed network_received"],
    )
    assert content > 950 * KIB
    assert crossed < content / 3
    assert crossed < counted["network received"] < content / 2
    assert counted["compressed content_sent"] == 0
    summary = said.json[-1]
    assert [summary["compressed"], summary["compressed_to"]] == [content, crossed]
