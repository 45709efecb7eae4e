"""
The way of the files from one open store to another.

The way of a file::

    list -> adopt? -> offer -+-> prove -----------------------------------+-> remove
                             |     | differs                              |
                             +-----+-> resume? -+-> send ------+-> finish-+
                                                +-> compare ->-+

- *adopt*: both ends are on one file system and a rename does it all.
- *prove*: the destination has a file of this name and size; the source digests its
  own, and the destination finishes from what it has, if that is the same.
- *resume*: the destination has a partial from an earlier run, and keeps of it what
  the source's digests confirm.
- *compare*: the destination has a file of this name with other content; both ends
  sign theirs, and what the destination has is copied there, the rest is sent.  A file
  of the same size that was modified at another time is compared rather than proven.
- *finish*: the destination verifies, makes durable, renames, makes durable.
- *receipt*: what is final is written down, if an audit log is kept.
- *remove*: only after the answer of *finish*, and the receipt.

Invariant: a removal is asked for only of files of which the destination has said
:class:`~realize.model.Finished`, in this run or in one before that lost its
connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from realize.errors import (
    DigestMismatch,
    DirectoryGone,
    DiskError,
    NoSuchFile,
    NotSettled,
    OtherFileSystem,
    PeerError,
    SourceChanged,
    StillOpen,
)
from realize.model import (
    MAX_BATCH,
    Digests,
    Directory,
    Failure,
    File,
    Finish,
    Finished,
    Offer,
    Prefix,
)
from realize.move.line import GROUP, Line, Stage
from realize.move.listing import MAX_OFFERED_BYTES, Lister
from realize.move.outcome import MoveSettings, Side
from realize.move.patching import Patcher
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.removing import Remover
from realize.move.resuming import Resumer
from realize.move.sending import Sender
from realize.move.tally import Item, Tally
from realize.move.window import Window
from realize.store.interface import Destination, Source

#: Most files between offer and end.
MAX_ACTIVE: Final = 8192

#: Most batches of offers in progress.
OFFERS: Final = 4

#: Most bytes of files in one batch to be proven.
MAX_PROVEN_BYTES: Final = 256 * 1024 * 1024

#: A file of so many bytes is offered only once the source has said that it could be
#: taken now.
ASKED_ABOUT: Final = 64 * 1024 * 1024

#: What a destination says that has other content, or none, under the name.
_NOT_THE_SAME: Final = frozenset({DigestMismatch.code, NoSuchFile.code})

#: What a destination that adopts says of the source.
_SOURCE_CODES: Final = frozenset(
    kind.code for kind in (SourceChanged, StillOpen, NotSettled, NoSuchFile)
)


@define(eq=False)
class Run:
    """
    The line for one pair of open stores.

    :ivar pending: files that are safe and not known to be removed; kept by the
        caller beyond a lost connection.
    """

    _line: Line
    _source: Source
    _destination: Destination
    _settings: MoveSettings
    _tally: Tally
    _clock: IReactorTime
    _window: Window
    _pending: dict[bytes, Item]
    _receipts: Receipts = NO_RECEIPTS
    #: None until the destination has said whether it can adopt.
    _adopts: bool | None = None
    #: Batches of offers in progress, and their bytes of small and of large files.
    _offering: int = 0
    _offered: int = 0
    _offered_bytes: list[int] = field(factory=lambda: [0, 0])
    #: Files to be offered once more: an offer ends with *finish*, however that ends.
    _again: list[Item] = field(factory=list)
    #: Whether removals left over from before are still in progress.
    _clearing: bool = True
    _lister: Lister = field(init=False)
    _prove: Stage = field(init=False)
    _resumer: Resumer = field(init=False)
    _sender: Sender = field(init=False)
    _patcher: Patcher = field(init=False)
    _finish: Stage = field(init=False)
    _remover: Remover = field(init=False)

    def __attrs_post_init__(self) -> None:
        line, clock, tally = self._line, self._clock, self._tally
        source, destination = self._source, self._destination
        self._lister = Lister(
            line, source, self._settings, tally, clock, self._may_list
        )
        self._prove = Stage(
            line, self._prove_batch, self._may_go_on, most_bytes=MAX_PROVEN_BYTES
        )
        self._finish = Stage(
            line, self._finish_batch, lambda: line.error is None, full=GROUP
        )
        self._sender = Sender(
            line,
            source,
            destination,
            self._window,
            clock,
            tally,
            self._finish.put,
            self._refuse,
            waiting=lambda: self._finish.load + self._patcher.open,
            more=lambda: self._lister.load > 0 or self._offering > 0,
            open_files=self._settings.open_files,
        )
        self._patcher = Patcher(
            line,
            source,
            destination,
            self._window,
            clock,
            tally,
            self._finish.put,
            self._refuse,
            self._again.append,
            has_room=self._sender.has_free_partials,
            others=lambda: self._sender.load > 0,
        )
        self._resumer = Resumer(
            line,
            source,
            destination,
            tally,
            self._refuse,
            self._may_go_on,
            self._go_on,
            lambda item: self._finish.put([item]),
        )
        self._remover = Remover(
            line,
            source,
            destination,
            tally,
            clock,
            self._refuse,
            self._settings.remove_directories,
            self._pending,
            self._receipts,
        )
        self._remover.put_again()
        line.steps = (
            self._remover,
            self._finish,
            self._patcher,
            self._sender,
            self._resumer,
            self._prove,
            self,
            self._lister,
        )

    # -- when to begin what

    def _may_go_on(self) -> bool:
        return self._line.error is None and not self._line.stopping

    def _may_list(self) -> bool:
        # What was left to be removed must be gone, or it would be listed again.
        if self._clearing and not self._remover.load:
            self._clearing = False
        return self._may_go_on() and not self._clearing

    @property
    def load(self) -> int:
        """
        Files that are being offered, or wait to be offered once more.
        """
        return self._offered + len(self._again)

    def _may_offer(self) -> bool:
        """
        Whether another batch may be offered; only one until it is known whether
        the destination adopts.
        """
        if self._offering >= (OFFERS if self._adopts is not None else 1):
            return False
        active = sum(step.load for step in self._line.steps) - self._lister.load
        return active < MAX_ACTIVE and self._may_go_on()

    def begin(self) -> None:
        """
        Offer what was listed.
        """
        while self._again and self._may_offer():
            items, self._again = self._again[:MAX_BATCH], self._again[MAX_BATCH:]
            self._line.start(self._introduce(items, [], large=False, adopt=False))
        for large in (False, True):
            while (
                self._lister.has(large)
                and self._offered_bytes[large] + self._sender.queued_bytes(large)
                < MAX_OFFERED_BYTES
                and self._may_offer()
            ):
                items, directories = self._lister.take(large)
                adopt = self._adopts is not False
                self._line.start(self._introduce(items, directories, large, adopt))

    # -- adopt and offer

    async def _introduce(
        self,
        items: list[Item],
        directories: list[Directory],
        large: bool,
        adopt: bool,
    ) -> None:
        nbytes = sum(item.file.size for item in items)
        count = len(items)
        self._offering += 1
        self._offered += count
        self._offered_bytes[large] += nbytes
        try:
            if adopt:
                items = await self._adopt(items, directories)
            if items and large:
                items = await self._takeable(items)
            if items:
                await self._offer(items, directories)
        finally:
            self._offering -= 1
            self._offered -= count
            self._offered_bytes[large] -= nbytes

    async def _adopt(
        self, items: list[Item], directories: list[Directory]
    ) -> list[Item]:
        """
        Try to move files by renaming them.

        :returns: those that are to be offered: all, if these stores cannot rename.
        """
        if self._receipts is not NO_RECEIPTS:
            if await self._destination.adopt(self._source, [], directories) is None:
                self._adopts = False
                return items
            # A rename reads nothing, and a receipt wants the digest.
            items = await self._digest(items)
        files = [item.file for item in items]
        try:
            results = await self._destination.adopt(self._source, files, directories)
        except PeerError as error:
            self._adopts = True
            self._refuse_all(items, error, "destination")
            return []
        self._adopts = results is not None
        if results is None:
            return items
        adopted = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Finished):
                item.finished = result
                adopted.append(item)
            elif result.code == OtherFileSystem.code:
                self._again.append(item)
            else:
                self._refuse([(item, result)], _side_of(result))
        await self._end_adopting(adopted)
        if adopted and self._settings.remove_directories:
            await self._remover.prune(adopted)
        return []

    async def _end_adopting(self, adopted: list[Item]) -> None:
        """
        With a rename a file is final and gone in one: both receipts come after it.
        """
        if not adopted:
            return
        try:
            await self._receipts.final(adopted)
            await self._receipts.removed(adopted)
        except DiskError as error:
            failure = Failure.of(DiskError(f"it is at its destination, but {error}"))
            self._refuse([(item, failure) for item in adopted], "destination")
        else:
            self._tally.succeeded(adopted, self._clock.seconds())

    async def _offer(self, items: list[Item], directories: list[Directory]) -> None:
        offers = [
            Offer(file.path, file.size, file.holes)
            for file in (item.file for item in items)
        ]
        try:
            results = await self._destination.offer(offers, directories)
        except PeerError as error:
            self._refuse_all(items, error, "destination")
            return
        equal, other = list[Item](), list[Item]()
        refused = list[tuple[Item, Failure]]()
        for item, held in zip(items, results, strict=True):
            if isinstance(held, Failure):
                refused.append((item, held))
                continue
            item.partial = held.partial
            item.replaces = held.present >= 0
            item.present, item.version = held.present, held.version
            if (
                held.present == item.file.size
                and not item.differs
                and (
                    held.mtime_ns == item.file.mtime_ns or not self._patcher.takes(item)
                )
            ):
                equal.append(item)
            else:
                other.append(item)
        self._refuse(refused, "destination")
        self._prove.put(equal)
        self._send(other)

    # -- present: prove that it is the same, without sending it

    async def _prove_batch(self, items: list[Item]) -> None:
        proven = await self._digest(items)
        if not proven:
            return
        for item, failure in await self._make_final(proven):
            if failure.code in _NOT_THE_SAME:
                # It has other content, or has gone since the offer.
                item.differs = True
                item.digest = b""
                self._again.append(item)
            else:
                self._refuse([(item, failure)], "destination")

    async def _digest(self, items: list[Item]) -> list[Item]:
        """
        Let the source digest whole files.

        :returns: those that have their digest now.
        """
        known = await self._ask_source(
            items, [Prefix(f.path, f.identity, f.size) for f in _files(items)]
        )
        for item, digest in known:
            item.digest = digest
        return [item for item, _ in known]

    async def _takeable(self, items: list[Item]) -> list[Item]:
        """
        Those that the source would give now; only very large ones are asked about.

        Before space is set aside: for a file that is being written it would be kept
        from others that can be moved.
        """
        large = [item for item in items if item.file.size >= ASKED_ABOUT]
        if not large:
            return items
        known = await self._ask_source(
            large, [Prefix(f.path, f.identity, 0) for f in _files(large)]
        )
        takeable = {item for item, _ in known}
        return [i for i in items if i.file.size < ASKED_ABOUT or i in takeable]

    async def _ask_source(
        self, items: list[Item], prefixes: list[Prefix]
    ) -> list[tuple[Item, bytes]]:
        """
        The files that the source can read, with the digests of their prefixes.
        """
        try:
            results = await self._source.digest(prefixes)
        except PeerError as error:
            self._refuse_all(items, error, "source")
            return []
        known, refused = [], []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Digests):
                known.append((item, result.steps[-1]))
            else:
                refused.append((item, result))
        self._refuse(refused, "source")
        return known

    # -- send, from the start or from where a partial ends

    def _send(self, items: Sequence[Item]) -> None:
        """
        Queue files of which the destination has no file with the same content, as
        far as is known.
        """
        fresh, begun, changed = list[Item](), list[Item](), list[Item]()
        for item in items:
            resumable = item.partial and item.file.size > self._window.slice
            if resumable and not item.whole:
                begun.append(item)
            elif self._patcher.takes(item):
                changed.append(item)
            else:
                fresh.append(item)
        self._sender.put(fresh)
        self._resumer.put(begun)
        self._patcher.put(changed)

    def _go_on(self, item: Item) -> None:
        """
        Queue a file of which a partial was kept.
        """
        if self._patcher.takes(item):
            self._patcher.put([item])
        else:
            self._sender.resume(item)

    # -- finish

    async def _finish_batch(self, items: list[Item]) -> None:
        unknown = [item for item in items if not item.digest]
        if unknown:
            # The source could not keep a running digest over all that was read.
            known = [item for item in items if item.digest]
            items = known + await self._digest(unknown)
        if not items:
            return
        refused = []
        for item, failure in await self._make_final(items):
            if failure.code in _NOT_THE_SAME and not item.whole:
                item.whole = True
                item.digest = b""
                self._again.append(item)
            else:
                refused.append((item, failure))
        self._refuse(refused, "destination")

    async def _make_final(self, items: list[Item]) -> list[tuple[Item, Failure]]:
        """
        Let the destination finish files; those that it did are queued for removal.

        :returns: the others.
        """
        finishes = [
            Finish(file.path, file.size, item.digest, file.mode, file.mtime_ns)
            for item, file in ((item, item.file) for item in items)
        ]
        try:
            results = await self._destination.finish(finishes)
        except PeerError as error:
            failure = Failure.of(error)
            return [(item, failure) for item in items]
        finished, refused = [], []
        for item, result in zip(items, results, strict=True):
            if type(result) is Finished:
                finished.append((item, result))
            elif isinstance(result, Failure):
                refused.append((item, result))
        try:
            if finished:
                await self._receipts.final([item for item, _ in finished])
        except DiskError as error:
            failure = Failure.of(DiskError(f"not removed: {error}"))
            self._refuse([(item, failure) for item, _ in finished], "source")
        else:
            self._remover.put(finished)
        return refused

    # -- what came to grief

    def _refuse(self, refused: Sequence[tuple[Item, Failure]], side: Side) -> None:
        if not refused:
            return
        self._tally.failed(refused, side, self._clock.seconds())
        for _, failure in refused:
            if failure.code == DirectoryGone.code:
                self._line.fail(failure.error)
                break

    def _refuse_all(self, items: Sequence[Item], error: PeerError, side: Side) -> None:
        failure = Failure.of(error)
        self._refuse([(item, failure) for item in items], side)


def _files(items: Sequence[Item]) -> list[File]:
    return [item.file for item in items]


def _side_of(failure: Failure) -> Side:
    """
    The end at which adopting failed: there, one store speaks for both.
    """
    if failure.code in _SOURCE_CODES:
        return "source"
    return "destination"
