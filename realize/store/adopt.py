"""
Moving files inside one file system, by renaming them.

A file keeps its inode and its content, so there is nothing to copy or to compare.
Its data is made durable before it is renamed, the directories on both sides after
that: a crash leaves the file whole, under one of its two names, or hidden beside the
old one (:mod:`realize.store.hidden`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from realize.conflicts import Conflicts
from realize.errors import (
    Busy,
    NoSuchFile,
    OtherFileSystem,
    PeerError,
    SourceChanged,
    SyncFailed,
)
from realize.model import File
from realize.paths import printable
from realize.store.attributes import attempt, not_kept
from realize.store.commit import Commits, Entry
from realize.store.filesystem import FileSystem
from realize.store.guard import Guard
from realize.store.hidden import CANNOT_HIDE, HiddenDirectory, put_back, undo
from realize.store.identity import version_of
from realize.store.names import find, unlink
from realize.store.present import look
from realize.store.root import Root, disk_error
from realize.store.spelling import Shown
from realize.store.syscalls import NO_LINKS, UNSUPPORTED, rename_noreplace


class Adoption:
    """
    One batch of files that change from one root to another.

    :param source: the root they are in.
    :param guard: tells whether a file may be taken.
    :param root: the root they go to, at the same path.
    :param commits: makes things durable there.
    :param conflicts: what is done about present files.
    """

    def __init__(
        self,
        source: Root,
        guard: Guard,
        root: Root,
        commits: Commits,
        conflicts: Conflicts,
    ) -> None:
        self._source = source
        self._guard = guard
        self._root = root
        self._commits = commits
        self._conflicts = conflicts
        #: By path of a directory: where two names may be one, what it shows.
        self._filesystems: dict[bytes, FileSystem] = {}
        self._shown: dict[bytes, Shown] = {}

    def take(self, file: File, entry: Entry) -> bool:
        """
        Move one file into a directory that exists.  Durable after :meth:`sync`.

        :param entry: for the file; it gets ``how`` and ``version``.
        :returns: False if another file has the name, so that it has to be compared with
            that, and copied if they differ; nothing was done.
        :raises OtherFileSystem: it cannot be renamed to there; nothing was done.
        :raises PeerError: it may not be moved, or not now.
        """
        try:
            with (
                self._source.directory(entry.directory) as old,
                self._root.directory(entry.directory) as new,
            ):
                if os.fstat(old).st_dev != os.fstat(new).st_dev:
                    raise OtherFileSystem(f"{printable(file.path)}: would be copied")
                self._sync_content(file, entry, old)
                fd = self._guard.open_to_rename(
                    old, entry.name, file.path, file.identity
                )
                try:
                    return self._move(file, entry, fd, old, new)
                finally:
                    os.close(fd)
        except OSError as error:
            if error.errno == errno.EXDEV:
                # The same file system, but mounted twice.
                raise OtherFileSystem(
                    f"{printable(file.path)}: would be copied"
                ) from None
            raise disk_error(error, file.path, "move") from None

    def sync(self, entries: Iterable[Entry]) -> None:
        """
        Make the names of a batch durable; an entry whose names are not gets an error.
        """
        entries = list(entries)
        self._check_spelling(entries)
        moved = [each for each in entries if each.error is None]
        self._commits.sync_names(moved)
        for directory in {entry.directory: None for entry in moved}:
            try:
                with self._source.directory(directory) as fd:
                    os.fsync(fd)
            except NoSuchFile:
                continue  # Emptied, it has been removed since.
            except PeerError as error:
                failed = error
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                failed = SyncFailed(
                    f"{printable(directory) or 'the root'}: not durable: {reason}"
                )
            else:
                continue
            for entry in moved:
                if entry.directory == directory:
                    entry.error = entry.error or failed

    def _check_spelling(self, entries: list[Entry]) -> None:
        """
        Files that the directory shows under another name than their own go back.
        """
        for directory, known in self._filesystems.items():
            moved = [
                entry
                for entry in entries
                if entry.directory == directory and entry.error is None
            ]
            if not known.folds or not moved:
                continue
            try:
                with (
                    self._source.directory(directory) as old,
                    self._root.directory(directory) as new,
                ):
                    self._check_names(moved, old, new)
            except PeerError as error:
                for entry in moved:
                    entry.error = entry.error or error

    @staticmethod
    def _check_names(entries: list[Entry], old: int, new: int) -> None:
        shown = Shown(new)
        for entry in entries:
            path = entry.wanted.path
            try:
                shown.check(entry.name, path)
            except (PeerError, OSError) as error:
                entry.error = undo(new, entry.name, old, path, error)

    def _sync_content(self, file: File, entry: Entry, old: int) -> None:
        fd = self._guard.open_to_rename(old, entry.name, file.path, file.identity)
        try:
            self._commits.sync(fd, file.path)
        finally:
            os.close(fd)

    def _move(self, file: File, entry: Entry, fd: int, old: int, new: int) -> bool:
        status = os.fstat(fd)
        present = self._look(file, entry, new)
        if present is None:
            self._take_free_name(file, entry, fd, old, new)
        elif os.path.samestat(present, status) and not self._believed(entry, new):
            # It may be another file all the same: only its content tells.
            raise OtherFileSystem(f"{printable(file.path)}: would be compared")
        elif self._conflicts.replaces or os.path.samestat(present, status):
            self._take_name(file, entry, fd, old, new)
            entry.gave_way = not os.path.samestat(present, status)
        elif self._conflicts.refuses and present.st_size != status.st_size:
            raise self._conflicts.error(file.path)
        else:
            return False
        entry.how = "renamed"
        if stat.S_IMODE(status.st_mode) != entry.mode:
            attempt(lambda: os.fchmod(fd, entry.mode))
            self._commits.sync(fd, file.path)
        found = find(new, entry.name, fd)
        if found is None:
            raise NoSuchFile(
                f"{printable(file.path)}: was moved, but its name leads to another file"
            )
        entry.not_kept = not_kept(found.status, entry.mode, file.mtime_ns)
        entry.version = version_of(found.status)
        return True

    def _look(self, file: File, entry: Entry, new: int) -> os.stat_result | None:
        """
        The file that has the name there, spelt in just this way.
        """
        present = look(new, entry.name)
        if present is not None and self._filesystem(entry, new).folds:
            shown = self._shown.setdefault(entry.directory, Shown(new))
            shown.directory = new
            shown.check(entry.name, file.path)
        return present

    def _believed(self, entry: Entry, new: int) -> bool:
        """
        Whether inode numbers are.
        """
        return self._filesystem(entry, new).inodes

    def _filesystem(self, entry: Entry, new: int) -> FileSystem:
        known = self._filesystems.get(entry.directory)
        if known is None:
            known = self._filesystems[entry.directory] = self._root.filesystem(new)
        return known

    def _take_free_name(
        self, file: File, entry: Entry, fd: int, old: int, new: int
    ) -> None:
        name = entry.name
        try:
            rename_noreplace(old, name, new, name)
        except FileExistsError:
            raise Busy(f"{printable(file.path)}: somebody made it") from None
        except OSError as error:
            # Over a network it may have been done although the answer says otherwise.
            if find(new, name, fd) is None:
                if error.errno not in UNSUPPORTED:
                    raise
                self._take_without_renameat2(file, entry, fd, old, new)
        found = find(new, name, fd)
        if found is None or not found.certain:
            # Somebody was quicker, and it is another file that we moved.
            put_back(new, name, old)
            self._guard.put_back(fd, file.identity)
            raise self._another(file, entry, new)

    def _take_without_renameat2(
        self, file: File, entry: Entry, fd: int, old: int, new: int
    ) -> None:
        name = entry.name
        if self._conflicts.replaces or not self._conflicts.strict:
            # Where anything may give way, so may what is put there just now.
            os.rename(name, name, src_dir_fd=old, dst_dir_fd=new)
            return
        if not self._believed(entry, new):
            # There a link may look like another file than the one that it is of.
            raise OtherFileSystem(f"{printable(file.path)}: would be copied")
        try:
            os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        except FileExistsError:
            raise Busy(f"{printable(file.path)}: somebody made it") from None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            raise OtherFileSystem(f"{printable(file.path)}: would be copied") from None
        unlink(old, name, fd)

    def _another(self, file: File, entry: Entry, new: int) -> PeerError:
        """
        What to say if the file that was moved does not look like the one that is open.
        """
        if self._believed(entry, new):
            return SourceChanged(f"{printable(file.path)}: changed while moved")
        # That may be for ever so, here: then it is moved in another way.
        return OtherFileSystem(f"{printable(file.path)}: would be copied")

    def _take_name(self, file: File, entry: Entry, fd: int, old: int, new: int) -> None:
        """
        Move a file to a name that is taken, by another file or by itself.

        Nothing gives way before it is known to be the right file: it first leaves
        everybody's sight, and is looked at there.  A crash leaves it to be put back.
        """
        name = entry.name
        try:
            hidden = HiddenDirectory.make(old)
        except OSError as error:
            if error.errno not in CANNOT_HIDE:
                raise
            raise OtherFileSystem(
                f"{printable(file.path)}: cannot be hidden; would be copied"
            ) from None
        try:
            hidden.take(old, name)
            try:
                found = find(hidden.fd, name, fd)
                if found is None or not found.certain:
                    raise self._another(file, entry, new)
                present = self._look(file, entry, new)
                if present is not None and os.path.samestat(present, found.status):
                    if not self._believed(entry, new):
                        raise self._another(file, entry, new)
                    # Renaming one name of a file to another would do nothing.
                    os.unlink(name, dir_fd=hidden.fd)
                elif self._conflicts.replaces:
                    os.rename(name, name, src_dir_fd=hidden.fd, dst_dir_fd=new)
                else:
                    raise Busy(f"{printable(file.path)}: somebody changed it there")
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise undo(hidden.fd, name, old, file.path, error) from None
                put_back(hidden.fd, name, old)
                self._guard.put_back(fd, file.identity)
                raise
            except OtherFileSystem as error:
                undone = undo(hidden.fd, name, old, file.path, error)
                self._guard.put_back(fd, file.identity)
                raise undone from None
            except PeerError as error:
                raise undo(hidden.fd, name, old, file.path, error) from None
        finally:
            # Not empty if it could not be put back: then the next listing does it.
            with suppress(OSError):
                hidden.remove(old)
