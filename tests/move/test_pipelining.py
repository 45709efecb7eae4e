"""
A long line does not show, and memory does not grow with the number of files.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

import pytest
from twisted.internet.task import Clock

from realize.model import (
    EVERYTHING,
    Claim,
    Confirmed,
    Digests,
    Directory,
    Extent,
    Failure,
    File,
    Finish,
    Finished,
    Held,
    Offer,
    Page,
    Piece,
    Place,
    Prefix,
    Range,
    Removal,
    Removed,
    Subset,
    Written,
)
from realize.move.mover import Mover
from realize.move.outcome import MoveSettings, Outcome
from realize.store.interface import Source
from tests.support.memory.disk import NOW_NS
from tests.support.memory.link import Link
from tests.support.moving import Scene, drive

ROUND_TRIP = 0.05


@pytest.mark.parametrize(
    ("delay", "trips"),
    [((0.0, ROUND_TRIP), 16), ((ROUND_TRIP, 0.0), 22), ((ROUND_TRIP, ROUND_TRIP), 27)],
)
def test_ten_thousand_small_files(delay: tuple[float, float], trips: int) -> None:
    """
    They take not much longer than their listing, page by page, and seven steps.
    """
    scene = Scene(delay=delay)
    for number in range(10_000):
        scene.here.put(b"%d/%d" % (number // 100, number), b"x" * 1024)
    scene.run()
    assert scene.mover.totals.files["moved"] == 10_000
    assert scene.clock.seconds() <= trips * ROUND_TRIP


@pytest.mark.parametrize("delay", [(0.0, ROUND_TRIP), (ROUND_TRIP, 0.0)])
def test_ten_thousand_present_files(delay: tuple[float, float]) -> None:
    """
    Proving, hiding, asking and unlinking are pipelined as well.
    """
    scene = Scene(delay=delay)
    for number in range(10_000):
        scene.here.put(b"%d" % number, b"x")
        scene.there.put(b"%d" % number, b"x")
    scene.run()
    assert scene.mover.totals.files["present"] == 10_000
    assert scene.clock.seconds() <= 24 * ROUND_TRIP


def test_a_large_file() -> None:
    """
    The window opens fast enough to take a few round trips for many megabytes.
    """
    scene = Scene(delay=(0.0, ROUND_TRIP))
    scene.here.put(b"a", bytes(100 * 1024 * 1024))
    scene.run()
    assert scene.clock.seconds() <= 16 * ROUND_TRIP


def test_the_end_of_a_large_file() -> None:
    """
    It is finished right behind its last bytes: to see that there are two places, to ask
    whether the destination adopts, to offer, to send and to confirm take a round trip
    each, if it fits into the first window.
    """
    scene = Scene(delay=(0.0, ROUND_TRIP))
    scene.here.put(b"a", bytes(3 * 1024 * 1024))
    scene.run()
    assert scene.clock.seconds() == pytest.approx(5 * ROUND_TRIP, rel=0.05)


def test_many_files_of_middle_size() -> None:
    """
    They do not wait for one another.
    """
    scene = Scene(delay=(0.0, ROUND_TRIP))
    for number in range(100):
        scene.here.put(b"%d" % number, bytes(1536 * 1024))
    scene.run()
    assert scene.clock.seconds() <= 24 * ROUND_TRIP


def test_partials_are_bounded() -> None:
    """
    However many files there are, no more than so many are open at once.
    """
    scene = Scene(MoveSettings(open_files=100), delay=(0.0, ROUND_TRIP))
    for number in range(3000):
        scene.here.put(b"%d" % number, b"x")
    for number in range(20):
        scene.here.put(b"big%d" % number, bytes(1200 * 1024))
    scene.run()
    assert scene.mover.totals.files["moved"] == 3020
    assert 50 <= scene.destination.most_open <= 100


def test_small_files_do_not_wait_for_a_large_one() -> None:
    """
    Listed after a large file, they are done long before it, and the other way
    round it makes progress while there are small ones.
    """
    for large_first in (True, False):
        scene = Scene(delay=(0.0, ROUND_TRIP), page_size=100)
        if large_first:
            scene.here.put(b"big", bytes(300 * 1024 * 1024))
        for number in range(2000):
            scene.here.put(b"%d" % number, bytes(100 * 1024))
        if not large_first:
            scene.here.put(b"big", bytes(300 * 1024 * 1024))
        scene.run()
        ended = [outcome.path for outcome in scene.seen.outcomes]
        share = ended.index(b"big") / len(ended)
        assert share > 0.9 if large_first else share > 0.5
        big = [path for path, _, _ in scene.seen.larges]
        assert big == [b"big"]


def test_a_large_file_gets_its_share() -> None:
    """
    While there are small files, as many bytes of it are sent as of them.
    """
    scene = Scene(delay=(0.0, ROUND_TRIP))
    scene.mover.limit(1024 * 1024)
    scene.here.put(b"big", bytes(40 * 1024 * 1024))
    for number in range(1000):
        scene.here.put(b"%d" % number, bytes(25 * 1024))
    small = big = 0

    def each() -> None:
        nonlocal small, big
        if scene.mover.totals.succeeded < 950:
            small = scene.mover.totals.file_bytes["moved"]
            big = scene.mover.totals.sent - small

    scene.run(each)
    assert small > 10 * 1024 * 1024
    assert 0.5 * small < big < 2 * small


def test_small_batches_are_filled() -> None:
    """
    Files that arrive in short pages are put together.
    """
    scene = Scene(delay=(ROUND_TRIP / 10, ROUND_TRIP), page_size=50)
    for number in range(5000):
        scene.here.put(b"%d" % number, b"x")
    scene.run()
    assert scene.destination.link.asked["write"] <= 20


def test_a_limit_keeps_little_in_flight() -> None:
    """
    Under 64 KiB/s no more than that is on its way, whatever the files are like.
    """
    scene = Scene(delay=(0.0, ROUND_TRIP))
    scene.mover.limit(64 * 1024)
    scene.here.put(b"big", bytes(1024 * 1024))
    for number in range(100):
        scene.here.put(b"%d" % number, bytes(3 * 1024))
    most = 0

    def each() -> None:
        nonlocal most
        most = max(most, scene.mover._window.in_flight)

    scene.run(each)
    assert 0 < most <= 96 * 1024
    assert scene.mover.totals.succeeded == 101


class Endless:
    """
    Both ends of a move of very many files, which exist only while they are listed.
    """

    name = "endless"

    def __init__(self, clock: Clock, count: int) -> None:
        self.link = Link(clock, 0.01)
        self.count = count
        self.listed = 0
        self.most_ahead = 0
        self.removed = 0

    async def place(self) -> Place:
        return Place(b"x" * self.listed + b"p", [])

    async def close(self) -> None:
        """
        Nothing is held.
        """

    async def list(
        self, cursor: int, restore: bool = True, subset: Subset = EVERYTHING
    ) -> Page:
        end = min(self.count, cursor + 1000)
        files = [
            File(b"%d/%d" % (n // 1000, n), 1, NOW_NS, 0o644, b"%d" % n)
            for n in range(cursor, end)
        ]
        directory = Directory(b"%d" % (cursor // 1000), 0o755)
        page = Page(files, [directory], [], end if end < self.count else 0, NOW_NS)
        self.listed = end
        self.most_ahead = max(self.most_ahead, end - self.removed)
        return await self.link.carry("list", lambda: page)

    async def digest(self, files: Sequence[Prefix]) -> Sequence[Digests | Failure]:
        return [Digests([bytes(32)])] * len(files)

    async def read(
        self, ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes]:
        answer = [Extent(1, bytes(32))] * len(ranges), bytes(len(ranges))
        return await self.link.carry("read", lambda: answer)

    async def remove(self, files: Sequence[Removal]) -> Sequence[Removed | Failure]:
        self.removed += sum(each.step == "unlink" for each in files)
        return await self.link.carry("remove", lambda: [Removed()] * len(files))

    async def mark(self) -> bytes:
        return b""

    async def unmark(self) -> None:
        raise NotImplementedError

    async def sees(self, mark: bytes, above: bool = True) -> bool:
        raise NotImplementedError

    async def confirm(self, claims: Sequence[Claim]) -> Sequence[Confirmed | Failure]:
        return await self.link.carry("confirm", lambda: [Confirmed()] * len(claims))

    async def prune(self, directories: Sequence[bytes]) -> None:
        raise NotImplementedError

    async def offer(
        self,
        files: Sequence[Offer],
        directories: Sequence[Directory],
        reserve: bool = True,
    ) -> Sequence[Held | Failure]:
        return await self.link.carry("offer", lambda: [Held()] * len(files))

    async def compare(self, files: Sequence[Finish]) -> Sequence[Held | Failure]:
        return [Held()] * len(files)

    async def write(
        self, pieces: Sequence[Piece], payload: bytes | memoryview
    ) -> Sequence[Written | Failure]:
        return await self.link.carry("write", lambda: [Written(1)] * len(pieces))

    async def finish(self, files: Sequence[Finish]) -> Sequence[Finished | Failure]:
        # The slow step, so that everything before it piles up.
        await self.link._wait(1.0)
        return [Finished("written", b"v")] * len(files)

    async def adopt(
        self, source: Source, files: Sequence[File], directories: Sequence[Directory]
    ) -> Sequence[Finished | Failure] | None:
        return None


class Silent:
    """
    An observer that remembers nothing.
    """

    def listed(self, files: Sequence[File]) -> None: ...
    def restarted(self) -> None: ...
    def noticed(self, notice: object) -> None: ...

    def doubted(self, text: str) -> None: ...
    def began(self, path: bytes, size: int, kept: int) -> None: ...
    def advanced(self, nbytes: int, path: bytes) -> None: ...
    def ended(self, outcomes: Sequence[Outcome]) -> None: ...


def test_memory_does_not_grow_with_the_number_of_files() -> None:
    """
    Four times the files, the same peak; and the look-ahead is kept.
    """
    peaks = []
    for count in (16_000, 48_000):
        clock = Clock()
        stores = Endless(clock, count)
        mover = Mover(MoveSettings(look_ahead=4000), clock, Silent())
        gc.collect()
        tracemalloc.start()
        try:
            drive(clock, mover.run(stores, stores))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert mover.totals.files["moved"] == stores.removed == count
        assert 12_000 <= stores.most_ahead <= 4000 + 8192 + 2048
    assert peaks[0] > 2 * 1024 * 1024
    assert peaks[1] < 1.1 * peaks[0]
