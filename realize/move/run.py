"""
What the steps of one run share.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from realize.errors import DirectoryGone, DiskError, OverShare, PeerError
from realize.model import Digests, Extent, Failure, Prefix, Range
from realize.move.line import Line
from realize.move.outcome import Side
from realize.move.pace import Pace
from realize.move.places import Places
from realize.move.tally import Item, Tally
from realize.store.interface import Destination, Source

#: Takes bytes from a limit; returns the seconds to wait before they are read.
Take = Callable[[int], float]


@frozen(eq=False)
class Run:
    """
    A move, or a rehearsal of one, between one pair of open stores.

    :ivar line: of the steps.
    :ivar tally: hears what becomes of the files.
    :ivar pace: how much may be in progress.
    :ivar places: where the ends are.
    :ivar take: bytes of the source that are to be read, from what it may be read at.
    """

    line: Line
    source: Source
    destination: Destination
    tally: Tally
    clock: IReactorTime
    pace: Pace
    places: Places = field(factory=Places)
    take: Take = lambda nbytes: 0.0
    _tried: list[bool] = field(factory=list, init=False)

    async def try_out(self) -> None:
        """
        Make sure, once, that the ends are two places.

        :raises SamePlace: they are not.
        """
        if not self._tried:
            self._tried.append(True)
            await self.places.try_out(self.source, self.destination, self.line.start)

    async def read(
        self, ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes | memoryview]:
        """
        Let the source read, as soon as it may.

        :raises PeerError: it can't.
        """
        await self._wait_for(sum(each.carried for each in ranges))
        return await self.source.read(ranges)

    async def _wait_for(self, nbytes: int) -> None:
        seconds = self.take(nbytes)
        if seconds > 0:
            await deferLater(self.clock, seconds)

    def may_go_on(self) -> bool:
        """
        Whether files may be taken up that nothing was written of yet.
        """
        return self.line.error is None and not self.line.stopping

    def refuse(self, refused: Sequence[tuple[Item, Failure]], side: Side) -> None:
        """
        Files did not make it, each for its reason.  Ends the run if a root is gone.
        Those for which there is only no room now are offered again.

        :param side: the end at fault.
        """
        later = [
            item
            for item, failure in refused
            if failure.code == OverShare.code and item.finished is None
        ]
        if later:
            self.pace.put_off(later)
            refused = [
                (item, failure)
                for item, failure in refused
                if failure.code != OverShare.code or item.finished is not None
            ]
        if not refused:
            return
        self.tally.failed(refused, side, self.clock.seconds())
        for _, failure in refused:
            if failure.code == DirectoryGone.code:
                self.line.fail(failure.error)
                break

    def refuse_all(self, items: Sequence[Item], error: PeerError, side: Side) -> None:
        """
        Files did not make it, all for one reason.
        """
        failure = Failure.of(error)
        self.refuse([(item, failure) for item in items], side)

    async def succeed(
        self, items: Sequence[Item], receipts: Awaitable[None], side: Side
    ) -> None:
        """
        Files are safe and gone from the source, which has to be put down in writing.

        :param side: the end at fault if that fails.
        """
        try:
            await receipts
        except DiskError as error:
            why = DiskError(f"it is at its destination, but {error}")
            self.refuse_all(items, why, side)
        else:
            self.pace.progressed()
            self.tally.succeeded(items, self.clock.seconds())

    async def digests(
        self, items: Sequence[Item], prefixes: Sequence[Prefix]
    ) -> list[tuple[Item, Digests]]:
        """
        Let the source digest beginnings of files, one of each.

        :returns: those that it could read; the others are refused.
        """
        try:
            await self._wait_for(
                sum(
                    max(0, min(prefix.length, item.file.size - item.file.holes))
                    for item, prefix in zip(items, prefixes, strict=True)
                )
            )
            results = await self.source.digest(prefixes)
        except PeerError as error:
            self.refuse_all(items, error, "source")
            return []
        known, refused = [], []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Digests):
                known.append((item, result))
            else:
                refused.append((item, result))
        self.refuse(refused, "source")
        return known

    async def digest_whole(self, items: Sequence[Item]) -> list[Item]:
        """
        Let the source digest whole files.

        :returns: those that have their digest now; the others are refused.
        """
        known = await self.digests(
            items, [item.prefix(item.file.size) for item in items]
        )
        for item, digests in known:
            item.digest = digests.steps[-1]
        return [item for item, _ in known]

    async def takeable(self, items: Sequence[Item]) -> list[Item]:
        """
        Let the source say which files it would give now.

        :returns: those; the others are refused.
        """
        known = await self.digests(items, [item.prefix(0) for item in items])
        return [item for item, _ in known]
