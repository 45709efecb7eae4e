"""
Reading source files: batches of small ones, and large ones range by range.

A small file is opened, read whole, digested, checked and closed.  One that is read
in ranges stays open between them, with a digest that grows along, as long as not too
many others are read at the same time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Final, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError

from realize.digest import Hasher, new_hasher
from realize.errors import BadRequest, PeerError, SourceChanged
from realize.model import Digests, Extent, Failure, Prefix, Range, prefix_step
from realize.paths import parent_of, printable
from realize.store.guard import Guard, TooFresh
from realize.store.identity import differs_by_links, identity_now, matches, size_of
from realize.store.root import Root
from realize.store.sparse import (
    HoleMap,
    allocated,
    cut_holes,
    digest_file,
    digest_runs,
    read_at,
    read_runs,
)

#: Files kept open between ranges.
MAX_OPEN: Final = 32

#: Digests kept of beginnings of one file: where a destination may want to go on.
MAX_MARKS: Final = 64

#: Bytes digested at a time, and bytes asked for ahead of a range.
_BLOCK: Final = 1024 * 1024
_AHEAD: Final = 8 * 1024 * 1024

#: How often other links of a file may change while it is read.
_MOST_LINK_CHANGES: Final = 10

_NOTHING: Final = new_hasher(sparse=False).digest()


class _Item(Protocol):
    @property
    def path(self) -> bytes: ...


_I = TypeVar("_I", bound=_Item)
_R = TypeVar("_R")


@define(eq=False)
class _OpenFile:
    """
    A file that is read in ranges.

    :ivar identity: by which it is asked for.
    :ivar version: the identity that it has; another if other links of it
        were renamed or removed.
    :ivar holes: where its holes are; None if it has none, or is taken for such a one.
    :ivar sparse: which digest *hasher* makes.
    :ivar hasher: has seen the first *position* bytes; None if there was a gap.
    :ivar marks: hashers that have seen shorter beginnings, by length.
    :ivar counted: its descriptor is in the account of the root.
    """

    path: bytes
    identity: bytes
    version: bytes
    fd: int
    holes: HoleMap | None
    sparse: bool
    hasher: Hasher | None = field(init=False)
    position: int = 0
    marks: OrderedDict[int, Hasher] = field(factory=OrderedDict)
    counted: bool = False

    def __attrs_post_init__(self) -> None:
        self.hasher = new_hasher(self.sparse)

    def seek(self, offset: int) -> None:
        """
        Make *hasher* one that has seen the first *offset* bytes, if there is one.
        """
        if offset != self.position or self.hasher is None:
            mark = self.marks.get(offset)
            self.hasher = mark.copy() if mark else None
            if not offset:
                self.hasher = new_hasher(self.sparse)
            self.position = offset

    def add(self, data: bytes | memoryview) -> None:
        """
        Digest what was read at *position*.
        """
        self.position += len(data)
        if self.hasher is not None:
            self.hasher.update(data)

    def add_runs(self, runs: Sequence[int], data: bytes) -> None:
        """
        Digest data and holes at *position*.
        """
        self.position += sum(runs)
        if self.hasher is not None:
            digest_runs(self.hasher, runs, data)

    def add_hole(self, length: int, pause: Callable[[], object]) -> None:
        """
        Digest a hole at *position*.

        :param pause: called every few milliseconds; what it raises ends this.
        """
        self.position += length
        if self.hasher is not None:
            self.hasher.zeros(length, pause)

    def reads_the_same(self, pause: Callable[[], object]) -> bool:
        """
        Whether the first *position* bytes are still what they were, if that is known.

        :param pause: as for :func:`~realize.store.sparse.digest_file`.
        """
        if self.hasher is None:
            return False
        again = new_hasher(self.sparse)
        digest_file(again, self.fd, 0, self.position, pause)
        return again.digest() == self.hasher.digest()

    def mark(self) -> None:
        """
        Remember the digest so far; the oldest is forgotten when there are many.
        """
        if self.hasher is not None:
            self.marks[self.position] = self.hasher.copy()
            if len(self.marks) > MAX_MARKS:
                self.marks.popitem(last=False)


class Reader:
    """
    Reads files of one source.  Called from several threads, but never from two at
    once for the same file.

    :param sleep: waits for some seconds, little more than two; in a thread.
    :param pause: called every few milliseconds of what may take long.
    """

    def __init__(
        self,
        root: Root,
        guard: Guard,
        sleep: Callable[[float], object] = time.sleep,
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        self._pause = pause
        self._root = root
        self._descriptors = root.descriptors
        self._guard = guard
        self._sleep = sleep
        self._open: OrderedDict[bytes, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()
        self._stopped = False

    def read(self, ranges: Sequence[Range]) -> tuple[list[Extent | Failure], bytes]:
        """
        As :meth:`realize.store.interface.Source.read`.
        """
        parts: list[bytes] = []
        extents: list[Extent | Failure] = []
        for result in self._each(ranges, self._read):
            if isinstance(result, Failure):
                extents.append(result)
            else:
                extent, data = result
                if extent.ahead and len(ranges) > 1:
                    # The answer holds no more.
                    extent = Extent(extent.length, extent.digest, extent.runs)
                extents.append(extent)
                parts.append(data)
        return extents, b"".join(parts)

    def digest(self, files: Sequence[Prefix]) -> list[Digests | Failure]:
        """
        As :meth:`realize.store.interface.Source.digest`.
        """
        return self._each(files, self._digest)

    def let_go(self, paths: Iterable[bytes]) -> None:
        """
        Close files: nothing more is read of them.

        One that is open keeps its room on the disk when it is removed.  Not all are
        read to their end: of an update only what changed is.
        """
        for path in paths:
            with self._lock:
                opened = self._open.pop(path, None)
            if opened is not None:
                self._close(opened)

    def stop(self) -> None:
        """
        End long passes over files early.  Called from any thread.
        """
        self._stopped = True

    def close(self) -> None:
        """
        Close what is open.  Nothing runs any more.
        """
        with self._lock:
            for opened in self._open.values():
                self._close(opened)
            self._open.clear()

    # -- batches

    def _each(
        self, items: Sequence[_I], act: Callable[[int, bytes, _I, bool], _R]
    ) -> list[_R | Failure]:
        results: dict[int, _R | Failure] = {}
        fresh, wait_ns = self._pass(items, range(len(items)), act, True, results)
        if fresh:
            # One wait for all of them.
            self._sleep(wait_ns / 1e9)
            self._pass(items, fresh, act, False, results)
        return [results[index] for index in range(len(items))]

    def _pass(
        self,
        items: Sequence[_I],
        indexes: Iterable[int],
        act: Callable[[int, bytes, _I, bool], _R],
        first: bool,
        results: dict[int, _R | Failure],
    ) -> tuple[list[int], int]:
        """
        Act on each item, with few descriptors and one directory after the other.

        :param first: whether files may be put off because they changed just now.
        :returns: the indexes of those, and nanoseconds to wait for them.
        """
        fresh: list[int] = []
        wait_ns = 0
        by_parent = groupby(indexes, lambda index: parent_of(items[index].path))
        for parent, group in by_parent:
            members = list(group)
            try:
                with self._root.directory(parent) as directory:
                    for index in members:
                        item = items[index]
                        try:
                            name = self._root.path(item.path).name
                            results[index] = act(directory, name, item, first)
                        except TooFresh as reason:
                            fresh.append(index)
                            wait_ns = max(wait_ns, reason.wait_ns)
                        except Exception as error:  # noqa: BLE001 - of this file only
                            failed = self._root.error_of(error, item.path, "read")
                            results[index] = Failure.of(failed)
            except PeerError as error:
                results.update(dict.fromkeys(members, Failure.of(error)))
        return fresh, wait_ns

    # -- one file

    def _read(
        self, directory: int, name: bytes, item: Range, first: bool
    ) -> tuple[Extent, bytes]:
        size = size_of(item.identity)
        length = item.length
        if length != size or item.offset or item.holes:
            return self._read_part(directory, name, item, first)
        fd, version = self._guard.open_version(
            directory, name, item.path, item.identity, fresh=not first
        )
        try:
            data = os.read(fd, size) if size else b""
            if len(data) < size:
                data = read_at(fd, size, 0)
            complete = len(data) == size
            status = self._check(
                directory,
                name,
                item,
                version,
                complete,
                lambda: read_at(fd, size, 0) == data,
            )
            hasher = new_hasher(item.sparse)
            hasher.update(data)
            digest = hasher.digest()
            if item.sparse and allocated(status) < size:
                runs = HoleMap(fd, size).runs(0, size)
                cut = cut_holes(runs, data) if runs else None
                if cut is not None:
                    return Extent(length, digest, runs), cut
        finally:
            os.close(fd)
        return Extent(length, digest), data

    def _read_part(
        self, directory: int, name: bytes, item: Range, first: bool
    ) -> tuple[Extent, bytes]:
        end = item.offset + item.length
        size = size_of(item.identity)
        if not (0 <= item.offset < end <= size and item.carried >= 0):
            raise BadRequest(f"{printable(item.path)}: a range that is not in the file")
        opened = self._take(item)
        if opened is None:
            fd, version = self._guard.open_version(
                directory, name, item.path, item.identity, fresh=not first
            )
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            opened = self._opened(item, fd, version)
        digest = b""
        ahead: list[int] = []
        try:
            runs = self._runs(opened, item)
            if runs:
                data = read_runs(opened.fd, item.offset, runs)
                wanted = sum(runs[::2])
            else:
                data = read_at(opened.fd, item.length, item.offset)
                wanted = item.length
            complete = len(data) == wanted
            opened.seek(item.offset)
            if runs:
                opened.add_runs(runs, data)
            else:
                opened.add(data)
            self._check_open(directory, name, item, opened, complete)
            opened.marks.clear()
            if opened.holes is not None:
                ahead = opened.holes.ahead(end)
            if end < size:
                if not ahead:
                    os.posix_fadvise(opened.fd, end, _AHEAD, os.POSIX_FADV_WILLNEED)
            elif opened.hasher is not None:
                digest = opened.hasher.digest()
        except BaseException:
            self._close(opened)
            raise
        if end < size:
            self._keep(opened)
        else:
            self._close(opened)
        return Extent(item.length, digest, runs, ahead), data

    def _opened(self, item: Range | Prefix, fd: int, version: bytes) -> _OpenFile:
        try:
            holes = HoleMap.of(fd) if item.sparse else None
            if holes is not None:
                # There have been file systems that took for a hole what was written,
                # but not yet to the disk.
                with suppress(OSError):
                    os.fdatasync(fd)
        except BaseException:
            os.close(fd)
            raise
        return _OpenFile(item.path, item.identity, version, fd, holes, item.sparse)

    @staticmethod
    def _runs(opened: _OpenFile, item: Range) -> list[int]:
        """
        The runs of a range, if it has holes and they may be told.

        :raises SourceChanged: it was to have larger holes.
        """
        runs: list[int] = []
        if opened.holes is not None:
            runs = opened.holes.runs(item.offset, item.offset + item.length)
        if sum(runs[1::2]) < item.holes:
            raise SourceChanged(f"{printable(item.path)}: a hole was filled")
        return runs

    def _digest(
        self, directory: int, name: bytes, item: Prefix, first: bool
    ) -> Digests:
        size = size_of(item.identity)
        if not 0 <= item.length <= size:
            raise BadRequest(f"{printable(item.path)}: longer than the file")
        fresh = not first or not item.length
        fd, version = self._guard.open_version(
            directory, name, item.path, item.identity, fresh=fresh
        )
        if not item.length:
            os.close(fd)
            return Digests([_NOTHING])
        opened = self._opened(item, fd, version)
        try:
            steps = self._steps(opened, item)
            complete = opened.position == item.length
            self._check_open(directory, name, item, opened, complete)
        except BaseException:
            os.close(fd)
            raise
        if item.length < size:
            self._keep(opened)
        else:
            os.close(fd)
        return Digests(steps)

    def _steps(self, opened: _OpenFile, item: Prefix) -> list[bytes]:
        """
        Digest a beginning of a file, step by step.
        """
        os.posix_fadvise(opened.fd, 0, item.length, os.POSIX_FADV_SEQUENTIAL)
        buffer = memoryview(bytearray(min(item.length, _BLOCK)))
        steps: list[bytes] = []
        step = prefix_step(item.length)
        while opened.position < item.length:
            if self._stopped:
                raise CancelledError
            self._pause()
            goal = min(item.length, (len(steps) + 1) * step)
            missing = goal - opened.position
            hole = 0 if opened.holes is None else opened.holes.hole(opened.position)
            if hole:
                opened.add_hole(min(hole, missing), self._pause)
            else:
                block = buffer[:missing]
                count = os.preadv(opened.fd, [block], opened.position)
                if not count:
                    break  # truncated; the check that follows says so
                opened.add(block[:count])
            if opened.position == goal and opened.hasher is not None:
                opened.mark()
                steps.append(opened.hasher.digest())
        return steps

    def _check_open(
        self,
        directory: int,
        name: bytes,
        item: Range | Prefix,
        opened: _OpenFile,
        complete: bool,
    ) -> None:
        """
        The same as :meth:`_check`, of all that was read of an open file in order.
        """
        status = self._check(
            directory,
            name,
            item,
            opened.version,
            complete,
            lambda: opened.reads_the_same(self._pause),
        )
        opened.version = identity_now(status, opened.version)

    def _check(
        self,
        directory: int,
        name: bytes,
        item: Range | Prefix,
        version: bytes,
        complete: bool,
        reads_the_same: Callable[[], bool],
    ) -> os.stat_result:
        """
        After reading: whether it was the version asked for to the end.

        The descriptor is of that version, and keeps its inode from being used again.
        So if the name still has the identity, then so has the descriptor.

        :param reads_the_same: reads once more; asked if other links of the file were
            renamed or removed meanwhile, so that its change time does not tell.
        :returns: its status.
        """
        for _ in range(_MOST_LINK_CHANGES):
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                break
            if complete and matches(status, version):
                return status
            if not (
                complete and differs_by_links(status, version) and reads_the_same()
            ):
                break
            version = identity_now(status, version)
        raise SourceChanged(f"{printable(item.path)}: changed while being read")

    # -- files kept open

    def _take(self, item: Range) -> _OpenFile | None:
        """
        The open file of this version, which is the caller's until it is kept again.
        """
        with self._lock:
            opened = self._open.pop(item.path, None)
        if opened is not None and (
            opened.identity != item.identity or opened.sparse != item.sparse
        ):
            self._close(opened)
            return None
        return opened

    def _keep(self, opened: _OpenFile) -> None:
        with self._lock:
            before = self._open.pop(opened.path, None)
            if before is not None:
                self._close(before)
            self._make_room(opened)
            self._open[opened.path] = opened

    def _make_room(self, opened: _OpenFile) -> None:
        """
        Close files that were not used for longest: there are many, or the share of
        descriptors is used up.  One file may stay open in any case.
        """
        while True:
            if len(self._open) < MAX_OPEN:
                opened.counted = opened.counted or self._descriptors.try_take()
                if opened.counted or not self._open:
                    return
            _path, oldest = self._open.popitem(last=False)
            self._close(oldest)

    def _close(self, opened: _OpenFile) -> None:
        os.close(opened.fd)
        if opened.counted:
            self._descriptors.give()
