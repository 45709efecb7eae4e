"""
Removing source files, only in the version that was moved, and never another.

A file is *hidden* first: a lock and a lease, its identity, its name moved out of
everybody's sight (:mod:`realize.store.hidden`), and both checked once more.  Then
somebody finds out whether its copy is still there, and it is *unlinked*, or *restored*
to its name.

Hiding comes before that question, and that is why two moves in opposite directions lose
nothing: each has hidden its own file when it asks for the other one.  So the second to
ask finds nothing, whoever that is, and puts its own back.  No clock and no lock is
needed for that, and it holds however long the answer takes.
"""

from __future__ import annotations

import errno
import fcntl
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
    Busy,
    NoSuchFile,
    PeerError,
    SourceChanged,
    StillOpen,
)
from realize.model import Failure, Removal, Removed
from realize.paths import RelativePath, parent_of, printable
from realize.store.guard import Guard
from realize.store.hidden import (
    HiddenNames,
    HidingPlace,
    find_held,
    find_hidden,
    hide,
    is_seen,
    is_there,
    lock_alone,
    make_hiding_place,
    not_removed,
    put_back,
    undo,
)
from realize.store.identity import identity_now, matches_moved
from realize.store.root import OPEN_DIRECTORY, Root, disk_error


@define(eq=False)
class _Group:
    """
    Files of one directory and one batch, hidden together.

    :ivar users: the batch, and files that wait for the second step.  The last one to
        leave gives up the place.
    """

    place: HidingPlace
    users: int = 1


@define(eq=False)
class _Version:
    """
    A version of a file, some of whose names are hidden.

    :ivar digest: what it was found to be when the first of them was hidden.
    :ivar identity: that of the file now; hiding has changed it.
    :ivar users: names that are hidden.
    """

    digest: bytes
    identity: bytes
    users: int = 0


@define(eq=False)
class _Waiting:
    """
    A hidden file.

    :ivar name: that it has where it is hidden.
    :ivar version: shared by all names of one file: hiding one changes the others.
    :ivar fd: descriptor with the lock that keeps listings from putting it back, where
        there is no hidden directory that has one; else -1.
    """

    group: _Group
    name: bytes
    version: _Version
    fd: int = -1

    def let_go(self) -> None:
        """Close it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


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
        warn: Callable[[Literal["syncing"], str], object],
    ) -> None:
        self._root = root
        self._guard = guard
        self._warn = warn
        self._waiting: dict[bytes, _Waiting] = {}
        #: By the identity that files had before the first of their names was hidden.
        self._versions: dict[bytes, _Version] = {}
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
            file.let_go()
            place = file.group.place
            directory = None
            with suppress(OSError):
                directory = self._directory_of(place)
            if directory is None:
                self._leave(file.group, None)
                continue
            try:
                with suppress(OSError):
                    own = RelativePath.parse(path).name
                    put_back(place.fd, file.name, directory, own)
            finally:
                self._leave(file.group, directory)
                os.close(directory)

    @staticmethod
    def _directory_of(place: HidingPlace) -> int:
        """
        A descriptor of the directory whose files are hidden, wherever it is by now.
        """
        if place.is_directory:
            return os.open(b"..", OPEN_DIRECTORY, dir_fd=place.fd)
        return os.dup(place.fd)

    # -- one directory

    def _remove_from(
        self, parent: bytes, files: list[Removal], touched: set[bytes]
    ) -> list[Removed | Failure]:
        try:
            with self._root.directory(parent) as directory:
                group = self._make_group(directory, files)
                try:
                    results = [
                        self._result(directory, file, group, touched) for file in files
                    ]
                    return self._look_for_gone(directory, files, results)
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

    @staticmethod
    def _look_for_gone(
        directory: int, files: list[Removal], results: list[Removed | Failure]
    ) -> list[Removed | Failure]:
        """
        A file that is not there to be hidden has not gone if somebody else hides it:
        another move, or a session of ours whose line was cut.  One that a crash left
        hidden is for the next listing.
        """
        names = {
            RelativePath.parse(file.path).name
            for file, result in zip(files, results, strict=True)
            if isinstance(result, Removed) and not result.found
        }
        if not names:
            return results
        held = find_held(directory, names)
        looked: list[Removed | Failure] = []
        for file, result in zip(files, results, strict=True):
            name = RelativePath.parse(file.path).name
            if isinstance(result, Removed) and not result.found and name in held:
                shown = printable(file.path)
                error: PeerError = Busy(f"{shown}: another move is removing it")
                if find_hidden(directory, name):
                    error = SourceChanged(f"{shown}: was left hidden by a crash")
                looked.append(Failure.of(error))
            else:
                looked.append(result)
        return looked

    def _make_group(self, directory: int, files: list[Removal]) -> _Group | None:
        if any(file.step == "hide" for file in files):
            return _Group(make_hiding_place(directory))
        return None

    def _result(
        self, directory: int, file: Removal, group: _Group | None, touched: set[bytes]
    ) -> Removed | Failure:
        try:
            name = self._name_of(file)
            if file.step == "hide" and group is not None:
                return self._hide_somewhere(directory, name, file, group)
            if file.step == "unlink":
                self._unlink(directory, name, file)
                touched.add(parent_of(file.path))
            else:
                self._restore(directory, name, file)
        except Exception as error:  # noqa: BLE001 - of this file only
            failure = self._root.error_of(error, file.path, "remove")
        else:
            return Removed()
        if isinstance(failure, NoSuchFile):
            if not is_there(directory, self._name_of(file)):
                return Removed(found=False)
            failure = not_removed(file.path)
        return Failure.of(failure)

    def _name_of(self, file: Removal) -> bytes:
        if not is_digest(file.digest):
            raise BadRequest("a removal needs the digest of what was moved")
        if file.path in self._waiting:
            return file.path.rpartition(b"/")[2]  # was looked at when it was hidden
        return self._root.path(file.path).name

    # -- the steps

    def _hide_somewhere(
        self, directory: int, name: bytes, file: Removal, group: _Group
    ) -> Removed:
        try:
            return self._hide(directory, name, file, group)
        except OSError as error:
            if error.errno != errno.EXDEV or not group.place.is_directory:
                raise
        # In a union of directories the hidden one may be on another disk than the file.
        beside = _Group(HiddenNames.make(directory))
        try:
            return self._hide(directory, name, file, beside)
        finally:
            self._leave(beside, directory)

    def _hide(
        self, directory: int, name: bytes, file: Removal, group: _Group
    ) -> Removed:
        waiting = self._waiting.get(file.path)
        if waiting is not None:
            return Removed(mark=waiting.group.place.mark_of(name))
        place = group.place
        known = self._versions.get(file.identity)
        if known is not None and known.digest != file.digest:
            # Its names were read at different times: this one has to be proven.
            known = None
        fd, leased = self._guard.open_leased(
            directory,
            name,
            file.path,
            file.identity if known is None else known.identity,
            digest=file.digest,
            clock=place.fd if place.is_directory else None,
        )
        try:
            if not lock_alone(fd):
                raise Busy(f"{printable(file.path)}: in use: somebody has it locked")
            try:
                hidden = hide(directory, name, place)
            except FileNotFoundError:
                if not is_there(directory, name):
                    raise
                raise Busy(
                    f"{printable(file.path)}: somebody tidied its hidden directory away"
                ) from None
            try:
                status = os.stat(hidden, dir_fd=place.fd, follow_symlinks=False)
                if not matches_moved(status, file.identity):
                    raise SourceChanged(
                        f"{printable(file.path)}: changed while being removed"
                    )
                if leased and not self._guard.is_unbroken(fd):
                    raise StillOpen(
                        f"{printable(file.path)}: opened while being removed"
                    )
            except (PeerError, OSError) as error:
                raise undo(
                    place.fd, hidden, directory, file.path, error, name
                ) from None
            with self._lock:
                version = self._versions.setdefault(
                    file.identity, _Version(file.digest, b"")
                )
                version.identity = identity_now(status, file.identity)
                version.users += 1
                waiting = _Waiting(group, hidden, version)
                group.users += 1
                self._waiting[file.path] = waiting
            # Another name of the same file would be found locked.
            if not place.is_directory and status.st_nlink == 1:
                if leased:
                    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                waiting.fd, fd = fd, -1
        finally:
            if fd >= 0:
                os.close(fd)
        return Removed(mark=place.mark_of(name))

    def _unlink(self, directory: int, name: bytes, file: Removal) -> None:
        waiting = self._stop_waiting(directory, name, file)
        place = waiting.group.place
        try:
            fd, leased = self._guard.open_leased(
                place.fd,
                waiting.name,
                file.path,
                waiting.version.identity,
                digest=file.digest,
                settled=True,
            )
            try:
                # Where there are no leases, in FUSE and on NFS, a file that is unlinked
                # while it is open is only renamed.
                if leased:
                    os.unlink(waiting.name, dir_fd=place.fd)
            finally:
                os.close(fd)
            if not leased:
                waiting.let_go()
                os.unlink(waiting.name, dir_fd=place.fd)
                # Some answer that they have done it, and have not.
                if is_seen(place.fd, waiting.name):
                    raise not_removed(file.path)
        except (PeerError, OSError) as error:
            if is_there(place.fd, waiting.name):
                if isinstance(error, (FileNotFoundError, NoSuchFile)):
                    error = not_removed(file.path)
                raise undo(
                    place.fd, waiting.name, directory, file.path, error, name
                ) from None
            # It was unlinked, whatever was answered, unless somebody put it back.
            if self._leads_to(directory, name, waiting):
                raise SourceChanged(
                    f"{printable(file.path)}: somebody put it back"
                ) from None
        finally:
            waiting.let_go()
            self._leave(waiting.group, directory)

    def _restore(self, directory: int, name: bytes, file: Removal) -> None:
        waiting = self._stop_waiting(directory, name, file)
        try:
            now = put_back(waiting.group.place.fd, waiting.name, directory, name)
        finally:
            waiting.let_go()
            self._leave(waiting.group, directory)
        if now != name:
            raise SourceChanged(
                f"{printable(file.path)}: another file has this name now;"
                f" kept as {printable(now)}"
            )

    def _stop_waiting(self, directory: int, name: bytes, file: Removal) -> _Waiting:
        with self._lock:
            waiting = self._waiting.pop(file.path, None)
            if waiting is not None:
                waiting.version.users -= 1
                if not waiting.version.users:
                    self._versions.pop(file.identity, None)
        if waiting is None:
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            raise SourceChanged(f"{printable(file.path)}: is not hidden")
        return waiting

    @staticmethod
    def _leads_to(directory: int, name: bytes, waiting: _Waiting) -> bool:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return False
        return matches_moved(status, waiting.version.identity)

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
            group.place.give_up()
            return
        # Not empty if a file could not be put back: then the next listing does it.
        with suppress(OSError):
            group.place.remove(directory)

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
