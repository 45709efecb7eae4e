"""
What a destination has of the files it is offered, and whether it can take them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from attrs import define
from msgspec.structs import replace

from realize.conflicts import Conflicts
from realize.errors import (
    DiskError,
    NameTaken,
    NoSuchFile,
)
from realize.model import Directory, Failure, Held, Offer
from realize.paths import (
    parent_of,
    printable,
)
from realize.store.attributes import attempt
from realize.store.commit import Commits
from realize.store.incoming import Incoming, IncomingFiles
from realize.store.kept import DirectoriesInTurn
from realize.store.names import may_keep_others
from realize.store.numbered import Names
from realize.store.partial import held_bytes
from realize.store.present import held, look
from realize.store.root import Root, disk_error
from realize.store.space import SpaceLedger
from realize.store.spelling import Shown, refused

#: Permission bits of a directory about which nobody said anything.
DEFAULT_DIRECTORY_MODE: Final = 0o755

#: Whatever the source's directory had: files have to be put into ours.
_OWNER: Final = 0o700


@define(eq=False)
class Turn:
    """
    The directories of a batch, one after the other, and what they show.
    """

    _root: Root
    _directories: DirectoriesInTurn
    _path: bytes | None = None
    _shown: Shown | None = None

    def go(self, path: bytes) -> tuple[int, Shown | None]:
        """
        The descriptor of a directory, good until the next call, and what it shows where
        two names may be one; None where every name is its own.
        """
        fd = self._directories.descriptor(path)
        if path != self._path:
            self._shown = Shown(fd) if self._root.filesystem(fd).folds else None
            self._path = path
        return fd, self._shown


class Offers:
    """
    Answers offers, in any thread.

    :param files: where files are announced that were taken.
    :param ledger: where their space comes from.
    :param conflicts: what is done about present files.
    :param directory_mode: permission bits of all new directories; None: as the
        source's.
    """

    def __init__(
        self,
        root: Root,
        files: IncomingFiles,
        commits: Commits,
        ledger: SpaceLedger,
        conflicts: Conflicts,
        directory_mode: int | None,
    ) -> None:
        self._root = root
        self._files = files
        self._commits = commits
        self._ledger = ledger
        self._conflicts = conflicts
        self._directory_mode = directory_mode
        #: By device: whether a file can be named there so that no other gives way.
        self._keeps: dict[int, bool] = {}

    def take(
        self, offers: Sequence[Offer], directories: Sequence[Directory]
    ) -> list[Held | Failure]:
        """
        Say what is there, make directories, set space aside, announce the files.

        :param directories: with the modes to make them with.
        :raises DirectoryGone: the root has vanished.
        """
        self._root.check()
        free = self._files.free()
        modes = {each.path: each.mode for each in directories}
        results: list[Held | Failure] = []
        with (
            self._files.using([offer.path for offer in offers]),
            self._root.directories() as opened,
        ):
            turn = Turn(self._root, opened)
            for offer in offers:
                try:
                    results.append(self._take(offer, modes, free, turn))
                except Exception as error:  # noqa: BLE001 - of this file only
                    self._files.forget(offer.path)
                    results.append(self._failure(error, offer))
        return results

    def consider(self, offers: Sequence[Offer]) -> list[Held | Failure]:
        """
        Say what would be; nothing is changed, and nothing held afterwards.

        :raises DirectoryGone: the root has vanished.
        """
        self._root.check()
        free = self._files.free()
        results: list[Held | Failure] = []
        with (
            self._files.using([offer.path for offer in offers]),
            self._root.directories() as directories,
        ):
            turn = Turn(self._root, directories)
            for offer in offers:
                try:
                    results.append(self._consider(offer, free, turn))
                except Exception as error:  # noqa: BLE001 - of this file only
                    results.append(self._failure(error, offer))
        return results

    def make_directory(self, path: bytes, modes: Mapping[bytes, int]) -> None:
        """
        Make sure that a directory is there, and those above it.

        :param path: canonical; ``b""`` is the root.
        :param modes: permission bits, whatever the umask, of those that are missing.
        :raises PeerError: it cannot be made.
        :raises OSError: the same.
        """
        try:
            with self._root.directory(path):
                return
        except NoSuchFile:
            pass
        mode = self._directory_mode
        if mode is None:
            mode = modes.get(path, DEFAULT_DIRECTORY_MODE) & 0o777 | _OWNER
        if not path:
            self._root.create(mode)
            self._commits.created(path)
            return
        above = parent_of(path)
        self.make_directory(above, modes)
        with self._root.directory(above) as directory:
            name = path.rpartition(b"/")[2]
            try:
                os.mkdir(name, mode, dir_fd=directory)
            except FileExistsError:
                return
            except OSError as error:
                raise (
                    refused(error, path, name)
                    or disk_error(error, path, "make the directory")
                ) from None
            self._commits.created(path)
            try:
                self._set_mode(path, mode)
            except NameTaken:
                # It has another name than it should.
                with suppress(OSError):
                    os.rmdir(name, dir_fd=directory)
                raise

    def _set_mode(self, path: bytes, mode: int) -> None:
        with self._root.directory(path) as made:
            # A set-group-id bit that came from the directory above stays.
            inherited = os.fstat(made).st_mode & stat.S_ISGID
            attempt(lambda: os.fchmod(made, mode | inherited))

    def _take(
        self,
        offer: Offer,
        modes: Mapping[bytes, int],
        free: int,
        turn: Turn,
    ) -> Held:
        file = self._file(offer)
        self._commits.check(file.path, file.directory)
        try:
            present, partial = self._look(file, turn)
        except NoSuchFile:
            self.make_directory(file.directory, modes)
            present, partial = self._look(file, turn)
        file.size, file.sparse = offer.size, offer.holes > 0
        self._check_naming(file, turn)
        file.failure = None
        self._files.announce(file)
        file.leftover = file.partial is None and partial > 0
        file.kept_out = self._kept_out(file.path, present)
        size = self._size_of(file, offer.size, present, turn)
        if size != offer.size:
            if file.kept_out is not None:
                raise file.kept_out.error
            # Anew: the disk may have become fuller than when it was promised first.
            self._files.promise(file, offer.size)
            file.holes = min(offer.holes, offer.size)
            self._files.promise(file, min(partial, offer.size - file.holes), free)
        else:
            # Probably there already, it needs no space now: the disk may be full.
            file.holes = min(offer.holes, offer.size)
        file.busy = False
        return self._answer(present, size, partial)

    def _consider(self, offer: Offer, free: int, turn: Turn) -> Held:
        file = self._file(offer)
        self._commits.check(file.path, file.directory)
        try:
            present, partial = self._look(file, turn)
        except NoSuchFile:
            present, partial = None, 0
        size = self._size_of(file, offer.size, present, turn)
        if size != offer.size:
            kept_out = self._kept_out(file.path, present)
            if kept_out is not None:
                raise kept_out.error
            missing = offer.size - offer.holes - partial - file.promised
            self._ledger.check(max(0, missing), free)
        return self._answer(present, size, partial)

    def _file(self, offer: Offer) -> Incoming:
        file = self._files.get(offer.path)
        if file is None:
            file = Incoming.of(self._root.path(offer.path), offer.size)
            file.busy = True
        return file

    def _look(self, file: Incoming, turn: Turn) -> tuple[os.stat_result | None, int]:
        """
        The present file, and bytes in the partial.
        """
        directory, shown = turn.go(file.directory)
        file.folds = shown is not None
        present = look(directory, file.name)
        if present is not None and shown is not None:
            shown.check(file.name, file.path)
        if file.partial is not None:
            return present, file.partial.size
        return present, held_bytes(directory, file.partial_name)

    def _failure(self, error: Exception, offer: Offer) -> Failure:
        if isinstance(error, OSError):
            name = offer.path.rpartition(b"/")[2]
            error = refused(error, offer.path, name) or error
        return Failure.of(self._root.error_of(error, offer.path, "look for it"))

    def _check_naming(self, file: Incoming, turn: Turn) -> None:
        """
        Where nothing may give way, make sure that this can be promised.

        :raises DiskError: it cannot, whatever is sent.
        """
        if self._conflicts.replaces or not self._conflicts.strict:
            return
        directory, _ = turn.go(file.directory)
        if not self._root.filesystem(directory).cached:
            return
        device = os.fstat(directory).st_dev
        if device not in self._keeps:
            self._keeps[device] = may_keep_others(directory)
        if not self._keeps[device]:
            raise DiskError(
                f"{printable(file.path)}: this file system cannot give a file a name"
                " without taking it from another, which this host may not do; let it"
                " replace files there, or use another file system"
            )

    def _kept_out(self, path: bytes, present: os.stat_result | None) -> Failure | None:
        if present is None or not self._conflicts.refuses:
            return None
        return Failure.of(self._conflicts.error(path))

    def _size_of(
        self, file: Incoming, wanted: int, present: os.stat_result | None, turn: Turn
    ) -> int:
        """
        Size of the present file, or of that with another of its names that has the
        size which is wanted; -1 if there is none.
        """
        if present is None:
            return -1
        if self._conflicts.choice != "keep-both" or present.st_size == wanted:
            return present.st_size
        directory, _ = turn.go(file.directory)
        known = self._root.filesystem(directory)
        names = Names.of(directory, file.name, known)
        return wanted if names.sized(wanted) else -1

    def _answer(self, present: os.stat_result | None, size: int, partial: int) -> Held:
        """
        What is held; *size* as from :meth:`_size_of`.
        """
        if present is None:
            return Held(partial)
        choice = self._conflicts.choice
        if choice == "keep-both":
            return Held(partial, size, conflict=choice)
        return replace(held(present, partial), conflict=choice)
