"""
A dry run: what would become of each file, found out without changing anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from realize.errors import DigestMismatch, DirectoryGone, PeerError
from realize.model import (
    Digests,
    Directory,
    Failure,
    Finish,
    Held,
    Offer,
    Prefix,
)
from realize.move.line import Line, Stage
from realize.move.listing import Lister
from realize.move.outcome import MoveSettings, Side
from realize.move.tally import Item, Tally
from realize.store.interface import Destination, Source

#: Most files between being asked about and the answer.
MAX_ACTIVE: Final = 8192

#: Most bytes of files in one batch to be compared.
MAX_COMPARED_BYTES: Final = 256 * 1024 * 1024


@define(eq=False)
class Rehearsal:
    """
    The line of a dry run: list, ask the destination, check at the source.

    A file that the destination has with the same size is read at both ends.
    """

    _line: Line
    _source: Source
    _destination: Destination
    _settings: MoveSettings
    _tally: Tally
    _clock: IReactorTime
    _asking: int = 0
    _lister: Lister = field(init=False)
    _check: Stage = field(init=False)
    _compare: Stage = field(init=False)

    def __attrs_post_init__(self) -> None:
        line = self._line
        self._lister = Lister(
            line, self._source, self._settings, self._tally, self._clock, self._may
        )
        self._check = Stage(line, self._check_batch, self._may)
        self._compare = Stage(
            line, self._compare_batch, self._may, most_bytes=MAX_COMPARED_BYTES
        )
        line.steps = (self._compare, self._check, self, self._lister)

    @property
    def load(self) -> int:
        """
        Files that the destination is being asked about.
        """
        return self._asking

    def begin(self) -> None:
        """
        Ask the destination about what was listed.
        """
        for large in (False, True):
            while (
                self._lister.has(large)
                and self._asking + self._check.load + self._compare.load < MAX_ACTIVE
                and self._may()
            ):
                self._line.start(self._ask(*self._lister.take(large)))

    def _may(self) -> bool:
        return self._line.error is None and not self._line.stopping

    async def _ask(self, items: list[Item], directories: list[Directory]) -> None:
        offers = [
            Offer(file.path, file.size, file.holes)
            for file in (item.file for item in items)
        ]
        self._asking += len(items)
        try:
            results = await self._destination.offer(offers, directories, reserve=False)
        except PeerError as error:
            results = [Failure.of(error)] * len(items)
        finally:
            self._asking -= len(items)
        for item, held in zip(items, results, strict=True):
            if not isinstance(held, Held):
                self._refuse([(item, held)], "destination")
                continue
            item.replaces = held.present >= 0
            equal = held.present == item.file.size
            (self._compare if equal else self._check).put([item])

    async def _check_batch(self, items: list[Item]) -> None:
        ready = await self._digest(items, whole=False)
        now = self._clock.seconds()
        new = [item for item in ready if not item.replaces]
        self._tally.foreseen(new, "moved", now)
        self._tally.foreseen([item for item in ready if item.replaces], "replaced", now)

    async def _compare_batch(self, items: list[Item]) -> None:
        ready = await self._digest(items, whole=True)
        if not ready:
            return
        finishes = [
            Finish(file.path, file.size, item.digest, file.mode, file.mtime_ns)
            for item, file in ((item, item.file) for item in ready)
        ]
        results: Sequence[Held | Failure]
        try:
            results = await self._destination.compare(finishes)
        except PeerError as error:
            results = [Failure.of(error)] * len(ready)
        equal, other = [], []
        for item, result in zip(ready, results, strict=True):
            if isinstance(result, Held):
                equal.append(item)
            elif result.code == DigestMismatch.code:
                other.append(item)
            else:
                self._refuse([(item, result)], "destination")
        now = self._clock.seconds()
        self._tally.foreseen(equal, "present", now)
        self._tally.foreseen(other, "replaced", now)

    async def _digest(self, items: list[Item], whole: bool) -> list[Item]:
        """
        Ask the source whether files could be taken.

        :param whole: read and digest them too.
        :returns: those that could.
        """
        prefixes = [
            Prefix(file.path, file.identity, file.size if whole else 0)
            for file in (item.file for item in items)
        ]
        results: Sequence[Digests | Failure]
        try:
            results = await self._source.digest(prefixes)
        except PeerError as error:
            results = [Failure.of(error)] * len(items)
        ready = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Digests):
                if whole:
                    item.digest = result.steps[-1]
                ready.append(item)
            else:
                self._refuse([(item, result)], "source")
        return ready

    def _refuse(self, refused: Sequence[tuple[Item, Failure]], side: Side) -> None:
        self._tally.failed(refused, side, self._clock.seconds())
        for _, failure in refused:
            if failure.code == DirectoryGone.code:
                self._line.fail(failure.error)
