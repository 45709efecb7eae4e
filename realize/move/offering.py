"""
What was listed is offered: the destination says what it has of each file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from realize.errors import PeerError
from realize.model import MAX_BATCH, Directory, Failure, Held
from realize.move.adopting import Adopter
from realize.move.listing import MAX_OFFERED_BYTES, Lister
from realize.move.run import Run
from realize.move.tally import Item

#: Most batches of offers in progress.
OFFERS: Final = 4

#: A file of so many bytes is offered only once the source has said that it could be
#: taken now.
ASKED_ABOUT: Final = 64 * 1024 * 1024


@define(eq=False)
class Offerer:
    """
    The step that offers.

    :ivar compares: whether a file would be compared with the one that is there.
    :ivar queued_bytes: of the large, or the small, files that wait to be sent.
    :ivar equal: what to do with files of which the destination seems to have the
        content.
    :ivar other: what to do with those that it has not.
    """

    _run: Run
    _lister: Lister
    _adopter: Adopter
    _compares: Callable[[Item], bool]
    _queued_bytes: Callable[[bool], int]
    _equal: Callable[[Sequence[Item]], None]
    _other: Callable[[Sequence[Item]], None]
    #: Batches in progress, their files, and the bytes of small and of large ones.
    _batches: int = 0
    _offered: int = 0
    _offered_bytes: list[int] = field(factory=lambda: [0, 0])
    #: Files to be offered once more: an offer ends with *finish*, however that ends.
    _again: list[Item] = field(factory=list)

    @property
    def load(self) -> int:
        """
        Files that are being offered, or wait to be offered once more.
        """
        return self._offered + len(self._again)

    @property
    def offering(self) -> bool:
        """
        Whether any are being offered.
        """
        return self._batches > 0

    def put_again(self, item: Item) -> None:
        """
        Queue a file to be offered once more.
        """
        self._again.append(item)

    def begin(self) -> None:
        """
        Offer what was listed.
        """
        start = self._run.line.start
        pace = self._run.pace
        while self._again and self._may_begin():
            items, self._again = self._again[:MAX_BATCH], self._again[MAX_BATCH:]
            start(self._introduce(items, [], large=False, adopt=False))
        while pace.waiting and self._may_offer():
            items = pace.waiting[: min(MAX_BATCH, pace.files)]
            del pace.waiting[: len(items)]
            start(self._introduce(items, [], large=False, adopt=False))
        for large in (False, True):
            while (
                self._lister.has(large)
                and self._offered_bytes[large] + self._queued_bytes(large)
                < MAX_OFFERED_BYTES
                and self._may_offer()
            ):
                items, directories = self._lister.take(large, pace.files)
                start(
                    self._introduce(items, directories, large, self._adopter.may_help)
                )

    def _may_begin(self) -> bool:
        """
        Whether there may be another batch; only one until it is known whether the
        destination adopts.
        """
        if self._batches >= (OFFERS if self._adopter.decided else 1):
            return False
        return self._run.may_go_on()

    def _may_offer(self) -> bool:
        """
        Whether a file may be offered that does not count as active yet.
        """
        return self._may_begin() and self._run.pace.files > 0

    async def _introduce(
        self,
        items: list[Item],
        directories: list[Directory],
        large: bool,
        adopt: bool,
    ) -> None:
        nbytes = sum(item.file.size for item in items)
        count = len(items)
        self._batches += 1
        self._offered += count
        self._offered_bytes[large] += nbytes
        try:
            if adopt:
                items = await self._adopter.adopt(items, directories)
            if items and large:
                items = await self._takeable(items)
            if items:
                await self._offer(items, directories)
        finally:
            self._batches -= 1
            self._offered -= count
            self._offered_bytes[large] -= nbytes

    async def _takeable(self, items: list[Item]) -> list[Item]:
        """
        Those that the source would give now; only very large ones are asked about.

        Before space is set aside: for a file that is being written it would be kept
        from others that can be moved.
        """
        asked = [item for item in items if item.file.size >= ASKED_ABOUT]
        if not asked:
            return items
        takeable = set(await self._run.takeable(asked))
        return [i for i in items if i.file.size < ASKED_ABOUT or i in takeable]

    async def _offer(self, items: list[Item], directories: list[Directory]) -> None:
        offers = [item.offer() for item in items]
        try:
            results = await self._run.destination.offer(offers, directories)
        except PeerError as error:
            self._run.refuse_all(items, error, "destination")
            return
        equal, other = list[Item](), list[Item]()
        refused = list[tuple[Item, Failure]]()
        for item, held in zip(items, results, strict=True):
            if isinstance(held, Failure):
                refused.append((item, held))
            else:
                (equal if self._seems_equal(item, held) else other).append(item)
        self._run.refuse(refused, "destination")
        self._equal(equal)
        self._other(other)

    def _seems_equal(self, item: Item, held: Held) -> bool:
        """
        Note what the destination has, and whether to prove that it is the same.
        """
        item.offered = True
        item.partial = held.partial
        item.replaces = held.present >= 0
        item.conflict = held.conflict
        item.present, item.version = held.present, held.version
        return (
            held.present == item.file.size
            and not item.differs
            and (held.mtime_ns == item.file.mtime_ns or not self._compares(item))
        )
