"""
A directory of this host that files are taken from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Literal

from msgspec import structs

from realize.delta.exchange import Sign, Signed
from realize.errors import BadRequest, DirectoryGone, DiskError, NoSuchFile
from realize.model import (
    EVERYTHING,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    Digests,
    Extent,
    Failure,
    Page,
    Place,
    Prefix,
    Range,
    Removal,
    Removed,
    Subset,
)
from realize.observe.recorder import Recorder, Settled
from realize.paths import RelativePath
from realize.store.guard import Guard
from realize.store.identity import size_of
from realize.store.listing import Walk
from realize.store.marks import Marks
from realize.store.reading import Reader
from realize.store.removal import Remover
from realize.store.requests import affordable, check_paths, too_much
from realize.store.root import Root
from realize.store.signing import Signer, opening_source, signed_bytes
from realize.store.work import WorkQueue, signing_keys

#: What a file system may not be able to do; see :mod:`realize.store.directory`.
Lack = Literal["leases", "syncing"]

#: Orders the pages of a listing; no path is empty.
_LISTING = [b""]

#: Orders what is done to the mark; no path begins so.
_MARKING = [b"/"]


class LocalSource:
    """
    Implements :class:`realize.store.interface.Source`.

    Each operation is one function in one thread; nothing else is done in threads.

    A destination that adopts files uses *root*, *guard* and *work* too.

    :param root: closed by :meth:`close`.
    :param work: runs the operations; closed too.
    :param settle_ns: nanoseconds for which a file must not have changed, where it
        cannot be found out whether somebody is writing to it.
    :param name: what messages call it.
    :param recorder: told of what happens to files.
    :param only: name of the single file in the root that is taken; ``b""`` for all.
    :param skip: name in the root that is never listed.
    :param warn: called from threads with what cannot be done here, and why.
    :param now_ns: the time, in nanoseconds since 1970.
    :param sleep: waits for some seconds, little more than two; in a thread.
    """

    def __init__(
        self,
        root: Root,
        work: WorkQueue,
        settle_ns: int,
        name: str,
        recorder: Recorder,
        *,
        only: bytes = b"",
        skip: bytes = b"",
        warn: Callable[[Lack, str], object] = lambda _lack, _reason: None,
        now_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.root = root
        self.guard = Guard(
            settle_ns,
            lambda reason: warn("leases", reason),
            now_ns,
            root.filesystem_of,
            work.pause,
        )
        self.work = work
        self._name = name
        self._recorder = recorder
        self._only = only
        self._skip = skip
        self._now_ns = now_ns
        self._reader = Reader(root, self.guard, sleep, work.pause)
        opening = opening_source(root, self.guard, sleep)
        self._signer = Signer(opening, digests=True, pause=work.pause)
        self._remover = Remover(root, self.guard, warn)
        self._marks = Marks(root)
        self._walk: Walk | None = None
        self._cursor = 0

    @property
    def name(self) -> str:
        """
        What messages call it.
        """
        return self._name

    @property
    def closed(self) -> bool:
        """
        Whether it is closed, or about to be.
        """
        return self.work.closed

    async def place(self) -> Place:
        """
        See :class:`~realize.store.interface.Store`.

        A single file is only in its own directory: it may well be moved into one
        above or below.
        """
        place = await self.work.run([], self._place)
        if self._only:
            place = structs.replace(place, root=b"", chain=place.chain[:1])
        return place

    async def mark(self) -> bytes:
        """
        See :class:`~realize.store.interface.Store`.
        """
        return await self.work.run(_MARKING, self._marks.make)

    async def unmark(self) -> None:
        """
        See :class:`~realize.store.interface.Store`.
        """
        await self.work.run(_MARKING, self._marks.remove)

    async def sees(self, mark: bytes, above: bool = True) -> bool:
        """
        See :class:`~realize.store.interface.Store`.
        """
        # A single file may well be moved into a directory above its own.
        return await self.work.run([], self._marks.sees, mark, above and not self._only)

    async def close(self) -> None:
        """
        See :class:`~realize.store.interface.Store`.  Safe to repeat.
        """
        self._reader.stop()
        self._signer.stop()
        await self.work.close(self._close)

    async def list(
        self, cursor: int, restore: bool = True, subset: Subset = EVERYTHING
    ) -> Page:
        """
        See :class:`~realize.store.interface.Source`.
        """
        for name in subset.names:
            RelativePath.parse(name)
        return await self.work.run(_LISTING, self._list, cursor, restore, subset)

    async def digest(self, files: Sequence[Prefix]) -> Sequence[Digests | Failure]:
        """
        See :class:`~realize.store.interface.Source`.
        """
        keys = check_paths([each.path for each in files])
        nbytes = sum(each.length for each in files)
        return await self.work.run_sized(nbytes, keys, self._digest, files)

    async def read(
        self, ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes]:
        """
        See :class:`~realize.store.interface.Source`.
        """
        _check_batch(ranges)
        wanted = sum(max(each.carried, 0) for each in ranges)
        if wanted > MAX_BATCH_BYTES:
            raise BadRequest("more bytes than one batch may hold")
        keys = [each.path for each in ranges]
        return await self.work.run(keys, self._read, ranges)

    async def sign(self, wanted: Sign) -> Signed:
        """
        See :class:`~realize.store.interface.Source`.
        """
        return await self.work.run_sized(
            signed_bytes(wanted), signing_keys(wanted), self._sign, wanted
        )

    async def remove(self, files: Sequence[Removal]) -> Sequence[Removed | Failure]:
        """
        See :class:`~realize.store.interface.Source`.
        """
        keys = check_paths([each.path for each in files])
        return await self.work.run(keys, self._remove, files)

    async def prune(self, directories: Sequence[bytes]) -> None:
        """
        See :class:`~realize.store.interface.Source`.
        """
        _check_batch(directories)
        await self.work.run([], self._prune, directories)

    # -- in threads

    def _place(self) -> Place:
        known = self.root.believed()
        doubts = known.doubts_as_source(self.guard.settle_ns)
        return self.root.place(doubts)

    def _list(self, cursor: int, restore: bool, subset: Subset) -> Page:
        self._check_root()
        if not cursor:
            self._end_walk()
            subset = Subset([self._only]) if self._only else subset
            self._walk = Walk(self.root, subset, self._skip, restore, self._now_ns)
        elif self._walk is None or cursor != self._cursor:
            raise BadRequest("not the next page of this listing")
        page = self._walk.page()
        for notice in page.notices:
            if notice.kind in ("unreadable", "missing"):
                self._recorder.failed(notice.path, DiskError(notice.text))
        self._cursor = page.next
        if not page.next:
            self._end_walk()
        return page

    def _digest(self, files: Sequence[Prefix]) -> Sequence[Digests | Failure]:
        self._check_root()
        now = affordable(each.length for each in files)
        digests = iter(self._reader.digest(list(compress(files, now))))
        results = [
            next(digests) if fits else too_much(file.path)
            for file, fits in zip(files, now, strict=True)
        ]
        self._record_failures(files, results)
        return results

    def _read(
        self, ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes]:
        self._check_root()
        extents, data = self._reader.read(ranges)
        self._recorder.read(
            (each.path, extent.length)
            for each, extent in zip(ranges, extents, strict=True)
            if isinstance(extent, Extent)
        )
        self._record_failures(ranges, extents)
        return extents, data

    def _sign(self, wanted: Sign) -> Signed:
        self._check_root()
        return self._signer.sign(wanted)

    def _prune(self, directories: Sequence[bytes]) -> None:
        self._check_root()
        self._remover.prune(directories)

    def _remove(self, files: Sequence[Removal]) -> Sequence[Removed | Failure]:
        self._check_root()
        self._reader.let_go(file.path for file in files)
        results = self._remover.remove(files)
        self._recorder.removed(
            [
                Settled(file.path, size_of(file.identity), file.digest)
                for file, result in zip(files, results, strict=True)
                if file.step == "unlink"
                and isinstance(result, Removed)
                and result.found
            ]
        )
        self._record_failures(files, results)
        return results

    def _record_failures(
        self, files: Sequence[Prefix | Range | Removal], results: Sequence[object]
    ) -> None:
        for file, result in zip(files, results, strict=True):
            if isinstance(result, Failure):
                self._recorder.failed(file.path, result.error)

    def _check_root(self) -> None:
        """
        Files that have vanished together with their root are not "gone already".
        """
        self.root.check()
        try:
            with self.root.directory(b""):
                pass
        except NoSuchFile:
            raise DirectoryGone(f"{self._name} is not there any more") from None

    def _end_walk(self) -> None:
        if self._walk is not None:
            self._walk.close()
            self._walk = None

    def _close(self) -> None:
        self._end_walk()
        self._reader.close()
        self._remover.close()
        self._marks.remove()
        self.root.close()
        self._recorder.close()


def _check_batch(items: Sequence[object]) -> None:
    if len(items) > MAX_BATCH:
        raise BadRequest("more items than one batch may hold")
