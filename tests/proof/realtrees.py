"""
Big real moves: what is on this machine, in all combinations of ends, timed.

    python -m tests.proof.realtrees [--folder DIR] [--other DIR] [--large 4.5G]

Copies ``/usr/share`` and the Python standard library, adds a file of more than 4 GiB,
an empty one and awkward names, and moves the whole from end to end; beside it,
``rsync --remove-source-files``, with and without ``--fsync``, does the same to the
same tree between two local directories, and to a remote one over TCP.  Checksum lists
(SHA-256, permissions, times) are compared before and after each move.

Takes three times the room of the tree below *folder*, and once below *other*, which
is best on another file system, and some minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field

from realize.units import format_duration, format_size, parse_size
from tests.proof.trees import AWKWARD, Sums, checksums, count, differences
from tests.support.programs import World, free_port
from tests.support.requirements import find_program

#: What is copied, each into a folder of its own.
REAL: Final = {"share": "/usr/share", "python": sysconfig.get_path("stdlib")}

_BLOCK: Final = os.urandom(1 << 20)


def plant(folder: Path, large: int) -> None:
    """
    Make the tree.

    :param large: bytes in the large file.
    """
    for name, origin in REAL.items():
        copy = ["cp", "-a", "--no-preserve=links", f"{origin}/.", str(folder / name)]
        (folder / name).mkdir(parents=True)
        # What changes or vanishes meanwhile is not missed.
        subprocess.run(copy, check=False, stderr=subprocess.DEVNULL)
    # Links and devices are not moved, here or there.
    subprocess.run(["find", folder, "!", "-type", "f", "!", "-type", "d", "-delete"])
    (folder / "awkward").mkdir()
    for number, awkward in enumerate(AWKWARD):
        path = os.path.join(os.fsencode(folder / "awkward"), awkward)
        with open(path, "wb") as file:
            file.write(awkward * number)
    (folder / "empty").touch()
    with open(folder / "large", "wb") as file:
        for number in range(0, large, len(_BLOCK)):
            block = number.to_bytes(8) + _BLOCK[8:]
            file.write(block[: large - number])


@define
class Trial:
    """
    Moves the tree from place to place, and back to where it began.

    :ivar before: the tree, as it has to be after each move.
    """

    folder: Path
    other: Path
    before: Sums
    rows: list[tuple[str, float]] = field(factory=list)

    def timed(
        self, name: str, source: Path, destination: Path, act: Callable[[], object]
    ) -> None:
        """
        Do it, compare, and note the time.
        """
        os.sync()
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
        after = checksums(destination)
        wrong = differences(self.before, after)
        left = count(source)
        if wrong or left:
            raise SystemExit(f"{name}: {left} left, {len(wrong)} differ: {wrong[:5]}")
        self.rows.append((name, seconds))
        print(f"{name}: {seconds:.1f} s, {len(after)} files equal", flush=True)
        _empty(source)
        # Back, whatever the file systems, and not timed.
        subprocess.run(
            ["cp", "-a", f"{destination}/.", self.folder / "source"], check=True
        )
        _empty(destination)


def _empty(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


@contextmanager
def rsync_daemon(folder: Path, inbox: Path) -> Iterator[str]:
    """
    An rsync daemon on loopback, and how its directory is called.
    """
    port, config = free_port(), folder / "rsyncd.conf"
    config.write_text(
        f"use chroot = no\nuid = 0\ngid = 0\n[inbox]\npath = {inbox}\nread only = no\n"
    )
    words = ["--daemon", "--no-detach", f"--port={port}", f"--config={config}"]
    process = subprocess.Popen(["rsync", *words, "--address=127.0.0.1"])
    try:
        time.sleep(0.5)
        yield f"rsync://127.0.0.1:{port}/inbox/"
    finally:
        process.terminate()
        process.wait()


def run(trial: Trial, world: World) -> None:
    """
    All moves.
    """
    source = trial.folder / "source"
    near, far = trial.folder / "near", trial.other / "far"
    near.mkdir()
    far.mkdir()
    nas, box = (host.directory("inbox") for host in (world.nas, world.box))

    def realize(one: str | Path, other: str | Path) -> Callable[[], object]:
        return lambda: _checked(world, one, other)

    def rsync(other: str | Path, *more: str) -> Callable[[], object]:
        words = ["rsync", "-a", "--remove-source-files", *more, f"{source}/", other]
        return lambda: subprocess.run(words, check=True)

    trial.timed("local, renaming", source, near, realize(source, near))
    trial.timed("local, copying", source, far, realize(source, far))
    trial.timed("local to remote", source, nas, realize(source, "nas:inbox"))
    _carry(source, nas)
    trial.timed("remote to local", nas, far, realize("nas:inbox", far))
    _carry(source, nas)
    trial.timed("remote to remote", nas, box, realize("nas:inbox", "box:inbox"))
    if find_program("rsync"):
        trial.timed("rsync, local", source, far, rsync(far))
        trial.timed("rsync --fsync, local", source, far, rsync(far, "--fsync"))
        with rsync_daemon(trial.folder, near) as url:
            trial.timed("rsync, to a daemon", source, near, rsync(url))
            trial.timed(
                "rsync --fsync, to a daemon", source, near, rsync(url, "--fsync")
            )


def _checked(world: World, one: str | Path, other: str | Path) -> None:
    process = world.begin("move", "--on-conflict=replace", "--output=quiet", one, other)
    _, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"realize ended with {process.returncode}: {err.decode()}")


def _carry(source: Path, inbox: Path) -> None:
    """
    The tree to where a daemon offers it; on one file system, so a rename each.
    """
    for each in source.iterdir():
        each.rename(inbox / each.name)


def main() -> int:
    """
    Run all and print a table.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.proof.realtrees")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--other", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--large", type=parse_size, default=parse_size("4.5G"))
    arguments = parser.parse_args()
    # Told to end, it cleans up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with (
        tempfile.TemporaryDirectory(prefix="realize-", dir=arguments.folder) as first,
        tempfile.TemporaryDirectory(prefix="realize-", dir=arguments.other) as second,
    ):
        folder = Path(first)
        plant(folder / "source", arguments.large)
        before = checksums(folder / "source")
        nbytes = sum(each.size for each in before.values())
        print(f"{len(before)} files, {format_size(nbytes)}", flush=True)
        world = World.create(folder / "world")
        try:
            world.start()
            trial = Trial(folder, Path(second), before)
            run(trial, world)
        finally:
            world.stop()
    print()
    print(f"| {len(before)} files, {format_size(nbytes)} | time | rate |")
    print("|---|---|---|")
    for name, seconds in trial.rows:
        rate = format_size(round(nbytes / seconds))
        print(f"| {name} | {format_duration(round(seconds))} | {rate}/s |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
