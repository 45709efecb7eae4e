"""
Moving files inside one file system, by renaming them.

A file keeps its inode and its content, so there is nothing to copy or to compare.
Its data is made durable before it is renamed, the directories on both sides after
that: a crash leaves the file whole, under one of its two names.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from realize.errors import (
    AlreadyExists,
    Busy,
    NoSuchFile,
    OtherFileSystem,
    PeerError,
    SourceChanged,
    SyncFailed,
)
from realize.model import File
from realize.paths import printable
from realize.store.commit import Commits, Entry
from realize.store.identity import Guard, identity_of, matches_moved
from realize.store.partial import partial_name
from realize.store.present import look
from realize.store.root import Root, disk_error
from realize.store.syscalls import UNSUPPORTED, rename_noreplace


class Adoption:
    """
    One batch of files that change from one root to another.

    :param source: the root they are in.
    :param guard: tells whether a file may be taken.
    :param root: the root they go to, at the same path.
    :param commits: makes things durable there.
    :param replace: whether present files may give way.
    """

    def __init__(
        self, source: Root, guard: Guard, root: Root, commits: Commits, replace: bool
    ) -> None:
        self._source = source
        self._guard = guard
        self._root = root
        self._commits = commits
        self._replace = replace

    def take(self, file: File, entry: Entry) -> None:
        """
        Move one file into a directory that exists.  Durable after :meth:`sync`.

        :param entry: for the file; it gets ``how`` and ``version``.
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
                fd = self._guard.open(old, entry.name, file.path, file.identity)
                try:
                    self._move(file, entry, fd, old, new)
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

    def _sync_content(self, file: File, entry: Entry, old: int) -> None:
        fd = self._guard.open(old, entry.name, file.path, file.identity)
        try:
            self._commits.sync(fd, file.path)
        finally:
            os.close(fd)

    def _move(self, file: File, entry: Entry, fd: int, old: int, new: int) -> None:
        status = os.fstat(fd)
        present = look(new, entry.name)
        if present is not None and os.path.samestat(present, status):
            self._remove_other_name(file, entry, old, new)
        else:
            self._rename(entry, old, new, present)
            if not matches_moved(
                os.stat(entry.name, dir_fd=new, follow_symlinks=False), file.identity
            ):
                # Somebody was quicker, and it is another file that we moved.
                rename_noreplace(new, entry.name, old, entry.name)
                raise SourceChanged(f"{printable(file.path)}: changed while moved")
        entry.how = "renamed"
        if stat.S_IMODE(status.st_mode) != entry.mode:
            os.fchmod(fd, entry.mode)
            self._commits.sync(fd, file.path)
        entry.version = identity_of(os.fstat(fd))

    def _rename(
        self, entry: Entry, old: int, new: int, present: os.stat_result | None
    ) -> None:
        if present is not None and not self._replace:
            raise AlreadyExists(
                f"{printable(entry.wanted.path)}: exists, and may not be replaced"
            )
        name = entry.name
        if present is not None:
            os.rename(name, name, src_dir_fd=old, dst_dir_fd=new)
            return
        try:
            rename_noreplace(old, name, new, name)
        except FileExistsError:
            raise Busy(f"{printable(entry.wanted.path)}: somebody made it") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
            os.unlink(name, dir_fd=old)

    def _remove_other_name(self, file: File, entry: Entry, old: int, new: int) -> None:
        """
        Both names lead to one inode: renaming one to the other would do nothing.

        The name at the source first leaves everybody's sight, so that what is
        unlinked is what was looked at.
        """
        aside = partial_name(entry.name)
        try:
            rename_noreplace(old, entry.name, new, aside)
        except FileExistsError:
            raise Busy(f"{printable(aside)}: the file is under construction") from None
        moved = os.stat(aside, dir_fd=new, follow_symlinks=False)
        if not matches_moved(moved, file.identity):
            rename_noreplace(new, aside, old, entry.name)
            raise SourceChanged(f"{printable(file.path)}: changed while moved")
        os.unlink(aside, dir_fd=new)
