"""
The look-ahead: what it lists, and what it hands out.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from realize.model import EVERYTHING, MAX_BATCH, Directory, File, Page, Subset
from realize.move import listing, offering
from realize.move.line import MAX_NAMES, Line
from realize.move.listing import MAX_OFFERED_BYTES, Lister
from realize.move.outcome import MoveSettings
from realize.move.pace import Pace
from realize.move.run import Run
from realize.move.tally import Memory, Tally
from tests.support.moving import Recorder, Scene, drive

MIB = 1024 * 1024


class Pages:
    """
    A source that lists given pages.
    """

    def __init__(self, pages: list[list[File]]) -> None:
        self.pages = pages
        self.asked: list[int] = []

    async def list(
        self, cursor: int, restore: bool = True, subset: Subset = EVERYTHING
    ) -> Page:
        self.asked.append(cursor)
        files = self.pages[cursor]
        parents = {
            b"/".join(file.path.split(b"/")[:depth])
            for file in files
            for depth in range(1, file.path.count(b"/") + 1)
        }
        directories = [Directory(path, 0o755) for path in sorted(parents)]
        more = cursor + 1 < len(self.pages)
        return Page(files, directories, [], cursor + 1 if more else 0, 0)

    async def mark(self) -> bytes:
        return b""


def file(path: bytes, size: int = 1) -> File:
    """
    One of a size.
    """
    return File(path, size, 0, 0o644, b"")


def lister(
    pages: list[list[File]], look_ahead: int = 10_000, settle: float = 0.0
) -> tuple[Lister, Pages]:
    """
    Has listed as much as it may.
    """
    clock, line, source = Clock(), Line(), Pages(pages)
    run = Run(
        line,
        source,  # type: ignore[arg-type]  # it lists, and no more is asked of it
        source,  # type: ignore[arg-type]  # nor of this
        Tally(Recorder()),
        clock,
        Pace(line, clock),
    )
    settings = MoveSettings(look_ahead=look_ahead, settle=settle)
    step = Lister(run, settings, run.may_go_on)

    async def first() -> None:
        line.steps = (step,)

    drive(clock, line.run(first()))
    return step, source


def test_batches_reach_across_pages() -> None:
    """
    Full batches, whatever the size of the pages.
    """
    pages = [[file(b"%d/%d" % (page, n)) for n in range(100)] for page in range(30)]
    step, _ = lister(pages)
    sizes = []
    while step.has(large=False):
        items, directories = step.take(large=False)
        sizes.append(len(items))
        parents = {item.file.path.split(b"/")[0] for item in items}
        assert {entry.path for entry in directories} == parents
    assert sizes == [MAX_BATCH, MAX_BATCH, 3000 - 2 * MAX_BATCH]
    assert step.exhausted
    assert step.load == 0


def test_a_file_is_listed_once() -> None:
    """
    Some file systems name one twice that is renamed meanwhile: in one page it counts
    once, and never is it in a batch with itself.
    """
    step, _ = lister([[file(b"a"), file(b"b"), file(b"a")], [file(b"b"), file(b"c")]])
    batches = []
    while step.has(large=False):
        items, _ = step.take(large=False)
        batches.append([item.file.path for item in items])
    assert batches == [[b"a", b"b"], [b"b", b"c"]]


def test_small_and_large_files_wait_apart() -> None:
    """
    And large ones are handed out by their bytes.
    """
    step, _ = lister(
        [[file(b"a"), file(b"x", 200 * MIB), file(b"b"), file(b"y", 200 * MIB)]]
    )
    assert step.load == 4
    assert [item.file.path for item in step.take(large=False)[0]] == [b"a", b"b"]
    assert [item.file.path for item in step.take(large=True)[0]] == [b"x"]
    assert [item.file.path for item in step.take(large=True)[0]] == [b"y"]
    assert not step.has(large=True)
    assert 200 * MIB < MAX_OFFERED_BYTES < 400 * MIB


def test_names_have_a_bound() -> None:
    """
    Those of the directories count.
    """
    deep = b"/".join([b"d" * 200] * 10)
    step, _ = lister([[file(deep + b"/%d" % n) for n in range(1000)]])
    items, directories = step.take(large=False)
    names = sum(len(item.file.path) for item in items)
    names += sum(len(entry.path) for entry in directories)
    assert len(directories) == 10
    assert MAX_NAMES - 5000 < names <= MAX_NAMES


def test_directories_come_parents_first_and_only_those_needed() -> None:
    """
    Whatever is on the page besides.
    """
    step, _ = lister([[file(b"a/b/c/x"), file(b"a/b/y"), file(b"big/z", 3 * MIB)]])
    _, directories = step.take(large=False)
    assert [entry.path for entry in directories] == [b"a", b"a/b", b"a/b/c"]
    _, directories = step.take(large=True)
    assert [entry.path for entry in directories] == [b"big"]


def test_look_ahead_is_kept() -> None:
    """
    No page is asked for that might not fit; one too large for it alone is.
    """
    pages = [[file(b"%d/%d" % (page, n)) for n in range(100)] for page in range(10)]
    step, source = lister(pages, look_ahead=350)
    assert source.asked == [0, 1, 2]
    assert step.load == 300
    step, source = lister(pages, look_ahead=10)
    assert source.asked == [0]
    assert step.load == 100


def test_offers_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Space is promised for what is sent soon, not for all that was listed; small
    files are offered all the same.
    """
    monkeypatch.setattr(offering, "MAX_OFFERED_BYTES", 6 * MIB)
    monkeypatch.setattr(listing, "MAX_OFFERED_BYTES", 4 * MIB)
    scene = Scene(delay=(0.0, 0.05))
    scene.mover.limit(4 * MIB)
    for number in range(40):
        scene.here.put(b"big%d" % number, bytes(3 * MIB))
    scene.here.put(b"last", b"x")
    most = 0

    def each() -> None:
        nonlocal most
        most = max(most, sum(scene.destination._offered.values()))

    seen = scene.run(each)
    assert scene.mover.totals.files["moved"] == 41
    assert b"last" in [outcome.path for outcome in seen.outcomes[:2]]
    assert 6 * MIB <= most <= 27 * MIB


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_memory(count: int) -> None:
    """
    Knows what was added, once sorted, and nothing else.
    """
    memory = Memory()
    assert not memory
    for turn in range(2):
        for number in range(count):
            memory.add(b"%d/%d" % (turn, number))
        assert b"%d/0" % turn not in memory
        memory.sort()
        assert bool(memory) is (count > 0)
        assert all(b"%d/%d" % (turn, number) in memory for number in range(count))
    assert b"other" not in memory


@pytest.mark.parametrize(
    ("mtime", "ctime", "taken"),
    [
        (-60, -60, True),
        (-60, -10, False),
        (-10, -60, False),
        (3600, -60, True),
        (3600, -10, False),
        (10, -60, False),
    ],
)
def test_settled_by_both_times(mtime: float, ctime: float, taken: bool) -> None:
    """
    The later of modification and change counts, and only the change where a file says
    to have been modified in the future.
    """
    young = File(
        b"young", 1, round(mtime * 1e9), 0o644, b"", ctime_ns=round(ctime * 1e9)
    )
    settling, _source = lister([[young]], settle=30.0)
    assert settling.has(large=False) is taken
