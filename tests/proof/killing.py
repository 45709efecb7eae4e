"""
Kill whatever takes part in a move, at random instants, again and again.

In each combination of ends a tree is moved, of which the destination has some files in
older versions, while the command, the daemon of the
source, that of the destination, or several of them, are killed with SIGKILL and
started again.  After every kill each file must be whole at one end or the other, and
no final name may hold anything but a whole file; in the end everything has to have
arrived, once, and nothing may be left over.

    python -m tests.proof.killing --minutes 30

prints how many were killed.  A failure prints the seed, by which it is repeated more
or less.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from tests.proof.trees import (
    Sums,
    assert_moved,
    count,
    grow,
    lost,
    outdate,
    torn,
)
from tests.support.programs import PATIENCE, Host, World

#: Source and destination: a peer's name; "local"; "other", a second file system of
#: this host; or "near", a second directory of the source's file system.
COMBINATIONS: Final = {
    "local to local, renaming": ("local", "near"),
    "local to local, copying": ("local", "other"),
    "local to remote": ("local", "nas"),
    "remote to local": ("nas", "local"),
    "remote to remote": ("nas", "box"),
}

#: Kills before a tree may come to its end.
KILLS_PER_TREE: Final = 8

#: Seconds for a move that nobody disturbs any more.
UNDISTURBED: Final = 120.0


@frozen
class Instants:
    """
    Waits for random instants of a move.

    :ivar source: where the files are.
    :ivar destination: where they go.
    """

    source: Path
    destination: Path
    numbers: random.Random

    def wait(self, process: subprocess.Popen[bytes]) -> bool:
        """
        Until some more files have begun to arrive, have arrived, or have gone from
        the source; or the process has ended.

        :returns: whether it still runs.
        """
        sight: Callable[[], int] = self.numbers.choice(
            [
                lambda: count(self.destination),
                lambda: count(self.destination, finished=True),
                lambda: -count(self.source),
            ]
        )
        goal = sight() + self.numbers.randrange(1, 2 + count(self.source) // 4)
        deadline = time.monotonic() + PATIENCE
        while sight() < goal and process.poll() is None:
            # The sight may never come: some of it was there from the run before.
            if time.monotonic() > deadline:
                break
            time.sleep(0.0005)
        time.sleep(self.numbers.uniform(0, 0.02))
        return process.poll() is None


@define
class Killing:
    """
    One combination of ends.

    :ivar kills: how many of each were killed.
    :ivar trees: how many were moved whole.
    """

    world: World
    source: Path
    destination: Path
    words: tuple[str, str]
    daemons: list[Host]
    numbers: random.Random
    kills: Counter[str] = field(factory=Counter)
    trees: int = 0

    @classmethod
    @contextmanager
    def create(
        cls, name: str, folder: Path, seed: int, user: str = ""
    ) -> Iterator[Killing]:
        """
        Make both ends, and remove them in the end.

        :param user: who runs everything; empty for whoever runs this.
        """
        world = World.create(folder / "world", user)
        with ExitStack() as stack:
            stack.callback(world.stop)
            paths, words, daemons = [], [], []
            for end in COMBINATIONS[name]:
                host = {"nas": world.nas, "box": world.box}.get(end)
                if host is not None:
                    path, word = host.directory("inbox"), f"{end}:inbox"
                    daemons.append(host)
                elif end == "other":
                    path = Path(
                        tempfile.mkdtemp(prefix="realize-proof-", dir="/dev/shm")
                    )
                    stack.callback(shutil.rmtree, path)
                    word = str(path)
                else:
                    path = folder / end
                    path.mkdir()
                    word = str(path)
                paths.append(path)
                words.append(word)
            yield cls(
                world,
                paths[0],
                paths[1],
                (words[0], words[1]),
                daemons,
                random.Random(seed),
            )

    def run(self, until: float, kills: int = 0) -> None:
        """
        Move trees and kill, until a time of ``time.monotonic`` has come.

        :param kills: go on until there were so many, however long it takes.
        """
        for host in self.daemons:
            host.start()
        while time.monotonic() < until or self.kills.total() < kills:
            self._move_one()
            self.trees += 1

    def _move_one(self) -> None:
        seed = self.numbers.randrange(1 << 30)
        before = grow(self.source, seed, small=1500, large=8)
        older = outdate(self.source, self.destination, seed)
        self.world.give(self.source, self.destination)
        instants = Instants(self.source, self.destination, self.numbers)
        process: subprocess.Popen[bytes] | None = None
        try:
            for _ in range(KILLS_PER_TREE):
                process = process or self._start()
                if not instants.wait(process):
                    break
                process = self._kill(process)
                self._check(before, older)
            process = process or self._start()
            process.wait(UNDISTURBED)
            assert process.returncode in (0, 3), process.returncode
        finally:
            if process is not None:
                process.kill()
                process.wait()
        self.world.realize(
            "move", "--on-conflict=replace", "--output=quiet", *self.words
        )
        assert_moved(before, self.source, self.destination)
        for path in (self.source, self.destination):
            _clear(path)

    def _start(self) -> subprocess.Popen[bytes]:
        return self.world.begin(
            "move",
            "--on-conflict=replace",
            "--output=quiet",
            *self.words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _kill(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes] | None:
        """
        Kill the command, daemons, or both, and start the daemons again.

        :returns: the command, if it was spared.
        """
        victims: list[Host] = [
            host for host in self.daemons if self.numbers.random() < 0.5
        ]
        # One that is spared waits five seconds before it tries again.
        spared = bool(victims) and self.numbers.random() < 0.3
        if not spared:
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.kills["command"] += 1
        for host in victims:
            host.stop(signal.SIGKILL)
            role = "source" if host is self.daemons[0] else "destination"
            if len(self.daemons) == 1 and self.words[1] == "nas:inbox":
                role = "destination"
            self.kills[f"daemon of the {role}"] += 1
        for host in victims:
            host.start()
        return process if spared else None

    def _check(self, before: Sums, older: Sums) -> None:
        # A daemon that lives may still be at work.  What it takes from the source is
        # at the destination by then, so the source is looked at first.
        assert lost(before, self.source, self.destination) == []
        assert torn(before, self.destination, older) == []


def _clear(folder: Path) -> None:
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def run(
    name: str,
    folder: Path,
    seed: int,
    seconds: float,
    kills: int = 0,
    user: str = "",
) -> str:
    """
    Kill for some time in one combination.

    :param kills: at least so many.
    :param user: who runs everything; empty for whoever runs this.
    :returns: what was done, in words.
    """
    with Killing.create(name, folder, seed, user) as killing:
        try:
            killing.run(time.monotonic() + seconds, kills)
        except BaseException:
            print(f"{name}, seed {seed}: failed after {dict(killing.kills)}")
            raise
    parts = ", ".join(f"{number} {who}" for who, number in killing.kills.items())
    total = killing.kills.total()
    return f"{total} killed ({parts}), {killing.trees} trees moved, nothing lost"


def main() -> int:
    """
    The long version.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.proof.killing")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    arguments = parser.parse_args()
    # Told to end, it cleans up as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    seconds = arguments.minutes * 60 / len(COMBINATIONS)
    print(f"seed {arguments.seed}", flush=True)
    for name in COMBINATIONS:
        with tempfile.TemporaryDirectory(prefix="realize-proof-") as folder:
            said = run(name, Path(folder), arguments.seed, seconds)
            print(f"{name}: {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
