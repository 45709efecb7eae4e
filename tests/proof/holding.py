"""
What it means that a move holds, on any two file systems and whatever they answer.

1. No content is lost, and nothing comes to be under a name that is nobody's.
2. What is reported as moved is at the destination, under its exact name, and not at the
   source any more.
3. The exit status tells: it is 0 only if everything was moved.
4. There is no traceback, and an end in bounded time.
5. Once nothing goes wrong any more, the next run comes to the end, or says of each file
   that is left why it cannot be moved; none is deferred for ever.

What is there is looked at below the file systems, where nothing is cached or renamed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from realize.paths import is_hidden_directory, is_partial, unprintable
from tests.support.programs import Said, World

#: Outcomes that say that a file has been moved.
MOVED: Final = frozenset({"moved", "replaced", "present", "renamed"})

#: Seconds after which no file has changed just now, however coarse times are.
COARSE: Final = 6.0

#: Names that file systems disagree about, and what is in the files.
NAMES: Final = (
    b"plain",
    b"README",
    b"readme",
    b"DCIM/one",
    b"dcim/two",
    "n\u00e4chste".encode(),
    "na\u0308chste".encode(),
    b"ends in a dot.",
    b"ends in a space ",
    b'what: "a" <b>?',
    b"new\nline",
    b"latin caf\xe9",
    b"deep/er/and/deeper",
    b"l" * 200,
    b"L" * 255,
    "\u00e4".encode() * 120,
    "🧀".encode() * 63,
    b"empty",
    b"large",
    b"old",
    b"same",
    b".hidden",
)


def content_of(path: bytes) -> bytes:
    """
    What is in the file of a name; no two are the same.
    """
    if path == b"empty":
        return b""
    size = 3 << 20 if path == b"large" else 100
    seed = hashlib.sha256(path).digest()
    return (seed * (size // len(seed) + 1))[:size] + path


def digests(root: Path) -> dict[bytes, bytes]:
    """
    SHA-256 of each regular file below a directory, by its path.
    """
    found = {}
    base = os.fsencode(root)
    for folder, _, names in os.walk(base):
        for name in names:
            whole = os.path.join(folder, name)
            with suppress(FileNotFoundError), open(whole, "rb") as file:
                path = os.path.relpath(whole, base)
                found[path] = hashlib.file_digest(file, "sha256").digest()
    return found


@define
class Ends:
    """
    Where files are moved from and to.

    :ivar source: as the program is told.
    :ivar destination: as the program is told.
    :ivar source_below: where the same is seen as it is.
    :ivar destination_below: where the same is seen as it is.
    :ivar before: what was at the source.
    :ivar old: what was at the destination.
    """

    world: World
    source: str
    destination: str
    source_below: Path
    destination_below: Path
    before: Mapping[bytes, bytes] = field(factory=dict)
    old: Mapping[bytes, bytes] = field(factory=dict)

    def plant(self, source: Path, destination: Path) -> None:
        """
        Files at both ends, under all names that the file systems take for different
        ones.

        :param source: where the source's file system is seen by its users.
        :param destination: the same of the destination.
        """
        for path in NAMES:
            _write(source, path, content_of(path))
        _write(destination, b"old", b"an old version")
        _write(destination, b"same", content_of(b"same"))
        self.before = digests(self.source_below)
        self.old = digests(self.destination_below)

    def move(self, *words: str, **more: Any) -> Said:
        """
        One run, after which what was moved, and only that, is gone from the source.
        """
        said = self.world.realize(
            *("move", "--on-conflict=replace", "--output=json", "--settle=0", *words),
            *(self.source, self.destination),
            status=None,
            **more,
        )
        self.check(said)
        return said

    def check(self, said: Said) -> None:
        """
        See (1) to (4).
        """
        assert "Traceback" not in said.out + said.err, said.err
        self.nothing_is_lost()
        here, there = digests(self.source_below), digests(self.destination_below)
        outcomes = outcomes_of(said)
        for path, outcome in outcomes.items():
            if outcome["outcome"] in MOVED:
                wanted = self.before.get(path)
                assert there.get(path) == wanted, (path, outcome, said)
                assert here.get(path) != wanted, (path, outcome, said)
            elif outcome["outcome"] in ("failed", "deferred"):
                assert outcome["code"], outcome
                assert outcome["text"], outcome
        left = [path for path in here if not is_ours(path)]
        kinds = {each["outcome"] for each in outcomes.values()}
        if said.status == 0:
            assert kinds <= MOVED, said
            assert left == [], said
        else:
            assert kinds - MOVED or closed_in(said) or error_of(said), said

    def nothing_is_lost(self) -> None:
        """
        See (1).
        """
        here, there = digests(self.source_below), digests(self.destination_below)
        complete = {each for path, each in there.items() if not is_partial(_name(path))}
        lost = [
            path
            for path, each in self.before.items()
            if each not in complete and each not in here.values()
        ]
        assert lost == []
        strange = {path for path in there if not is_ours(path)}
        assert strange <= {*self.before, *self.old}, strange

    def come_to_the_end(self, *words: str) -> Said:
        """
        See (5).

        :returns: what the last run said.
        """
        said = self.move(*words)
        until = time.monotonic() + COARSE
        while said.status and time.monotonic() < until:
            # What has just been written to is left alone where times are coarse.
            if "deferred" in {each["outcome"] for each in outcomes_of(said).values()}:
                time.sleep(1)
            else:
                until = 0
            said = self.move(*words)
        for path, outcome in outcomes_of(said).items():
            assert outcome["outcome"] in {*MOVED, "failed"}, (path, outcome)
        failed = {
            path
            for path, each in outcomes_of(said).items()
            if each["outcome"] == "failed"
        }
        left = {path for path in digests(self.source_below) if not is_ours(path)}
        if not error_of(said) and not closed_in(said):
            assert left <= failed, (left - failed, said)
        if said.status == 0:
            assert {**self.old, **self.before} == {
                path: each
                for path, each in digests(self.destination_below).items()
                if not is_ours(path)
            }
        return said


def closed_in(said: Said) -> list[bytes]:
    """
    Directories that it could not look at, or could remove nothing from.
    """
    return [
        unprintable(each["path"])
        for each in said.json
        if each.get("kind") in ("unreadable", "unremovable")
    ]


def error_of(said: Said) -> str:
    """
    What ended the whole run before its time; empty if nothing did.
    """
    ends = [each["error"] for each in said.json if each["event"] == "summary"]
    return ends[0] or "" if ends else said.err


def outcomes_of(said: Said) -> dict[bytes, dict[str, Any]]:
    """
    Of each file, by its path.
    """
    return {
        unprintable(each["path"]): each for each in said.json if each["event"] == "file"
    }


def _write(root: Path, path: bytes, content: bytes) -> None:
    whole = os.path.join(os.fsencode(root), path)
    # What the file system takes for another name, or for none, is not there.
    with suppress(OSError):
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "xb") as file:
            file.write(content)
        with suppress(OSError):
            os.chmod(whole, 0o640)
            os.utime(whole, ns=(0, 1_600_000_000_123_456_789))


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def is_ours(path: bytes) -> bool:
    """
    Whether it is under construction, or waits to be unlinked.
    """
    *folders, name = path.split(b"/")
    return (
        is_partial(name)
        or any(map(is_hidden_directory, folders))
        or name.startswith(b".fuse_hidden")
    )
