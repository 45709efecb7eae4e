"""
New versions of files that the destination has: what it has is reused there, only the
rest is sent.

A file becomes *patches*: each is what one request may carry of bytes to fetch and of
places to copy from.  Several are on their way at once; the reads may be answered in any
order, the patches are begun in the order of the file.  What fails on account of
the present file, which may vanish or change at any time, is offered once more and sent
without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred

from realize.delta.chunks import comparable
from realize.delta.exchange import Patch
from realize.delta.plan import Fetch, Reuse, Step, joined_step, part_of
from realize.errors import DigestMismatch, NoSuchFile, PeerError
from realize.model import MAX_BATCH, Extent, Failure, Range, Written
from realize.move.comparing import Comparison
from realize.move.outcome import Side
from realize.move.run import Run
from realize.move.sending import CUT_SHORT, ODD_SIZE
from realize.move.signing import CannotCompare
from realize.move.tally import Item
from realize.move.window import Window

#: Files in progress at once; of those beyond a size, only one.
FILES: Final = 8
LARGE: Final = 64 * 1024 * 1024

#: How many times as much as there is to send may have to be read: holes, and what the
#: present file has more, are signed too.
MOST: Final = 16

#: Most bytes that one patch takes from the present file, and patches of one file on
#: their way.
REUSED: Final = 16 * 1024 * 1024
PATCHES: Final = 8

#: What says that the present file is not the one that was compared.
_PRESENT_CHANGED: Final = frozenset({NoSuchFile.code, DigestMismatch.code})


@define(eq=False)
class _Progress:
    """
    A file in progress.

    :ivar unanswered: patches on their way.
    :ivar turn: fires once the patch before has been begun.
    :ivar failure: why nothing more is to be done for it.
    """

    item: Item
    unanswered: int = 0
    turn: Deferred[None] | None = None
    failure: tuple[Side, Failure] | None = None

    def fail(self, side: Side, failure: Failure) -> None:
        """
        Only the first failure counts.
        """
        self.failure = self.failure or (side, failure)


@define(eq=False)
class Patcher:
    """
    The step that compares files and sends what differs.

    :ivar written: what to do with files that are whole.
    :ivar again: what to do with those that are to be sent without being compared.
    :ivar has_room: whether another partial may be opened.
    :ivar others: whether other files wait for a share of the window.
    """

    _run: Run
    _window: Window
    _written: Callable[[Sequence[Item]], None]
    _again: Callable[[Item], None]
    _has_room: Callable[[], bool]
    _others: Callable[[], bool]
    _queue: deque[Item] = field(factory=deque)
    _files: int = 0
    _large: int = 0
    #: Bytes of the window that are used here.
    _in_flight: int = 0
    #: Coroutines that wait until something has changed.
    _waiting: list[Deferred[None]] = field(factory=list)

    @property
    def load(self) -> int:
        """
        Files that wait here or are in progress.
        """
        return len(self._queue) + self._files

    @property
    def open(self) -> int:
        """
        Partials that are open on account of this step.
        """
        return self._files

    def takes(self, item: Item) -> bool:
        """
        Whether a file is to be compared with the one it replaces.
        """
        return (
            bool(item.version)
            and not item.compared
            and not item.whole
            and item.file.size > self._window.slice
            and comparable(item.file.size, item.present)
            and item.present <= MOST * item.file.size
            and item.file.size <= MOST * (item.file.size - item.file.holes)
        )

    def put(self, items: Iterable[Item]) -> None:
        """
        Queue files; of one with a partial, :attr:`Item.kept` bytes were kept.
        """
        self._queue.extend(items)

    def begin(self) -> None:
        """
        Begin what can be begun, and let go on what waits.
        """
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)
        while self._queue and self._may_begin(self._queue[0]):
            self._run.line.start(self._make(self._queue.popleft()))

    def _may_begin(self, item: Item) -> bool:
        if not self._run.may_go_on():
            return False
        if _size(item) > LARGE and self._large:
            return False
        return self._files < FILES and (self._has_room() or not self._files)

    async def _make(self, item: Item) -> None:
        item.compared = True
        large = _size(item) > LARGE
        self._files += 1
        self._large += large
        self._run.tally.began(item)
        progress = _Progress(item)
        try:
            await self._carry_out(progress)
        finally:
            self._files -= 1
            self._large -= large
        if self._run.line.error is not None:
            return
        if progress.failure is None:
            self._written([item])
            return
        side, failure = progress.failure
        if side == "destination" and failure.code in _PRESENT_CHANGED:
            item.digest = b""
            self._again(item)
        else:
            self._run.refuse([(item, failure)], side)

    async def _carry_out(self, progress: _Progress) -> None:
        item = progress.item
        comparison = Comparison.of(
            item.file.path,
            (self._run.source, item.file.identity, item.file.size),
            (self._run.destination, item.version, item.present),
            self._run.clock,
            item.sparse,
        )
        try:
            # If both are the same, nothing is to be written: it is finished from what
            # is present.  With a partial, though nothing of it was kept, it would be
            # from that.
            steps = comparison.steps(item.kept, unless_same=not item.partial)
            async with aclosing(steps) as plan:
                async for patch in self._patches(item, plan):
                    while not self._may_patch(progress):
                        await self._change()
                    if progress.failure or self._run.line.error is not None:
                        break
                    self._send(progress, patch)
            item.digest = comparison.digest
        except CannotCompare as error:
            # What could not be compared can still be sent, unless it was the source.
            failure = error.failure
            if error.side == "destination":
                failure = Failure.of(DigestMismatch(failure.text))
            progress.fail(error.side, failure)
        while progress.unanswered:
            await self._change()

    def _may_patch(self, progress: _Progress) -> bool:
        if progress.failure or self._run.line.error is not None:
            return True
        share = self._window.size // 2 if self._others() else self._window.size
        return progress.unanswered < PATCHES and (
            not self._in_flight or (self._in_flight < share and self._window.has_room())
        )

    async def _change(self) -> None:
        """
        Wait until anything has happened.
        """
        change: Deferred[None] = Deferred()
        self._waiting.append(change)
        await change

    # -- patches

    async def _patches(
        self, item: Item, plan: AsyncGenerator[list[Step], None]
    ) -> AsyncGenerator[Patch, None]:
        """
        The plan behind :attr:`Item.kept`, cut into patches.
        """
        steps: list[Reuse | Fetch] = []
        fetched = reused = 0

        def patch() -> Patch:
            return Patch(item.file.path, item.version, steps)

        async for part in plan:
            for whole in part:
                step = _behind(whole, item.kept)
                while step is not None:
                    is_fetch = isinstance(step, Fetch)
                    room = self._window.slice - fetched if is_fetch else REUSED - reused
                    if room <= 0 or len(steps) == MAX_BATCH:
                        yield patch()
                        steps, fetched, reused = [], 0, 0
                        continue
                    length = min(room, step.length)
                    _append(steps, part_of(step, 0, length))
                    if is_fetch:
                        fetched += length
                    else:
                        reused += length
                    step = _behind(step, step.offset + length)
        if steps:
            yield patch()

    def _send(self, progress: _Progress, patch: Patch) -> None:
        turn, progress.turn = progress.turn, Deferred()
        progress.unanswered += 1
        self._run.line.start(self._carry(progress, patch, turn, progress.turn))

    async def _carry(
        self,
        progress: _Progress,
        patch: Patch,
        turn: Deferred[None] | None,
        next_turn: Deferred[None],
    ) -> None:
        nbytes = patch.fetched
        flight = self._window.begin(nbytes, self._run.clock.seconds())
        self._in_flight += nbytes
        try:
            data = await self._fetch(progress, patch)
            if turn is not None:
                await turn
            if progress.failure is None:
                writing = Deferred.fromCoroutine(
                    self._run.destination.reuse(patch, data)
                )
                next_turn.callback(None)
                await self._answered(progress, patch, writing)
        except BaseException:
            # Given up, or the connection is lost: what follows would leave a gap.
            progress.fail("source", CUT_SHORT)
            raise
        finally:
            if not next_turn.called:
                next_turn.callback(None)
            progress.unanswered -= 1
            self._in_flight -= nbytes
            if patch.reused or progress.failure:
                # What is copied on the way says nothing about the line.
                self._window.drop(flight)
            else:
                self._window.land(flight, self._run.clock.seconds())

    async def _fetch(self, progress: _Progress, patch: Patch) -> bytes | memoryview:
        file = progress.item.file
        ranges = [
            Range(file.path, file.identity, step.offset, step.length)
            for step in patch.steps
            if isinstance(step, Fetch)
        ]
        if not ranges:
            return b""
        try:
            extents, data = await self._run.read(ranges)
        except PeerError as error:
            progress.fail("source", Failure.of(error))
            return b""
        for wanted, extent in zip(ranges, extents, strict=True):
            if isinstance(extent, Failure):
                progress.fail("source", extent)
            elif not isinstance(extent, Extent) or extent.length != wanted.length:
                progress.fail("source", CUT_SHORT)
        return data

    async def _answered(
        self,
        progress: _Progress,
        patch: Patch,
        writing: Deferred[Written | Failure],
    ) -> None:
        item, last = progress.item, patch.steps[-1]
        result: Written | Failure
        try:
            result = await writing
        except PeerError as error:
            result = Failure.of(error)
        if isinstance(result, Written) and result.size != last.offset + last.length:
            result = ODD_SIZE
        if isinstance(result, Failure):
            progress.fail("destination", result)
            return
        item.sent += patch.fetched
        item.reused += patch.reused
        self._run.tally.advanced(patch.fetched, item.file.path)
        self._run.tally.reused(patch.reused, item.file.path)


def _size(item: Item) -> int:
    return max(item.file.size, item.present)


def _behind(step: Step, offset: int) -> Step | None:
    """
    What of a step lies behind an offset.
    """
    skip = max(0, offset - step.offset)
    return part_of(step, skip, step.length - skip) if skip < step.length else None


def _append(steps: list[Reuse | Fetch], step: Step) -> None:
    joined = joined_step(steps[-1], step) if steps else None
    if joined is None:
        steps.append(step)
    else:
        steps[-1] = joined
