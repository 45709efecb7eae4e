"""
Removing source files, only in the version that was moved, and never another.

For each file: a lease, its identity, its name moved into a hidden directory
(:mod:`realize.store.hidden`), both checked once more, and only then unlinked.  Any
difference, and it goes back under its name.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Literal

from attrs import define

from realize.digest import is_digest
from realize.errors import (
    BadRequest,
    DiskError,
    NoSuchFile,
    PeerError,
    SourceChanged,
    StillOpen,
)
from realize.model import Failure, Removal, Removed
from realize.paths import RelativePath, parent_of, printable
from realize.store.hidden import CANNOT_HIDE, HiddenDirectory, put_back, undo
from realize.store.identity import Guard, identity_now, matches_moved
from realize.store.root import OPEN_DIRECTORY, Root, disk_error


@define(eq=False)
class _Group:
    """
    Files of one directory and one batch, hidden together.

    :ivar users: the batch, and files that wait for a second step.  The last one to
        leave removes the hidden directory.
    """

    hidden: HiddenDirectory
    users: int = 1


@define(eq=False)
class _Waiting:
    """
    A hidden file.

    :ivar identity: that of the file now; hiding has changed it.
    """

    group: _Group
    identity: bytes


class Remover:
    """
    Removes files of one source.  Called from several threads, but never from two at
    once for the same file.

    :param warn: called from a thread with what cannot be had here, and why.
    """

    def __init__(
        self,
        root: Root,
        guard: Guard,
        warn: Callable[[Literal["hiding", "syncing"], str], object],
    ) -> None:
        self._root = root
        self._guard = guard
        self._warn = warn
        self._waiting: dict[bytes, _Waiting] = {}
        self._lock = threading.Lock()

    def remove(self, files: Sequence[Removal]) -> list[Removed | Failure]:
        """
        As :meth:`realize.store.interface.Source.remove`.
        """
        results: list[Removed | Failure] = []
        touched: set[bytes] = set()
        for parent, group in groupby(files, key=lambda file: parent_of(file.path)):
            results += self._remove_from(parent, list(group), touched)
        self._sync(touched)
        return results

    def prune(self, directories: Sequence[bytes]) -> None:
        """
        As :meth:`realize.store.interface.Source.prune`.

        :raises UnsafePath: a path is not canonical; nothing was removed then.
        """
        for path in directories:
            self._root.path(path)
        touched: set[bytes] = set()
        for path in directories:
            self._prune(path, touched)
        self._sync(touched)

    def close(self) -> None:
        """
        Put back what still waits.  What cannot be is put back by the next listing.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for path, file in waiting.items():
            hidden = file.group.hidden
            try:
                directory = os.open(b"..", OPEN_DIRECTORY, dir_fd=hidden.fd)
            except OSError:
                self._leave(file.group, None)
                continue
            try:
                with suppress(OSError):
                    put_back(hidden.fd, RelativePath.parse(path).name, directory)
            finally:
                self._leave(file.group, directory)
                os.close(directory)

    # -- one directory

    def _remove_from(
        self, parent: bytes, files: list[Removal], touched: set[bytes]
    ) -> list[Removed | Failure]:
        try:
            with self._root.directory(parent) as directory:
                group = self._make_group(directory, files)
                try:
                    return [
                        self._result(directory, file, group, touched) for file in files
                    ]
                finally:
                    if group is not None:
                        self._leave(group, directory)
        except OSError as error:
            failure = Failure.of(disk_error(error, parent, "remove files from it"))
        except NoSuchFile:
            return [Removed(found=False)] * len(files)
        except PeerError as error:
            failure = Failure.of(error)
        return [failure] * len(files)

    def _make_group(self, directory: int, files: list[Removal]) -> _Group | None:
        if not any(file.step in ("now", "hide") for file in files):
            return None
        try:
            return _Group(HiddenDirectory.make(directory))
        except OSError as error:
            # A full disk is no reason not to empty it.
            if error.errno not in CANNOT_HIDE:
                raise
            self._warn("hiding", os.strerror(error.errno))
            return None

    def _result(
        self, directory: int, file: Removal, group: _Group | None, touched: set[bytes]
    ) -> Removed | Failure:
        try:
            name = self._name_of(file)
            if file.step == "now":
                self._remove_now(directory, name, file, group)
            elif file.step == "hide":
                self._hide(directory, name, file, group)
            elif file.step == "unlink":
                self._unlink(directory, name, file)
            else:
                self._restore(directory, name, file)
        except Exception as error:  # noqa: BLE001 - of this file only
            failure = self._root.error_of(error, file.path, "remove")
        else:
            touched.add(parent_of(file.path))
            return Removed()
        if isinstance(failure, NoSuchFile):
            return Removed(found=False)
        return Failure.of(failure)

    def _name_of(self, file: Removal) -> bytes:
        if not is_digest(file.digest):
            raise BadRequest("a removal needs the digest of what was moved")
        return self._root.path(file.path).name

    # -- the steps

    def _remove_now(
        self, directory: int, name: bytes, file: Removal, group: _Group | None
    ) -> None:
        fd, leased = self._guard.open_leased(
            directory,
            name,
            file.path,
            file.identity,
            digest=file.digest,
            clock=None if group is None else group.hidden.fd,
        )
        try:
            if group is None:
                os.unlink(name, dir_fd=directory)
                return
            group.hidden.take(directory, name)
            try:
                self._check_hidden(fd, leased, name, file, group)
                os.unlink(name, dir_fd=group.hidden.fd)
            except (PeerError, OSError) as error:
                raise undo(group.hidden.fd, name, directory, file.path, error) from None
        finally:
            os.close(fd)

    def _hide(
        self, directory: int, name: bytes, file: Removal, group: _Group | None
    ) -> None:
        if file.path in self._waiting:
            return
        if group is None:
            raise DiskError(f"{printable(file.path)}: cannot be hidden")
        fd, leased = self._guard.open_leased(
            directory,
            name,
            file.path,
            file.identity,
            digest=file.digest,
            clock=None if group is None else group.hidden.fd,
        )
        try:
            group.hidden.take(directory, name)
            try:
                status = self._check_hidden(fd, leased, name, file, group)
            except (PeerError, OSError) as error:
                raise undo(group.hidden.fd, name, directory, file.path, error) from None
            with self._lock:
                group.users += 1
                self._waiting[file.path] = _Waiting(
                    group, identity_now(status, file.identity)
                )
        finally:
            os.close(fd)

    def _unlink(self, directory: int, name: bytes, file: Removal) -> None:
        waiting = self._stop_waiting(directory, name, file)
        group = waiting.group
        try:
            fd, _leased = self._guard.open_leased(
                group.hidden.fd,
                name,
                file.path,
                waiting.identity,
                digest=file.digest,
                settled=True,
            )
            try:
                os.unlink(name, dir_fd=group.hidden.fd)
            finally:
                os.close(fd)
        except (PeerError, OSError) as error:
            raise undo(group.hidden.fd, name, directory, file.path, error) from None
        finally:
            self._leave(group, directory)

    def _restore(self, directory: int, name: bytes, file: Removal) -> None:
        waiting = self._stop_waiting(directory, name, file)
        try:
            now = put_back(waiting.group.hidden.fd, name, directory)
        finally:
            self._leave(waiting.group, directory)
        if now != name:
            raise SourceChanged(
                f"{printable(file.path)}: another file has this name now;"
                f" kept as {printable(now)}"
            )

    def _stop_waiting(self, directory: int, name: bytes, file: Removal) -> _Waiting:
        with self._lock:
            waiting = self._waiting.pop(file.path, None)
        if waiting is None:
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            raise SourceChanged(f"{printable(file.path)}: is not hidden")
        return waiting

    def _check_hidden(
        self, fd: int, leased: bool, name: bytes, file: Removal, group: _Group
    ) -> os.stat_result:
        status = os.stat(name, dir_fd=group.hidden.fd, follow_symlinks=False)
        if not matches_moved(status, file.identity):
            raise SourceChanged(f"{printable(file.path)}: changed while being removed")
        if leased and not self._guard.is_unbroken(fd):
            raise StillOpen(f"{printable(file.path)}: opened while being removed")
        return status

    def _leave(self, group: _Group, directory: int | None) -> None:
        """
        :param directory: descriptor of the one that holds the hidden one; None if
            there is none to be had, and it is left for the next listing.
        """
        with self._lock:
            group.users -= 1
            if group.users:
                return
        if directory is None:
            group.hidden.give_up()
            return
        # Not empty if a file could not be put back: then the next listing does it.
        with suppress(OSError):
            group.hidden.remove(directory)

    # -- directories

    def _prune(self, path: bytes, touched: set[bytes]) -> None:
        while path:
            above = parent_of(path)
            try:
                with self._root.directory(above) as directory:
                    os.rmdir(RelativePath.parse(path).name, dir_fd=directory)
            except (FileNotFoundError, NoSuchFile):
                pass
            except (OSError, PeerError):
                return
            else:
                touched.add(above)
            self._root.forget(path)
            path = above

    def _sync(self, touched: Iterable[bytes]) -> None:
        for path in touched:
            try:
                with self._root.directory(path) as directory:
                    os.fsync(directory)
            except NoSuchFile:
                pass
            except OSError as error:
                # Nothing is lost if the files come back: they are found moved.
                self._warn("syncing", os.strerror(error.errno or 0))
            except PeerError as error:
                self._warn("syncing", str(error))
