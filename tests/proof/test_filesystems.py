"""
The promises on real file systems, each on each: docs/safety.md has them as a table.

:mod:`tests.proof.holding` says what it means that a move holds.  In each test the file
system is at the source, and at the destination.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from tests.proof.holding import Ends, digests, outcomes_of
from tests.proof.trees import count
from tests.support.mounts import KINDS, PROGRAMS, VIEWS, mounted
from tests.support.programs import PATIENCE, World
from tests.support.requirements import needs

ROOT = Path(__file__).parents[2]

#: On these CI tries every promise; on the others the first one.
SOON = ("ext4-128", "bindfs")

END = pytest.mark.parametrize("end", ["source", "destination"])


def kinds(soon: tuple[str, ...] = SOON) -> list[ParameterSet]:
    """
    Parameters: each kind of file system.

    :param soon: those that CI tries.
    """
    return [
        pytest.param(
            kind,
            marks=[
                needs(*PROGRAMS[kind], root=True, loop=True),
                *([] if kind in soon else [pytest.mark.nightly]),
            ],
        )
        for kind in KINDS
    ]


@contextmanager
def arrange(folder: Path, kind: str, end: str) -> Iterator[Ends]:
    """
    Both ends, empty: one on a file system of this kind, one on that of the tests.

    :param folder: exists, empty.
    """
    with ExitStack() as stack:
        world = World.create(folder / "world")
        stack.callback(world.stop)
        (folder / "fs").mkdir()
        seen = stack.enter_context(mounted(kind, folder / "fs"))
        below = folder / "fs" / "real" if kind in VIEWS else seen
        if kind in ("overlay", "overlay-upper", "mergerfs"):
            below = seen  # what is below is in several places
        places = {}
        for name in ("source", "destination"):
            there = name == end
            places[name] = (seen if there else folder) / name
            places[name].mkdir()
            places[f"{name} below"] = (below if there else folder) / name
        yield Ends(
            world,
            str(places["source"]),
            str(places["destination"]),
            places["source below"],
            places["destination below"],
        )


@END
@pytest.mark.parametrize("kind", kinds(KINDS))
def test_names(tmp_path: Path, kind: str, end: str) -> None:
    """
    Whatever the file system makes of names, none of the files is lost or misnamed, and
    those that cannot be moved are told.
    """
    with arrange(tmp_path, kind, end) as ends:
        ends.plant(Path(ends.source), Path(ends.destination))
        ends.move()
        ends.come_to_the_end()


@pytest.mark.parametrize("kind", kinds())
def test_a_writer(tmp_path: Path, kind: str) -> None:
    """
    Somebody has a file open, and writes a line now and then: none is lost, by the
    default settings.
    """
    script = (
        "import sys, time\n"
        "with open(sys.argv[1], 'a') as file:\n"
        "    for number in range(60):\n"
        "        print(number, file=file, flush=True)\n"
        "        time.sleep(0.05)\n"
    )
    with arrange(tmp_path, kind, "source") as ends:
        log = Path(ends.source) / "log"
        log.touch()
        writer = subprocess.Popen([sys.executable, "-c", script, log])
        try:
            while writer.poll() is None:
                said = ends.world.realize(
                    "move",
                    "--on-conflict=replace",
                    "--output=json",
                    ends.source,
                    ends.destination,
                    status=None,
                )
                assert said.status in (0, 4), said
        finally:
            writer.kill()
            writer.wait()
        found = [Path(end) / "log" for end in (ends.source, ends.destination)]
        lines = [path.read_text() for path in found if path.exists()]
        assert "".join(f"{number}\n" for number in range(60)) in lines


@pytest.mark.parametrize("kind", kinds())
def test_times(tmp_path: Path, kind: str) -> None:
    """
    Somebody writes to a file again and again, leaves its size as it is and sets its
    old time: what was written last is not lost, however coarse the times are.
    """
    script = (
        "import os, sys\n"
        "number = 0\n"
        "while True:\n"
        "    fd = os.open(sys.argv[1], os.O_WRONLY)\n"
        "    number += 1\n"
        "    os.write(fd, b'%09d' % number)\n"
        "    os.close(fd)\n"
        "    os.utime(sys.argv[1], (1_600_000_000, 1_600_000_000))\n"
        "    os.write(1, b'%09d' % number)\n"
    )
    with arrange(tmp_path, kind, "source") as ends:
        (Path(ends.source) / "file").write_bytes(b"000000000")
        with (tmp_path / "written").open("wb") as written:
            writer = subprocess.Popen(
                [sys.executable, "-c", script, Path(ends.source) / "file"],
                stdout=written,
                stderr=subprocess.DEVNULL,
            )
            try:
                until = time.monotonic() + 4
                while time.monotonic() < until and writer.poll() is None:
                    said = ends.world.realize(
                        *(
                            "move",
                            "--on-conflict=replace",
                            "--output=json",
                            ends.source,
                            ends.destination,
                        ),
                        status=None,
                    )
                    assert said.status in (0, 4), said
            finally:
                writer.kill()
                writer.wait()
        last = (tmp_path / "written").read_bytes()[-9:] or b"000000000"
        found = [Path(end) / "file" for end in (ends.source, ends.destination)]
        contents = [path.read_bytes() for path in found if path.exists()]
        # It may have been killed between writing to the file and saying so.
        assert any(content in (last, b"%09d" % (int(last) + 1)) for content in contents)


@pytest.mark.parametrize("forth", [True, False], ids=["to it", "from it"])
@pytest.mark.parametrize("kind", kinds())
def test_same_place(tmp_path: Path, kind: str, forth: bool) -> None:
    """
    The file system, and what it shows; or where it is mounted once more.  Nothing is
    removed, and the reason is told.
    """
    with ExitStack() as stack:
        world = World.create(tmp_path / "world")
        seen = stack.enter_context(mounted(kind, tmp_path))
        other = tmp_path / "real"
        if kind not in VIEWS:
            subprocess.run(["mount", "--bind", seen, other], check=True)
            stack.callback(subprocess.run, ["umount", "-l", other], check=False)
        (other / "folder").mkdir()
        for number in range(5):
            (other / "folder" / f"file {number}").write_text(str(number))
        ends = (other, seen) if forth else (seen, other)
        before = digests(other)
        for below in ("", "folder"):
            source, destination = (end / below for end in ends)
            said = world.realize(
                *("move", "--on-conflict=replace", "--settle=0", source, destination),
                status=None,
            )
            assert digests(other) == before
            assert "Traceback" not in said.err
            # What an overlay hides is still there below: nothing need be refused.
            if (kind, forth) != ("overlay", False):
                assert said.status != 0, said
                assert "the same" in said.err, said


@END
@pytest.mark.parametrize("kind", kinds())
def test_killed(tmp_path: Path, kind: str, end: str) -> None:
    """
    At some instants; the run after that comes to the end.
    """
    with arrange(tmp_path, kind, end) as ends:
        folder = Path(ends.source)
        for number in range(300):
            (folder / f"{number % 7}").mkdir(exist_ok=True)
            (folder / f"{number % 7}" / f"{number}").write_text(str(number))
        (folder / "large").write_bytes(os.urandom(8 << 20))
        ends.before = digests(ends.source_below)
        for goal in (20, 120, 250):
            process = ends.world.begin(
                *("move", "--on-conflict=replace", "--output=quiet", "--settle=0"),
                *(ends.source, ends.destination),
            )
            try:
                deadline = time.monotonic() + PATIENCE
                while count(ends.destination_below) < goal:
                    assert time.monotonic() < deadline
                    if process.poll() is not None:
                        break
                    time.sleep(0.005)
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
                process.communicate()
            ends.nothing_is_lost()
        ends.come_to_the_end()
        assert digests(ends.source_below) == {}


@pytest.mark.parametrize("kind", kinds())
def test_full(tmp_path: Path, kind: str) -> None:
    """
    What does not fit stays, and is told; with more room it follows.
    """
    with ExitStack() as stack:
        if kind in VIEWS:
            # What they show is as large as what is below.
            options = ["-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path]
            subprocess.run(["mount", *options], check=True)
            stack.callback(subprocess.run, ["umount", "-l", tmp_path], check=False)
        ends = stack.enter_context(arrange(tmp_path, kind, "destination"))
        filling = Path(ends.destination).parent / "filling"
        source = tmp_path / "source"
        if kind in VIEWS:
            source = Path(f"/dev/shm/realize-full-{os.getpid()}")
            source.mkdir()
            stack.callback(subprocess.run, ["rm", "-rf", source], check=False)
            ends.source, ends.source_below = str(source), source
        for number in range(4):
            (source / f"{number}").write_bytes(os.urandom(1 << 20))
        ends.before = digests(source)
        with suppress(OSError), filling.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        os.truncate(filling, filling.stat().st_size - (2 << 20))
        said = ends.move()
        assert said.status == 1
        failed = [
            each for each in outcomes_of(said).values() if each["outcome"] == "failed"
        ]
        assert {each["code"] for each in failed} == {"NO_SPACE"}
        filling.unlink()
        # btrfs counts what was freed when it has been written.
        subprocess.run(["sync", "-f", filling.parent], check=True)
        said = ends.come_to_the_end()
        assert digests(source) == {}, said


@pytest.mark.parametrize("kind", kinds())
def test_opposite_directions(tmp_path: Path, kind: str) -> None:
    """
    Two moves at once, each where the other came from, again and again.
    """
    with arrange(tmp_path, kind, "source") as ends:
        folders = [Path(ends.source), Path(ends.source).parent / "back"]
        folders[1].mkdir()
        for number in range(60):
            (folders[number % 2] / f"{number}").write_text(str(number))
            # In both, so that each is proven by the other.
            if number % 3 == 0:
                (folders[1 - number % 2] / f"{number}").write_text(str(number))
        said: list[Any] = []

        def go(source: Path, destination: Path) -> None:
            for _ in range(4):
                said.append(
                    ends.world.realize(
                        *(
                            "move",
                            "--on-conflict=replace",
                            "--settle=0",
                            source,
                            destination,
                        ),
                        status=None,
                    )
                )

        threads = [
            threading.Thread(target=go, args=each)
            for each in (folders, reversed(folders))
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(said) == 8
        for each in said:
            assert "Traceback" not in each.err
        found = {
            os.path.basename(path)
            for folder in folders
            for path in digests(folder)
            if not path.endswith(b".realize-part")
        }
        assert found == {b"%d" % number for number in range(60)}


def test_the_table_of_promises_is_that_of_the_tests() -> None:
    """
    Each cell of the table in docs/safety.md is a test, each test is in a cell, and
    each row is a kind of file system.
    """
    text = (ROOT / "docs" / "safety.md").read_text()
    table = text.partition("<!-- promises -->")[2].strip().partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) == len(KINDS)
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", __file__],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    tests = set(re.findall(r"::test_(\S+\[.+\])$", collected, re.MULTILINE))
    shown = set()
    for _, *cells in rows:
        for cell in cells:
            pattern = re.escape(cell.strip("`")).replace(r"\*", ".+")
            found = {test for test in tests if re.fullmatch(pattern, test)}
            assert found, f"{cell} is no test"
            shown |= found
    assert shown == tests
