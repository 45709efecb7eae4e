"""
The mover on directories of this host.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from realize.config import DirectorySettings
from realize.errors import SamePlace
from realize.model import Directory, Failure, File, Finished
from realize.move.mover import Mover
from realize.move.outcome import MoveSettings
from realize.store.destination import LocalDestination
from realize.store.directory import LocalDirectory
from realize.store.guard import ignore_lease_signals
from realize.store.interface import Source
from tests.support.moving import Recorder
from tests.support.threads import QueueReactor

MIB = 1024 * 1024


class Elsewhere:
    """
    A destination as one on another file system is: it does not adopt.
    """

    def __init__(self, real: LocalDestination) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    async def adopt(
        self, source: Source, files: Sequence[File], directories: Sequence[Directory]
    ) -> Sequence[Finished | Failure] | None:
        return None


@define
class Place:
    """
    Two directories and what moves between them.

    :ivar copying: whether files are copied although they could be renamed.
    """

    source: Path
    target: Path
    copying: bool = True
    settings: MoveSettings = field(factory=MoveSettings)
    seen: Recorder = field(factory=Recorder)
    reactor: QueueReactor = field(factory=QueueReactor)

    def move(self, abort_after: int | None = None) -> Mover:
        """
        One run, in stores opened for it.

        :param abort_after: answers from threads after which it is aborted.
        """
        wait = self.reactor.wait_for
        here = LocalDirectory("here", DirectorySettings(path=self.source), self.reactor)  # type: ignore[arg-type]
        there = LocalDirectory(
            "there", DirectorySettings(path=self.target), self.reactor
        )  # type: ignore[arg-type]
        source = wait(here.open_source(settle_ns=0))
        destination = wait(there.open_destination())
        mover = Mover(self.settings, Clock(), self.seen)
        results: list[object] = []
        run = Deferred.fromCoroutine(
            mover.run(source, Elsewhere(destination) if self.copying else destination)  # type: ignore[arg-type]
        )
        run.addBoth(results.append)
        answers = iter(range(abort_after or 0))
        try:
            self.reactor.run_until(
                lambda: (
                    bool(results)
                    or (abort_after is not None and next(answers, None) is None)
                )
            )
            mover.abort()
            if results != [None]:
                results[0].raiseException()  # type: ignore[attr-defined]  # a Failure
        finally:
            for each in (source, destination, here, there):
                wait(each.close())
        return mover


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """
    Two empty directories.
    """
    ignore_lease_signals()
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    return Place(tmp_path / "source", tmp_path / "target")


def grow(root: Path, seed: int = 1) -> dict[bytes, tuple[bytes, int, int]]:
    """
    A tree with all kinds of files.
    """
    random = Random(seed)  # noqa: S311  # no secret
    for number in range(300):
        directory = root / f"d{number % 7}" / f"e{number % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(random.randbytes(number * 10))
    (root / "empty").touch()
    (root / "big").write_bytes(random.randbytes(7 * MIB + 5))
    (root / "middle").write_bytes(random.randbytes(MIB))
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b"{}", b"n" * 255, b" "):
        (root / os.fsdecode(name)).write_bytes(name)
    (root / "big").chmod(0o640)
    os.utime(root / "middle", ns=(1, 1_234_567_890_123_456_789))
    (root / "d0").chmod(0o750)
    return snapshot(root)


def snapshot(root: Path) -> dict[bytes, tuple[bytes, int, int]]:
    """
    Content, permission bits and modification time of all files, by path.
    """
    found = {}
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            with open(path, "rb") as file:
                found[os.path.relpath(path, os.fsencode(root))] = (
                    file.read(),
                    status.st_mode & 0o777,
                    status.st_mtime_ns,
                )
    return found


@pytest.mark.parametrize("copying", [True, False])
@pytest.mark.parametrize("remove_directories", [True, False])
def test_a_tree(place: Place, copying: bool, remove_directories: bool) -> None:
    """
    Everything arrives as it was, copied or renamed.
    """
    before = grow(place.source)
    place.copying = copying
    place.settings = MoveSettings(remove_directories=remove_directories)
    mover = place.move()
    assert snapshot(place.target) == before
    assert snapshot(place.source) == {}
    assert (list(place.source.iterdir()) == []) is remove_directories
    assert (place.target / "d0").stat().st_mode & 0o777 == 0o750
    kind = "moved" if copying else "renamed"
    assert mover.totals.files[kind] == mover.totals.listed == len(before)
    if copying:
        sizes = sum(len(content) for content, _, _ in before.values())
        assert mover.totals.sent == place.seen.arrived == sizes


def test_present_replaced_and_open(place: Place) -> None:
    """
    What is there already is not sent, what is other is replaced, what is open for
    writing waits.
    """
    before = grow(place.source)
    (place.target / "big").write_bytes((place.source / "big").read_bytes())
    (place.target / "middle").write_bytes(b"x" * MIB)
    (place.target / "empty").write_bytes(b"not empty")
    with open(place.source / "d0" / "e0" / "f0", "ab"):
        place.move()
    kinds = place.seen.kinds()
    assert kinds.pop(b"big") == "present"
    assert kinds.pop(b"middle") == kinds.pop(b"empty") == "replaced"
    assert kinds.pop(b"d0/e0/f0") == "deferred"
    assert place.seen.of(b"d0/e0/f0").code == "STILL_OPEN"
    assert set(kinds.values()) == {"moved"}
    assert set(snapshot(place.source)) == {b"d0/e0/f0"}
    after = snapshot(place.target)
    assert {path: after[path][0] for path in after} == {
        path: before[path][0] for path in before if path != b"d0/e0/f0"
    }


def test_a_partial_is_continued(place: Place) -> None:
    """
    An aborted move leaves partials, whose bytes are not sent again.
    """
    content = Random(1).randbytes(12 * MIB)  # noqa: S311  # no secret
    (place.source / "a").write_bytes(content)
    (place.target / ".a.realize-part").write_bytes(content[: 5 * MIB])
    place.move()
    outcome = place.seen.of(b"a")
    assert (outcome.kept, outcome.sent) == (5 * MIB, 7 * MIB)
    assert (place.target / "a").read_bytes() == content
    assert os.listdir(place.target) == ["a"]


def test_a_damaged_partial_is_not(place: Place) -> None:
    """
    What it holds wrongly is sent again.
    """
    content = Random(1).randbytes(3 * MIB)  # noqa: S311  # no secret
    (place.source / "a").write_bytes(content)
    (place.target / ".a.realize-part").write_bytes(bytes(2 * MIB))
    place.move()
    assert (place.seen.of(b"a").kept, place.seen.of(b"a").sent) == (0, 3 * MIB)
    assert (place.target / "a").read_bytes() == content


@pytest.mark.parametrize("copying", [True, False])
def test_aborted_again_and_again(place: Place, copying: bool) -> None:
    """
    However often a move is aborted, nothing is lost, and in the end all is there.
    """
    before = grow(place.source)
    place.copying = copying
    for abort_after in (1, 2, 3, 5, 8, 13, 21, 34):
        place.seen = Recorder()
        place.move(abort_after)
        here, there = snapshot(place.source), snapshot(place.target)
        for path, expected in before.items():
            assert expected in (here.get(path), there.get(path)), path
    place.seen = Recorder()
    place.move()
    assert snapshot(place.target) == before
    assert snapshot(place.source) == {}


def test_a_dry_run_changes_nothing(place: Place) -> None:
    """
    Not even a directory.
    """
    before = grow(place.source)
    (place.target / "big").write_bytes((place.source / "big").read_bytes())
    (place.target / "empty").write_bytes(b"other")
    there = snapshot(place.target)
    place.settings = MoveSettings(dry_run=True)
    for copying in (True, False):
        place.copying = copying
        place.seen = Recorder()
        place.move()
        assert snapshot(place.source) == before
        assert snapshot(place.target) == there
        assert sorted(os.listdir(place.target)) == ["big", "empty"]
        kinds = place.seen.kinds()
        assert kinds.pop(b"big") == "present"
        assert kinds.pop(b"empty") == "replaced"
        assert set(kinds.values()) == {"moved"}


def test_a_dry_run_leaves_hidden_what_a_crash_left(place: Place) -> None:
    """
    It says so; the move that follows puts it back, and moves it.
    """
    hidden = place.source / "sub" / ".realize-moved-0123456789abcdef"
    hidden.mkdir(parents=True)
    (hidden / "left").write_bytes(b"content")
    before = {path: path.lstat().st_ctime_ns for path in place.source.rglob("*")}
    place.settings = MoveSettings(dry_run=True)
    place.move()
    (notice,) = place.seen.notices
    assert (notice.path, notice.kind) == (b"sub/left", "hidden")
    assert place.seen.kinds() == {}
    after = {path: path.lstat().st_ctime_ns for path in place.source.rglob("*")}
    assert after == before
    place.settings = MoveSettings()
    place.move()
    assert (place.target / "sub" / "left").read_bytes() == b"content"
    assert not hidden.exists()


@pytest.mark.parametrize("how", ["same", "inside", "around", "link"])
def test_the_same_place(place: Place, tmp_path: Path, how: str) -> None:
    """
    Refused, whichever way it is reached.
    """
    (place.source / "sub").mkdir()
    (place.source / "a").write_bytes(b"a")
    match how:
        case "same":
            place.target = place.source
        case "inside":
            place.target = place.source / "sub"
        case "around":
            place.target = tmp_path
        case _:
            place.target = tmp_path / "link"
            place.target.symlink_to(place.source)
    with pytest.raises(SamePlace):
        place.move()
    assert (place.source / "a").read_bytes() == b"a"
