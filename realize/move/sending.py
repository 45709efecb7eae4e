"""
From the source into partials at the destination: the step through which bytes pass.

There are two lanes.  Small files travel in batches, each file whole.  Large ones are
cut into slices, several of which are on their way at once; reads may be answered in
any order, writes are begun in the order of the file.  Of a file with holes the source
tells what lies ahead, so that no slice is spent on a hole.  Large files take turns; the
next begins as soon as the last slice of the one before was asked for.
While both lanes have work, they get equal shares of the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from realize.errors import InternalError, PeerError, SourceChanged
from realize.model import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    MAX_RUNS,
    Extent,
    Failure,
    Piece,
    Range,
    Written,
)
from realize.move.line import MAX_NAMES
from realize.move.run import Run
from realize.move.tally import Item
from realize.move.window import LARGEST_SLICE, Flight, Window

#: Large files take turns of so many bytes, at most so many at a time: a very large one
#: does not hold up those that come after it.
TURN: Final = 256 * 1024 * 1024
TAKING_TURNS: Final = 4

#: What to say of a file that ended too early, and of an answer that cannot be right.
CUT_SHORT: Final = Failure.of(
    SourceChanged("fewer bytes were read than the file had when it was listed")
)
ODD_SIZE: Final = Failure.of(
    InternalError("the partial does not hold what was written")
)


@define(eq=False)
class Large:
    """
    A file that is sent in slices.

    :ivar asked: where the next slice to be read begins.
    :ivar placed: where the next slice to be written begins.
    :ivar known: what comes from *asked* on, as far as that is known: where each run
        ends, and whether it is a hole.
    :ivar arrived: slices that were read before an earlier one was, by offset.
    :ivar unanswered: writes begun and not answered.
    :ivar finishing: its last write was begun, and the rest is up to *finish*.
    :ivar broken: nothing more is to be done for it.
    """

    item: Item
    asked: int = 0
    placed: int = 0
    known: deque[tuple[int, bool]] = field(factory=deque)
    arrived: dict[int, tuple[Flight, Extent, bytes | memoryview]] = field(factory=dict)
    unanswered: int = 0
    finishing: bool = False
    broken: bool = False

    def take(self, most: int) -> tuple[int, int]:
        """
        Ask for the next slice: as far as it is known what comes, with *most* bytes of
        data; else *most* bytes, whatever they are.

        :returns: its bytes, and how many of them are holes.
        """
        begin = end = self.asked
        data = runs = 0
        while self.known and runs < MAX_RUNS - 2:
            stop, is_hole = self.known[0]
            if not is_hole and stop - end > most - data:
                data, end = most, end + most - data
                break
            data += 0 if is_hole else stop - end
            end = stop
            self.known.popleft()
            runs += 1
        if end == begin:
            end = min(begin + most, self.item.file.size)
            data = end - begin
        self.asked = end
        return end - begin, end - begin - data

    def learn(self, at: int, ahead: Sequence[int]) -> None:
        """
        The source has told what comes at *at*; of use is what was not known, and was
        not asked for.
        """
        known = self.known[-1][0] if self.known else self.asked
        if at > known:
            return
        for index, length in enumerate(ahead):
            at = min(at + length, self.item.file.size)
            if at > known:
                self.known.append((at, index % 2 == 1))
                known = at


@define(eq=False)
class Sender:
    """
    The step that reads and writes.

    :ivar written: what to do with files whose last byte was written, or will have been
        before anything that is asked for now.
    :ivar waiting: how many partials are open beyond those that are being written.
    :ivar more: whether further small files can be expected soon.
    """

    _run: Run
    _window: Window
    _written: Callable[[Sequence[Item]], None]
    _waiting: Callable[[], int]
    _more: Callable[[], bool]
    _small: deque[Item] = field(factory=deque)
    _small_bytes: int = 0
    _large: deque[Large] = field(factory=deque)
    _large_bytes: int = 0
    #: Large files that were begun and not asked for to their end, and the bytes asked
    #: for of the first, whose turn it is.
    _turns: deque[Large] = field(factory=deque)
    _turn: int = 0
    _batches: int = 0
    _open: int = 0
    #: Bytes asked for in each lane since both last had work.
    _small_share: int = 0
    _large_share: int = 0

    @property
    def load(self) -> int:
        """
        Files that wait here or are being sent.
        """
        return len(self._small) + len(self._large) + self._open

    def queued_bytes(self, large: bool) -> int:
        """
        Bytes of the large, or the small, files that wait here.
        """
        return self._large_bytes if large else self._small_bytes

    def put(self, items: Sequence[Item]) -> None:
        """
        Queue files to be sent from their first byte.
        """
        slice_size = self._window.slice
        for item in items:
            if item.file.size > slice_size:
                self._large.append(Large(item))
                self._large_bytes += item.file.size
            else:
                self._small.append(item)
                self._small_bytes += item.file.size

    def resume(self, item: Item) -> None:
        """
        Queue a file of whose partial :attr:`Item.kept` bytes were kept.
        """
        self._large.append(Large(item, asked=item.kept, placed=item.kept))
        self._large_bytes += item.file.size - item.kept

    def begin(self) -> None:
        """
        Fill the window.
        """
        line, window = self._run.line, self._window
        while line.error is None and window.has_room():
            large = self._next_large()
            small = not line.stopping and self._may_send_small()
            if large and (not small or self._large_share <= self._small_share):
                if not small:
                    self._small_share = self._large_share
                self._begin_slice(large)
            elif small:
                if not large:
                    self._large_share = self._small_share
                self._begin_batch()
            else:
                break

    # -- small files

    def _may_send_small(self) -> bool:
        if not self._small or not self.has_free_partials():
            return False
        # Better full batches than soon, unless nothing would be under way.
        return (
            not self._batches
            or len(self._small) >= MAX_BATCH
            or self._small_bytes >= self._batch_bytes()
            or not self._more()
        )

    def has_free_partials(self) -> bool:
        """
        Whether another partial may be opened.
        """
        return self.open_partials() < self._run.pace.partials or not self._open

    def open_partials(self) -> int:
        """
        How many are open, or will be once what was begun gets there.
        """
        return self._open + self._waiting()

    def _batch_bytes(self) -> int:
        size = self._window.size
        room = size - self._window.in_flight
        return min(MAX_BATCH_BYTES, max(size // 2, min(room, LARGEST_SLICE)))

    def _begin_batch(self) -> None:
        queue, batch, names, nbytes = self._small, list[Item](), 0, 0
        most_bytes = self._batch_bytes()
        most = max(1, self._run.pace.partials - self.open_partials())
        while queue and len(batch) < min(MAX_BATCH, most):
            file = queue[0].file
            names += len(file.path)
            if batch and (nbytes + file.size > most_bytes or names > MAX_NAMES):
                break
            nbytes += file.size
            batch.append(queue.popleft())
        self._small_bytes -= nbytes
        self._small_share += nbytes
        self._run.line.start(self._send_batch(batch, nbytes))

    async def _send_batch(self, batch: list[Item], nbytes: int) -> None:
        flight = self._window.begin(nbytes, self._run.clock.seconds())
        self._batches += 1
        self._open += len(batch)
        try:
            written, arrived = await self._copy(batch)
        finally:
            self._batches -= 1
            self._open -= len(batch)
        self._window.land(flight, self._run.clock.seconds())
        if arrived:
            self._run.tally.advanced(arrived)
        self._written(written)

    async def _copy(self, batch: list[Item]) -> tuple[list[Item], int]:
        """
        Read whole files and write them.

        :returns: those that were written, and their bytes.
        """
        ranges = [
            Range(file.path, file.identity, 0, file.size, file.holes > 0)
            for file in (item.file for item in batch)
        ]
        try:
            extents, payload = await self._run.read(ranges)
        except PeerError as error:
            self._run.refuse_all(batch, error, "source")
            return [], 0
        sound = True
        for item, extent in zip(batch, extents, strict=True):
            if type(extent) is Extent and extent.length == item.file.size:
                item.digest = extent.digest
            else:
                sound = False
        if not sound:
            batch, extents, payload = self._only_whole(batch, extents, payload)
            if not batch:
                return [], 0
        pieces = [
            Piece(item.file.path, 0, item.file.size, runs=extent.runs)
            for item, extent in zip(batch, extents, strict=True)
            if isinstance(extent, Extent)
        ]
        try:
            results = await self._run.destination.write(pieces, payload)
        except PeerError as error:
            self._run.refuse_all(batch, error, "destination")
            return [], 0
        return self._sort_out(batch, results)

    def _only_whole(
        self,
        batch: list[Item],
        extents: Sequence[Extent | Failure],
        payload: bytes | memoryview,
    ) -> tuple[list[Item], list[Extent], bytes]:
        """
        Leave out of a batch what was not read to its end.
        """
        whole, read, parts, refused = list[Item](), list[Extent](), [], []
        position = 0
        for item, extent in zip(batch, extents, strict=True):
            if isinstance(extent, Failure):
                refused.append((item, extent))
                continue
            if extent.length == item.file.size:
                whole.append(item)
                read.append(extent)
                parts.append(payload[position : position + extent.carried])
            else:
                refused.append((item, CUT_SHORT))
            position += extent.carried
        self._run.refuse(refused, "source")
        return whole, read, b"".join(parts)

    def _sort_out(
        self, batch: list[Item], results: Sequence[Written | Failure]
    ) -> tuple[list[Item], int]:
        written, refused, nbytes = [], [], 0
        for item, result in zip(batch, results, strict=True):
            size = item.file.size
            if type(result) is Written and result.size == size:
                item.sent = size
                nbytes += size
                written.append(item)
            else:
                refused.append(
                    (item, result if isinstance(result, Failure) else ODD_SIZE)
                )
        self._run.refuse(refused, "destination")
        return written, nbytes

    # -- large files

    def _next_large(self) -> Large | None:
        """
        The large file whose next slice is to be read.
        """
        turns, over = self._turns, self._turn >= TURN
        if (
            self._large
            and (not turns or (over and len(turns) < TAKING_TURNS))
            and not self._run.line.stopping
            and self.has_free_partials()
        ):
            large = self._large.popleft()
            self._large_bytes -= large.item.file.size - large.asked
            self._open += 1
            self._run.tally.began(large.item)
            turns.appendleft(large)
            self._turn = 0
        elif over:
            turns.rotate(-1)
            self._turn = 0
        return turns[0] if turns else None

    def _begin_slice(self, large: Large) -> None:
        file, offset = large.item.file, large.asked
        length, holes = large.take(self._window.slice)
        if large.asked >= file.size:
            self._turns.remove(large)
        sparse = large.item.sparse
        wanted = Range(file.path, file.identity, offset, length, sparse, holes)
        self._large_share += wanted.carried
        self._turn += wanted.carried
        self._run.line.start(self._read_slice(large, wanted))

    async def _read_slice(self, large: Large, wanted: Range) -> None:
        flight = self._window.begin(wanted.carried, self._run.clock.seconds())
        result: Extent | Failure
        try:
            (result,), data = await self._run.read([wanted])
        except PeerError as error:
            result, data = Failure.of(error), b""
        if isinstance(result, Extent):
            end = wanted.offset + wanted.length
            if result.length != wanted.length or result.carried != len(data):
                result = CUT_SHORT
            elif result.ahead:
                large.learn(end, result.ahead)
            if isinstance(result, Extent) and result.runs:
                flight = self._window.lighten(flight, len(data))
        if large.broken or isinstance(result, Failure):
            self._window.drop(flight)
            if isinstance(result, Failure) and self._break(large):
                self._run.refuse([(large.item, result)], "source")
            return
        large.arrived[wanted.offset] = (flight, result, data)
        while (next_one := large.arrived.pop(large.placed, None)) is not None:
            offset = large.placed
            large.placed += next_one[1].length
            large.unanswered += 1
            self._run.line.start(self._write_slice(large, offset, *next_one))
            if large.placed == large.item.file.size and not large.broken:
                self._finish(large, next_one[1].digest)

    def _finish(self, large: Large, digest: bytes) -> None:
        """
        Do not wait for the answers to the last writes, which takes a round trip: the
        destination comes to *finish* after them; if one of them fails, so does that,
        in the same way.
        """
        large.finishing = True
        large.item.digest = digest
        self._written([large.item])

    async def _write_slice(
        self,
        large: Large,
        offset: int,
        flight: Flight,
        extent: Extent,
        data: bytes | memoryview,
    ) -> None:
        item, file = large.item, large.item.file
        end = offset + extent.length
        result: Written | Failure
        try:
            (result,) = await self._run.destination.write(
                [Piece(file.path, offset, extent.length, runs=extent.runs)], data
            )
        except PeerError as error:
            result = Failure.of(error)
        large.unanswered -= 1
        if large.finishing and not large.unanswered:
            self._open -= 1
        if isinstance(result, Written) and result.size != end:
            result = ODD_SIZE
        if isinstance(result, Failure):
            self._window.drop(flight)
            if not large.finishing and self._break(large):
                self._run.refuse([(item, result)], "destination")
            return
        self._window.land(flight, self._run.clock.seconds())
        self._run.tally.advanced(extent.length, file.path)
        item.sent += extent.length

    def _break(self, large: Large) -> bool:
        """
        Give up a file.

        :returns: False if that had been done before.
        """
        if large.broken:
            return False
        large.broken = True
        self._open -= 1
        if large in self._turns:
            self._turns.remove(large)
        for flight, _, _ in large.arrived.values():
            self._window.drop(flight)
        large.arrived.clear()
        return True
