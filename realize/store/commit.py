"""
How a group of files becomes final: verified, durable, and under its name.

The order is what makes it safe, and :meth:`Commits.commit` is that order.  A name
becomes visible only after its content is on the disk, and is answered for only after
the name is on the disk too; until then a crash leaves a partial, or a complete file.
Each step is done for all files before the next one begins: the disk then has many
things to do at once, and a directory is synchronised once for all its files.

A descriptor whose ``fsync`` failed is never asked again: the kernel has marked the
pages clean and would answer that all is well.  The partial is deleted, and the same
file or directory is refused for the rest of the run.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from typing import Final, Protocol, TypeVar

from attrs import define, field

from realize.conflicts import Conflicts
from realize.errors import (
    AlreadyExists,
    Busy,
    DigestMismatch,
    PeerError,
    Skipped,
    SyncFailed,
)
from realize.model import Attribute, Failure, Finish, Finished, How
from realize.paths import join, parent_of, printable
from realize.store.attributes import attempt, not_kept, set_mode
from realize.store.guesses import Guesses, Unlimited
from realize.store.identity import version_of
from realize.store.names import Found, Naming
from realize.store.numbered import Names
from realize.store.partial import Partial
from realize.store.present import proven, unreadable
from realize.store.replaced import Replaced
from realize.store.root import Root
from realize.store.spelling import Shown, folded
from realize.store.syscalls import UNSUPPORTED, flush, start_writeback
from realize.store.together import WORTHWHILE, sync_together

E = TypeVar("E", bound="Entry")

#: After so many failures to make something durable, a store writes no more.
MAX_SYNC_FAILURES: Final = 3

#: Directories remembered as having durable parents.
_MAX_ANCHORED: Final = 16_384

#: How often a name is looked for anew that somebody else took meanwhile.
_ATTEMPTS: Final = 8


class Keeper(Protocol):
    """
    Whoever keeps files that give way: :class:`realize.store.older.Older`.
    """

    def keep(self, directory: int, name: bytes, path: bytes) -> bytes:
        """
        Take a file's name away, and tell where it is, durably, from now on.
        """


@define(eq=False)
class Entry:
    """
    A file of a group.

    :ivar directory: path of its directory.
    :ivar name: that it gets there: its own, unless another file is known to have it.
    :ivar mode: permission bits it gets.
    :ivar exact: whether no file of another name will do.
    :ivar how: how it came to be final; ``present`` until it was renamed.
    :ivar not_kept: what the file system did not take over.
    :ivar gave_way: whether another file did.
    :ivar older: its path, if it was kept.
    :ivar error: why it is not.
    """

    wanted: Finish
    directory: bytes
    name: bytes
    mode: int
    exact: bool = field(default=False, kw_only=True)
    how: How = "present"
    version: bytes = b""
    not_kept: list[Attribute] = field(factory=list)
    gave_way: bool = False
    older: bytes = b""
    error: PeerError | None = None

    @property
    def path(self) -> bytes:
        """
        Where the file is, once the group was committed.
        """
        return join(self.directory, self.name)

    @property
    def result(self) -> Finished | Failure:
        """
        The outcome, once the group was committed.
        """
        if self.error is not None:
            return Failure.of(self.error)
        own = self.wanted.path.rpartition(b"/")[2]
        name = self.name if self.name != own else b""
        return Finished(
            self.how, self.version, self.not_kept, name, self.older, self.gave_way
        )


@define(eq=False, kw_only=True)
class WrittenEntry(Entry):
    """
    A file that was written; any other is said to be there already.

    :ivar partial: closed by the commit.
    """

    partial: Partial


class Commits:
    """
    Makes groups final in one root, and remembers what concerns the whole run.

    Several groups may be committed at the same time, from different threads.

    :param conflicts: what is done about present files.
    :param replaced: takes the large ones that did.
    :param sync: ``fsync``, or in a test something that fails.
    :param together: :func:`~realize.store.together.sync_together`, or the same.
    :param close: says what closing says, :func:`~realize.store.syscalls.flush`.
    :param guesses: of the one whose files they are; by default not counted.
    :ivar older: keeps files that give way, if they are to be kept.
    """

    older: Keeper | None = None

    def __init__(
        self,
        root: Root,
        conflicts: Conflicts,
        replaced: Replaced,
        sync: Callable[[int], None] = os.fsync,
        together: Callable[[int, int], bool] = sync_together,
        close: Callable[[int], None] = flush,
        guesses: Guesses | None = None,
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        self._pause = pause
        self._guesses = guesses or Unlimited()
        self._root = root
        self._conflicts = conflicts
        self._fsync = sync
        self._together = together
        self._close = close
        self._replaced = replaced
        #: Directories whose parents are durable.
        self._anchored: set[bytes] = set()
        self._root_anchored = False
        #: Held where two names may be one, from a rename until it was looked at.
        self._respelling = threading.Lock()
        #: Files and directories that could not be made durable.
        self._unsafe: set[bytes] = set()

    def commit(self, group: Sequence[Entry]) -> None:
        """
        Make a group of files final; each entry then has its result.

        Closes the partials of all.
        """
        written = [entry for entry in group if isinstance(entry, WrittenEntry)]
        present = [entry for entry in group if not isinstance(entry, WrittenEntry)]
        try:
            self._each(written, _verify, "set its size or attributes")
            self._sync_all(written)
            self._rename(written)
            self._prove_present(present)
            self.sync_names(group)
        finally:
            for entry in written:
                self._let_go(entry)

    def created(self, directory: bytes) -> None:
        """
        A directory was made: its parents have to be made durable again.

        :param directory: ``b""`` for the root.
        """
        self._anchored.discard(directory)
        if not directory:
            self._root_anchored = False

    def check(self, path: bytes, directory: bytes) -> None:
        """
        Whether a file may still be written.

        :raises SyncFailed: it, its directory, or too much else in this run could not
            be made durable.
        """
        if not self._unsafe:
            return
        if len(self._unsafe) >= MAX_SYNC_FAILURES:
            raise SyncFailed(
                f"{printable(path)}: not written, because the disk failed"
                f" {MAX_SYNC_FAILURES} times to make data durable"
            )
        if path in self._unsafe or directory in self._unsafe:
            raise SyncFailed(
                f"{printable(path)}: not written, because the disk failed"
                " to make it or its directory durable in this run"
            )

    # -- the steps

    def _each(
        self, entries: Iterable[E], step: Callable[[E], None], doing: str
    ) -> None:
        """
        Take one step with all entries that have not failed.
        """
        for entry in entries:
            if entry.error is None:
                try:
                    step(entry)
                except Exception as error:  # noqa: BLE001 - of this file only
                    entry.error = self._root.error_of(error, entry.wanted.path, doing)

    def _sync_all(self, written: Sequence[WrittenEntry]) -> None:
        """
        Make the contents durable: at once where that is possible, else one by one.
        """
        waiting = [entry for entry in written if entry.error is None]
        # What was kept of an earlier run may have an error that only its own
        # descriptor tells of.
        fresh = [entry for entry in waiting if not entry.partial.kept]
        if len(fresh) >= WORTHWHILE and self._sync_together(fresh):
            waiting = [entry for entry in waiting if entry.partial.kept]
        self._each(waiting, _start_writeback, "write")
        self._each(waiting, self._sync_written, "synchronise")

    def _sync_together(self, fresh: Sequence[WrittenEntry]) -> bool:
        """
        :returns: whether all are durable; if not, each is to be asked for itself.
        """
        first = min(fresh, key=lambda entry: entry.partial.opened)
        try:
            if not self._together(first.partial.fd, len(fresh)):
                return False
        except OSError:
            return False
        # Empties the disk's cache, if that has not been done.
        self._each([first], self._sync_written, "synchronise")
        return first.error is None

    def _sync_written(self, entry: WrittenEntry) -> None:
        self.sync(entry.partial.fd, entry.wanted.path)

    def _rename(self, written: Sequence[WrittenEntry]) -> None:
        for directory, entries in _by_directory(written).items():
            try:
                with self._root.directory(directory) as fd:
                    known = self._root.filesystem(fd)
                    if known.cached:
                        self._each(entries, self._close_written, "write")
                    shown = Shown(fd) if known.folds else None
                    naming = Naming(
                        fd, self._conflicts, self._replaced, shown, known.inodes
                    )
                    if shown is None:
                        self._give(naming, entries)
                    else:
                        with self._respelling:
                            self._give_one_by_one(naming, shown, entries)
            except PeerError as error:
                for entry in entries:
                    entry.error = error

    def _give(self, naming: Naming, entries: Iterable[WrittenEntry]) -> None:
        self._each(entries, partial(self._rename_one, naming), "rename")

    def _give_one_by_one(
        self, naming: Naming, shown: Shown, entries: Iterable[WrittenEntry]
    ) -> None:
        """
        Of names that may be one, give none before it is known how the directory shows
        the last: what is stored as another name would give way to the file of that.
        """
        alike: dict[str, list[WrittenEntry]] = {}
        for entry in entries:
            alike.setdefault(folded(entry.name), []).append(entry)
        for each in zip_longest(*alike.values()):
            batch = [entry for entry in each if entry is not None]
            self._give(naming, batch)
            shown.forget()
            check = partial(self._check_spelling, naming)
            self._each(batch, check, "list its directory")

    def _close_written(self, entry: WrittenEntry) -> None:
        """
        Where bytes may wait to be written elsewhere, closing tells what became of them.
        """
        try:
            self._close(entry.partial.fd)
        except OSError as error:
            raise self._sync_failed(entry.wanted.path, error) from None

    def _rename_one(self, naming: Naming, entry: WrittenEntry) -> None:
        written, path = entry.partial, entry.wanted.path
        found = self._settle(naming, entry)
        if found is None:
            return
        status = found.status
        if not found.certain:
            status = self._prove(naming.directory, entry)
        entry.not_kept = not_kept(status, entry.mode, entry.wanted.mtime_ns)
        if "permissions" in entry.not_kept:
            # Somebody who took the partial for abandoned may have changed them.
            set_mode(written.fd, entry.mode)
            status = os.fstat(written.fd)
            entry.not_kept = not_kept(status, entry.mode, entry.wanted.mtime_ns)
            if "permissions" not in entry.not_kept:
                self.sync(written.fd, path)
        entry.version = version_of(status)

    def _settle(self, naming: Naming, entry: WrittenEntry) -> Found | None:
        """
        Give a partial its name, or another if there is a conflict; None if the file was
        there already.
        """
        written, path = entry.partial, entry.wanted.path
        for _ in range(_ATTEMPTS):
            try:
                how, found = naming.give(written.fd, written.name, entry.name, path)
            except AlreadyExists:
                if self._find_same(naming.directory, entry):
                    return None
                self._make_way(naming.directory, entry)
            else:
                entry.how = "replaced" if entry.older else how
                entry.gave_way = entry.how == "replaced"
                return found
        raise Busy(f"{printable(path)}: others take each name that it could have")

    def _make_way(self, directory: int, entry: Entry) -> None:
        """
        Another file has the name: choose another, or keep that file elsewhere.
        """
        path = entry.wanted.path
        if self._conflicts.choice == "keep-both":
            free = self._names(directory, entry).free
            if free is not None:
                self._root.path(join(entry.directory, free))
                entry.name = free
                return
        elif self._conflicts.choice == "backup" and self.older is not None:
            entry.older = self.older.keep(directory, entry.name, path)
            return
        raise self._conflicts.error(path)

    def _names(self, directory: int, entry: Entry) -> Names:
        own = entry.wanted.path.rpartition(b"/")[2]
        return Names.of(directory, own, self._root.filesystem(directory))

    def _find_same(self, directory: int, entry: Entry) -> bool:
        """
        Whether one of the names that a file may have leads to this content, durably;
        the entry then has that name.
        """
        names, own = [entry.name], entry.name
        if self._conflicts.choice == "keep-both":
            names = self._names(directory, entry).sized(entry.wanted.size)
        for name in names:
            entry.name = name
            try:
                entry.version = version_of(self._prove(directory, entry))
            except (DigestMismatch, FileNotFoundError):
                continue
            return True
        entry.name = own
        return False

    def _prove(self, directory: int, entry: Entry) -> os.stat_result:
        """
        Make sure that a name leads to the content it should, and that this is durable.
        """
        wanted = entry.wanted

        def sync(fd: int) -> None:
            self.sync(fd, wanted.path)

        size, digest, guesses = wanted.size, wanted.digest, self._guesses
        with proven(
            directory, entry.name, size, digest, sync, guesses, self._pause
        ) as (fd, status):
            sync(fd)
            return status

    def _prove_present(self, present: Sequence[Entry]) -> None:
        for directory, entries in _by_directory(present).items():
            try:
                with self._root.directory(directory) as fd:
                    prove = partial(self._prove_and_sync, fd, self._shown(fd))
                    self._each(entries, prove, "read")
            except PeerError as error:
                for entry in entries:
                    entry.error = error

    def _prove_readable(self, directory: int, entry: Entry) -> os.stat_result:
        try:
            return self._prove(directory, entry)
        except OSError as error:
            raise unreadable(error, entry.wanted.path) or error from None

    def _prove_and_sync(
        self, directory: int, shown: Shown | None, entry: Entry
    ) -> None:
        try:
            entry.version = version_of(self._prove_readable(directory, entry))
        except (DigestMismatch, FileNotFoundError):
            both = self._conflicts.choice == "keep-both" and not entry.exact
            if not both or not self._find_same(directory, entry):
                raise
        if shown is not None:
            shown.check(entry.name, entry.wanted.path)

    def _shown(self, directory: int) -> Shown | None:
        """
        What a directory shows, if two names may be one there.
        """
        return Shown(directory) if self._root.filesystem(directory).folds else None

    @staticmethod
    def _check_spelling(naming: Naming, entry: WrittenEntry) -> None:
        written = entry.partial
        naming.check_spelling(written.fd, written.name, entry.name, entry.wanted.path)

    def sync_names(self, group: Sequence[Entry]) -> None:
        """
        Make names durable: each directory once, with all above it the first time.

        An entry whose name is not durable gets an error.
        """
        chains: dict[bytes, list[bytes]] = {}
        errors: dict[bytes, PeerError] = {}
        for entry in group:
            if entry.error is None and entry.directory not in chains:
                chains[entry.directory] = self._chain(entry.directory)
        for directory in {each: None for chain in chains.values() for each in chain}:
            try:
                with self._root.directory(directory) as fd:
                    self.sync(fd, directory)
            except PeerError as error:
                errors[directory] = error
        if chains and not self._root_anchored:
            try:
                self._root.sync_above()
                self._root_anchored = True
            except OSError as error:
                errors[b""] = self._sync_failed(b"", error)
        for entry in group:
            if entry.error is None:
                for directory in chains[entry.directory]:
                    entry.error = entry.error or errors.get(directory)
        if len(self._anchored) > _MAX_ANCHORED:
            self._anchored.clear()
        self._anchored.update(
            directory
            for directory, chain in chains.items()
            if errors.keys().isdisjoint(chain)
        )

    def _chain(self, directory: bytes) -> list[bytes]:
        """
        What has to be durable for a name in *directory* to be.
        """
        chain = [directory]
        if directory not in self._anchored:
            while directory:
                directory = parent_of(directory)
                chain.append(directory)
        return chain

    def sync(self, fd: int, path: bytes) -> None:
        """
        Make a file or a directory durable, but never one that failed before.

        :raises SyncFailed: it is not durable.
        """
        if path in self._unsafe:
            raise SyncFailed(f"{printable(path)}: was not durable in this run before")
        try:
            self._fsync(fd)
            # An XFS that has shut itself down after an error of its disk answers for
            # a directory that all is well, and has forgotten the names in it.  It
            # does not answer this.
            os.fstat(fd)
        except OSError as error:
            raise self._sync_failed(path, error) from None

    def _sync_failed(self, path: bytes, error: OSError) -> SyncFailed:
        self._unsafe.add(path)
        reason = os.strerror(error.errno or 0)
        return SyncFailed(f"{printable(path) or 'the root'}: not durable: {reason}")

    def _let_go(self, entry: WrittenEntry) -> None:
        """
        Close a partial, and delete it if it is of no use to a later run.
        """
        # With a version it was found to be there already.
        useless = bool(entry.version) or isinstance(
            entry.error, AlreadyExists | DigestMismatch | Skipped | SyncFailed
        )
        renamed = entry.how != "present"
        if useless and not renamed:
            with (
                suppress(PeerError, OSError),
                self._root.directory(entry.directory) as directory,
            ):
                entry.partial.discard(directory)
        entry.partial.close()


def _verify(entry: WrittenEntry) -> None:
    written, wanted = entry.partial, entry.wanted
    if written.sparse or written.size > wanted.size:
        written.extend(wanted.size)
    if written.hasher.digest() != wanted.digest:
        raise DigestMismatch(
            f"{printable(wanted.path)}: what was written is not what was read"
        )
    set_mode(written.fd, entry.mode)
    attempt(lambda: os.utime(written.fd, ns=(time.time_ns(), wanted.mtime_ns)))


def _start_writeback(entry: WrittenEntry) -> None:
    try:
        start_writeback(entry.partial.fd)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _by_directory(entries: Iterable[E]) -> dict[bytes, list[E]]:
    groups: dict[bytes, list[E]] = {}
    for entry in entries:
        if entry.error is None:
            groups.setdefault(entry.directory, []).append(entry)
    return groups
