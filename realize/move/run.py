"""
What the steps of one run share.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from realize.errors import DirectoryGone, DiskError, OverShare, PeerError
from realize.model import Digests, Failure, Prefix
from realize.move.line import Line
from realize.move.outcome import Side
from realize.move.pace import Pace
from realize.move.places import Places
from realize.move.tally import Item, Tally
from realize.store.interface import Destination, Source


@frozen(eq=False)
class Run:
    """
    A move, or a rehearsal of one, between one pair of open stores.

    :ivar line: of the steps.
    :ivar tally: hears what becomes of the files.
    :ivar pace: how much may be in progress.
    :ivar places: where the ends are.
    """

    line: Line
    source: Source
    destination: Destination
    tally: Tally
    clock: IReactorTime
    pace: Pace
    places: Places = field(factory=Places)
    _tried: list[bool] = field(factory=list, init=False)

    async def try_out(self) -> None:
        """
        Make sure, once, that the ends are two places.

        :raises SamePlace: they are not.
        """
        if not self._tried:
            self._tried.append(True)
            await self.places.try_out(self.source, self.destination, self.line.start)

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
