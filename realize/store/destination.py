"""
A directory of this host that files are put into.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from realize.accounts import Account, unlimited
from realize.config import DirectorySettings
from realize.conflicts import Conflicts
from realize.delta.exchange import Patch, Sign, Signed
from realize.errors import (
    BadRequest,
    DigestMismatch,
    DiskError,
    NoSuchFile,
    NotAllowed,
    OtherFileSystem,
    PeerError,
)
from realize.model import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    Claim,
    Confirmed,
    Directory,
    Failure,
    File,
    Finish,
    Finished,
    Held,
    Offer,
    Piece,
    Place,
    Written,
)
from realize.observe.recorder import Recorder, Settled
from realize.paths import parent_of, printable
from realize.store.adopt import Adoption
from realize.store.claims import Claims
from realize.store.commit import Commits, Entry, WrittenEntry
from realize.store.guesses import Guesses, Unlimited
from realize.store.incoming import Incoming, IncomingFiles
from realize.store.interface import Source
from realize.store.marks import Marks
from realize.store.numbered import Names
from realize.store.offers import Offers
from realize.store.older import Older
from realize.store.partial import Partial
from realize.store.present import held, proven, unreadable
from realize.store.requests import affordable, check_paths, too_much
from realize.store.root import Root
from realize.store.signing import Signer, opening_present, signed_bytes
from realize.store.source import LocalSource
from realize.store.space import SpaceLedger
from realize.store.together import sync_together
from realize.store.work import WorkQueue, signing_keys
from realize.store.writing import Writer

#: Orders what is done to the mark; no path begins so.
_MARKING: Final = [b"/"]

#: Most files of one store under construction at once, if its account allows as many.
MAX_OPEN: Final = 4096


class LocalDestination:
    """
    Implements :class:`realize.store.interface.Destination`.

    Each operation is one function in one thread; nothing else is done in threads.

    :param root: closed by :meth:`close`.
    :param work: runs the operations; closed too.
    :param ledger: shared by the stores of a directory.
    :param conflicts: what is done about present files.
    :param name: what messages call it.
    :param recorder: told of what happens to files.
    :param sync: ``fsync``, or in a test something that fails.
    :param together: :func:`~realize.store.together.sync_together`, or the same.
    :param max_open: most files under construction at once.
    :param memory: holds what offered files take; by default, without limit.
    """

    def __init__(
        self,
        root: Root,
        work: WorkQueue,
        ledger: SpaceLedger,
        settings: DirectorySettings,
        conflicts: Conflicts,
        name: str,
        recorder: Recorder,
        *,
        sync: Callable[[int], None] = os.fsync,
        together: Callable[[int, int], bool] = sync_together,
        max_open: int = MAX_OPEN,
        memory: Account | None = None,
        guesses: Guesses | None = None,
    ) -> None:
        self._root = root
        root.exact = True
        self._work = work
        self._settings = settings
        self._conflicts = conflicts
        self._name = name
        self._recorder = recorder
        self._replaced = ledger.replaced
        self._guesses = guesses or Unlimited()
        self._commits = Commits(
            root,
            conflicts,
            self._replaced,
            sync,
            together,
            guesses=self._guesses,
            pause=work.pause,
        )
        self._files = IncomingFiles(
            ledger, self._free, max_open, root.hold, memory or unlimited("memory")
        )
        self._writer = Writer(
            root,
            self._files,
            self._commits,
            conflicts,
            recorder,
            self._guesses,
            work.pause,
        )
        opening = opening_present(root)
        self._signer = Signer(opening, digests=False, pause=work.pause)
        self._claims = Claims(root, self._commits)
        self._marks = Marks(root)
        self._offers = Offers(
            root, self._files, self._commits, ledger, conflicts, settings.directory_mode
        )
        self._commits.older = Older(
            root, self._commits, self._make_directory, conflicts.backup
        )

    @property
    def name(self) -> str:
        """
        What messages call it.
        """
        return self._name

    @property
    def peer(self) -> str:
        """
        For whom it is open.
        """
        return self._recorder.party.peer

    def under_construction(self) -> list[tuple[bytes, int, int]]:
        """
        See :meth:`realize.store.incoming.IncomingFiles.under_construction`.
        """
        return self._files.under_construction()

    @property
    def closed(self) -> bool:
        """
        Whether it is closed, or about to be.
        """
        return self._work.closed

    async def place(self) -> Place:
        """
        See :class:`~realize.store.interface.Store`.
        """
        return await self._work.run([], self._place)

    async def mark(self) -> bytes:
        """
        See :class:`~realize.store.interface.Store`.
        """
        return await self._work.run(_MARKING, self._marks.make)

    async def unmark(self) -> None:
        """
        See :class:`~realize.store.interface.Store`.
        """
        await self._work.run(_MARKING, self._marks.remove)

    async def sees(self, mark: bytes, above: bool = True) -> bool:
        """
        See :class:`~realize.store.interface.Store`.
        """
        return await self._work.run([], self._marks.sees, mark, above)

    async def close(self) -> None:
        """
        See :class:`~realize.store.interface.Store`.  Safe to repeat.
        """
        self._signer.stop()
        await self._work.close(self._close)

    async def offer(
        self,
        files: Sequence[Offer],
        directories: Sequence[Directory],
        reserve: bool = True,
    ) -> Sequence[Held | Failure]:
        """
        See :class:`~realize.store.interface.Destination`.
        """
        paths = _paths(files)
        if reserve:
            return await self._work.run(paths, self._take_offers, files, directories)
        return await self._work.run(paths, self._offers.consider, files)

    async def compare(self, files: Sequence[Finish]) -> Sequence[Held | Failure]:
        """
        See :class:`~realize.store.interface.Destination`.
        """
        nbytes = sum(file.size for file in files)
        return await self._work.run_sized(nbytes, _paths(files), self._compare, files)

    async def write(
        self, pieces: Sequence[Piece], payload: bytes | memoryview
    ) -> Sequence[Written | Failure]:
        """
        See :class:`~realize.store.interface.Destination`.
        """
        if len(pieces) > MAX_BATCH:
            raise BadRequest(f"a batch of {len(pieces)} pieces")
        paths = {piece.path for piece in pieces}
        kept = [piece.offset for piece in pieces if piece.keep]
        if not all(affordable(kept)):
            raise BadRequest("more to be compared than one request may have")
        wanted = sum(piece.carried for piece in pieces)
        if wanted != len(payload) or wanted > MAX_BATCH_BYTES:
            raise BadRequest(f"{len(payload)} bytes for pieces of {wanted}")
        return await self._work.run_sized(
            sum(kept), paths, self._writer.write, pieces, memoryview(payload)
        )

    async def sign(self, wanted: Sign) -> Signed:
        """
        See :class:`~realize.store.interface.Destination`.
        """
        return await self._work.run_sized(
            signed_bytes(wanted), signing_keys(wanted), self._sign, wanted
        )

    async def reuse(
        self, patch: Patch, payload: bytes | memoryview
    ) -> Written | Failure:
        """
        See :class:`~realize.store.interface.Destination`.
        """
        return await self._work.run(
            [patch.path], self._writer.reuse, patch, memoryview(payload)
        )

    async def finish(self, files: Sequence[Finish]) -> Sequence[Finished | Failure]:
        """
        See :class:`~realize.store.interface.Destination`.
        """
        nbytes = sum(file.size for file in files)
        return await self._work.run_sized(nbytes, _paths(files), self._finish, files)

    async def confirm(self, claims: Sequence[Claim]) -> Sequence[Confirmed | Failure]:
        """
        See :class:`~realize.store.interface.Destination`.
        """
        nbytes = sum(claim.size for claim in claims)
        return await self._work.run_sized(nbytes, _paths(claims), self._confirm, claims)

    async def adopt(
        self, source: Source, files: Sequence[File], directories: Sequence[Directory]
    ) -> Sequence[Finished | Failure] | None:
        """
        See :class:`~realize.store.interface.Destination`.

        A file that turns out to be on another file system than the ones before it
        fails with :class:`~realize.errors.OtherFileSystem`: it can be copied.
        """
        if not isinstance(source, LocalSource):
            return None
        return await self._work.run(
            _paths(files), self._adopt, source, files, directories
        )

    # -- in threads from here on

    def _place(self) -> Place:
        return self._root.place(self._root.believed().doubts_as_destination())

    def _take_offers(
        self, files: Sequence[Offer], directories: Sequence[Directory]
    ) -> list[Held | Failure]:
        results = self._offers.take(files, directories)
        for file, result in zip(files, results, strict=True):
            if isinstance(result, Failure):
                self._recorder.failed(file.path, result.error)
        return results

    def _compare(self, files: Sequence[Finish]) -> list[Held | Failure]:
        self._root.check()
        results: list[Held | Failure] = []
        now = affordable(wanted.size for wanted in files)
        for wanted, fits in zip(files, now, strict=True):
            if not fits:
                results.append(too_much(wanted.path))
                continue
            try:
                path = self._root.path(wanted.path)
                with self._root.directory(parent_of(path.raw)) as directory:
                    results.append(self._compare_one(directory, path.name, wanted))
            except Exception as error:  # noqa: BLE001 - of this file only
                if isinstance(error, OSError):
                    error = unreadable(error, wanted.path) or error
                failed = self._root.error_of(error, wanted.path, "read")
                results.append(Failure.of(failed))
        return results

    def _compare_one(self, directory: int, name: bytes, wanted: Finish) -> Held:
        choice, names = self._conflicts.choice, [name]
        if choice == "keep-both":
            known = self._root.filesystem(directory)
            names += Names.of(directory, name, known).sized(wanted.size)
        for last, each in enumerate(names, 1 - len(names)):
            try:
                with proven(
                    directory,
                    each,
                    wanted.size,
                    wanted.digest,
                    guesses=self._guesses,
                    pause=self._work.pause,
                ) as (_fd, status):
                    return replace(held(status), conflict=choice)
            except DigestMismatch:
                if not last:
                    raise
        raise AssertionError("it has one name at least")

    def _sign(self, wanted: Sign) -> Signed:
        self._root.check()
        self._root.path(wanted.path)
        if not self._conflicts.takes_names:
            raise NotAllowed(f"{printable(wanted.path)}: may not be replaced")
        return self._signer.sign(wanted)

    def _confirm(self, claims: Sequence[Claim]) -> list[Confirmed | Failure]:
        self._root.check()
        return self._claims.confirm(claims)

    # -- finish

    def _finish(self, files: Sequence[Finish]) -> list[Finished | Failure]:
        self._root.check()
        with self._files.using({wanted.path for wanted in files}):
            entries = [self._entry(wanted) for wanted in files]
            group = [entry for entry in entries if isinstance(entry, Entry)]
            present = [e for e in group if not isinstance(e, WrittenEntry)]
            now = affordable(entry.wanted.size for entry in present)
            for entry, fits in zip(present, now, strict=True):
                if not fits:
                    entry.error = too_much(entry.wanted.path).error
            began = time.monotonic()
            self._commits.commit(group)
            self._recorder.committed(len(group), time.monotonic() - began)
            self._record(group)
            self._let_go_soon()
            return [
                entry if isinstance(entry, Failure) else self._finished(entry)
                for entry in entries
            ]

    def _entry(self, wanted: Finish) -> Entry | Failure:
        try:
            return self._entry_of(wanted)
        except Exception as error:  # noqa: BLE001 - of this file only
            return Failure.of(self._root.error_of(error, wanted.path, "finish"))

    def _entry_of(self, wanted: Finish) -> Entry | Failure:
        mode = self._file_mode(wanted.mode)
        file = self._files.get(wanted.path)
        if file is None:
            path = self._root.path(wanted.path)
            directory = parent_of(path.raw)
            self._commits.check(path.raw, directory)
            return Entry(wanted, directory, path.name, mode)
        self._commits.check(file.path, file.directory)
        if file.failure is not None:
            return file.failure
        if file.size != wanted.size:
            raise BadRequest(
                f"{printable(file.path)}: finished with {wanted.size} bytes,"
                f" offered with {file.size}"
            )
        partial = self._files.take_partial(file)
        if partial is None:
            return Entry(wanted, file.directory, file.name, mode)
        return WrittenEntry(wanted, file.directory, file.name, mode, partial=partial)

    def _finished(self, entry: Entry) -> Finished | Failure:
        file = self._files.get(entry.wanted.path)
        if file is not None and file.leftover and entry.error is None:
            self._tidy(file)
        self._files.forget(entry.wanted.path)
        return entry.result

    def _record(self, group: Sequence[Entry]) -> None:
        """
        Tell what became of a group.  Without its receipts no file of it counts as done.
        """
        done = [entry for entry in group if entry.error is None]
        try:
            self._recorder.final(
                [
                    Settled(each.path, each.wanted.size, each.wanted.digest, each.how)
                    for each in done
                ]
            )
        except DiskError as error:
            for entry in done:
                entry.error = error
        for entry in group:
            # That a present file differs is an answer: it will be replaced.
            asked = not isinstance(entry, WrittenEntry)
            if entry.error is None or (
                asked and isinstance(entry.error, DigestMismatch | NoSuchFile)
            ):
                continue
            self._recorder.failed(entry.wanted.path, entry.error)

    def _tidy(self, file: Incoming) -> None:
        """
        Delete what an earlier run left, of a file that is there in another way.
        """
        try:
            with self._root.directory(file.directory) as directory:
                Partial.resume(directory, file.partial_name).discard(directory)
        except (PeerError, OSError):
            return  # The file is safe; a partial more or less is no failure.

    def _file_mode(self, mode: int) -> int:
        if self._settings.file_mode is not None:
            return self._settings.file_mode
        return mode & 0o777

    # -- adopt and the end

    def _adopt(
        self,
        source: LocalSource,
        files: Sequence[File],
        directories: Sequence[Directory],
    ) -> list[Finished | Failure] | None:
        self._root.check()
        if not files:
            ours, theirs = (root.file_system() for root in (self._root, source.root))
            return [] if ours.f_fsid == theirs.f_fsid else None
        modes = {each.path: each.mode for each in directories}
        adoption = Adoption(
            source.root, source.guard, self._root, self._commits, self._conflicts
        )
        entries = []
        for file in files:
            entry = Entry(
                Finish(file.path, file.size, b"", file.mode, file.mtime_ns),
                parent_of(file.path),
                file.path.rpartition(b"/")[2],
                self._file_mode(file.mode),
            )
            entries.append(entry)
            try:
                self._root.path(file.path)
                self._commits.check(file.path, entry.directory)
                self._files.forget(file.path)
                self._offers.make_directory(entry.directory, modes)
                if not adoption.take(file, entry):
                    text = f"{printable(file.path)}: would be compared"
                    entry.error = OtherFileSystem(text)
            except OtherFileSystem as error:
                if all(each.how != "renamed" for each in entries):
                    return None
                entry.error = error
            except Exception as error:  # noqa: BLE001 - of this file only
                entry.error = self._root.error_of(error, file.path, "move")
        adoption.sync(entries)
        self._record(entries)
        return [entry.result for entry in entries]

    def _make_directory(self, path: bytes) -> None:
        self._offers.make_directory(path, {})

    def _free(self) -> int:
        # What gave way counts as free.
        self._replaced.let_go()
        return self._root.free()

    def _let_go_soon(self) -> None:
        """
        Have what gave way deleted in a thread, while nobody waits for it.
        """
        if self._replaced:
            pool = self._work.pool
            pool.tell(pool.run, self._replaced.let_go)

    def _close(self) -> None:
        self._let_go_soon()
        self._files.forget_all()
        self._marks.remove()
        self._root.close()
        self._recorder.close()


def _paths(items: Sequence[Offer | Finish | File | Claim]) -> list[bytes]:
    """
    The files an operation names, each once.

    :raises BadRequest: as :func:`~realize.store.requests.check_paths`.
    """
    return check_paths([item.path for item in items])
