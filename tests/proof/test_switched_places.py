"""
Two ways to one place, two moves in opposite directions, and somebody who writes below:
on the file system of switches, where caches, locks and leases mean what they are told
to mean.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.proof.holding import digests, is_ours
from tests.support.fuse.mounting import mount, needs_fuse
from tests.support.fuse.switches import Switches
from tests.support.programs import Said, World

pytestmark = needs_fuse

PLACES = {
    "ordinary": Switches(),
    "cached": Switches(cache_s=60),
    "inodes by path": Switches(inodes="path"),
    "inodes by look": Switches(inodes="look"),
    "unlink hides": Switches(unlink="hides"),
    "seconds, cached": Switches(cache_s=60, step_s=2, ctimes=False),
}

#: For two moves at once.
OPPOSITE = {
    "locks of the mount": Switches(),
    "locks below": Switches(locks="below"),
    "locks refused": Switches(locks="refused"),
    "locks granted": Switches(locks="granted"),
    "cached": Switches(cache_s=60),
    "unlink hides": Switches(unlink="hides"),
}


def later(soon: bool) -> list[pytest.MarkDecorator]:
    """
    The mark of what need not run in CI.
    """
    return [] if soon else [pytest.mark.nightly]


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """
    Hosts whose daemons are not started yet.
    """
    world = World.create(tmp_path / "world")
    yield world
    world.stop()


@pytest.mark.parametrize(
    ("name", "below"),
    [
        pytest.param(
            name,
            below,
            id=f"{name}-{below or 'root'}",
            marks=later(name == "cached" and below == "sub"),
        )
        for name in PLACES
        for below in ("", "sub", "sub/deeper")
    ],
)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("forth", [False, True], ids=["from it", "to it"])
def test_the_same_place(
    tmp_path: Path, world: World, name: str, forth: bool, remote: bool, below: str
) -> None:
    """
    However old what is remembered may be, and whatever numbers are shown: nothing is
    removed, and the reason is told.  So where one is inside the other.
    """
    with mount(tmp_path / "fs") as fs:
        folder = fs.below / "sub" / "deeper"
        folder.mkdir(parents=True)
        for number in range(5):
            (folder / f"{number}").write_text(str(number))
        fs.switch(PLACES[name])
        # All of it is remembered.
        digests(fs.root)
        before = digests(fs.below)
        ends: list[str | Path] = [fs.below / below, fs.root / below]
        if not forth:
            ends.reverse()
        if remote:
            inbox = world.nas.directory("inbox")
            inbox.rmdir()
            inbox.symlink_to(ends[1])
            ends[1] = "nas:inbox"
            world.nas.start()
        said = world.realize(
            "move", "--on-conflict=replace", "--settle=0", *ends, status=None
        )
        assert digests(fs.below) == before
        assert said.status != 0, said
        assert "the same" in said.err, said
        assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("name", "views"),
    [
        pytest.param(
            name,
            views,
            id=f"{name}-{views}",
            marks=later((name, views) in (("locks of the mount", "two mounts"),)),
        )
        for name in OPPOSITE
        for views in ("one mount", "two mounts", "below")
    ],
)
def test_opposite_directions(
    tmp_path: Path, world: World, name: str, views: str
) -> None:
    """
    Two moves at once, each where the other takes from, by the same mount, by two, or
    one of them below it: with no lock that both see.
    """
    switches = OPPOSITE[name]
    with mount(tmp_path / "fs", switches) as fs:
        (fs.below / "a").mkdir()
        (fs.below / "b").mkdir()
        for number in range(60):
            for each in range(2):
                if number % 2 == each or number % 3 == 0:
                    (fs.below / "ab"[each] / f"{number}").write_text(str(number))
        if views == "two mounts":
            with mount(tmp_path / "other", switches, below=fs.below) as other:
                _move_to_and_fro(world, fs.root, other.root)
        else:
            _move_to_and_fro(world, fs.root, fs.root if views != "below" else fs.below)
        found = {
            os.path.basename(path)
            for path in digests(fs.below)
            if not path.endswith(b".realize-part")
        }
        assert found >= {b"%d" % number for number in range(60)}


def _move_to_and_fro(world: World, one: Path, two: Path) -> None:
    said: list[Said] = []

    def go(source: Path, destination: Path) -> None:
        for _ in range(3):
            said.append(
                world.realize(
                    "move",
                    "--on-conflict=replace",
                    "--settle=0",
                    source,
                    destination,
                    status=None,
                )
            )

    threads = [
        threading.Thread(target=go, args=(one / "a", one / "b")),
        threading.Thread(target=go, args=(two / "b", two / "a")),
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(said) == 6
    for each in said:
        assert "Traceback" not in each.err, each


@pytest.mark.parametrize(
    ("name", "where"),
    [
        pytest.param(name, where, marks=later(name == "cached" and where == "below"))
        for name in ("ordinary", "cached", "seconds, cached")
        for where in ("below", "mounted")
    ],
)
def test_a_writer(tmp_path: Path, world: World, name: str, where: str) -> None:
    """
    Below the mount, where no lease tells of it: no line is lost by the default
    settings, which is to say that a file that is being written stays.
    """
    script = (
        "import sys, time\n"
        "with open(sys.argv[1], 'a') as file:\n"
        "    for number in range(60):\n"
        "        print(number, file=file, flush=True)\n"
        "        time.sleep(0.05)\n"
    )
    destination = tmp_path / "destination"
    destination.mkdir()
    with mount(tmp_path / "fs", PLACES[name]) as fs:
        log = (fs.below if where == "below" else fs.root) / "log"
        log.touch()
        os.utime(log, (1, 1))
        writer = subprocess.Popen([sys.executable, "-c", script, log])
        try:
            while writer.poll() is None:
                said = world.realize("move", fs.root, destination, status=None)
                assert said.status in (0, 4), said
        finally:
            writer.kill()
            writer.wait()
        found = [fs.below / "log", destination / "log"]
        lines = [path.read_text() for path in found if path.exists()]
        assert "".join(f"{number}\n" for number in range(60)) in lines


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["refused", "ignored"])
@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["move", "dry run"])
def test_a_source_that_keeps_everything(
    tmp_path: Path, world: World, how: str, words: list[str]
) -> None:
    """
    Is found out before anything is sent, and told as a failure.
    """
    destination = tmp_path / "destination"
    destination.mkdir()
    with mount(tmp_path / "fs") as fs:
        for name in ("one", "two"):
            (fs.below / name).write_text(name)
        fs.switch(Switches(unlink=how))  # type: ignore[arg-type]
        before = digests(fs.below)
        said = world.realize(
            *(
                "move",
                "--on-conflict=replace",
                "--settle=0",
                *words,
                fs.root,
                destination,
            ),
            status=None,
        )
        assert said.status == 1, said
        left = digests(fs.below)
        # What it was tried with cannot be removed either.
        assert {
            path: each for path, each in left.items() if not is_ours(path)
        } == before
        assert list(destination.iterdir()) == []
