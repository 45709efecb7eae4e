"""
Files that give way and are kept: they go to a directory, with the date in their name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from realize.errors import AlreadyExists, DiskError, PeerError
from realize.model import Finish
from realize.paths import join, parent_of, printable
from realize.store.commit import Commits, Entry
from realize.store.numbered import MOST, marked, numbered
from realize.store.root import Root, disk_error
from realize.store.syscalls import NO_LINKS, UNSUPPORTED, rename_noreplace

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Older:
    """
    Keeps the older files of one destination.

    :param commits: makes them durable.
    :param make_directory: makes sure that a directory is there, by its path.
    :param directory: path of the one that they go to, each below it to where it was.
    :param seconds: the time, since 1970.
    """

    def __init__(
        self,
        root: Root,
        commits: Commits,
        make_directory: Callable[[bytes], None],
        directory: bytes,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._commits = commits
        self._make_directory = make_directory
        self._directory = directory
        self._seconds = seconds

    def keep(self, directory: int, name: bytes, path: bytes) -> bytes:
        """
        Take a file's name away; it is durable, under another one, when this returns.

        If it cannot be made durable it gets its name back.

        :param directory: descriptor of where it is.
        :param path: of the file.
        :returns: its new path.
        :raises PeerError: it could not be kept.
        :raises OSError: the same.
        """
        parent = parent_of(path)
        goes = join(self._directory, parent) if parent else self._directory
        self._root.path(goes)
        self._make_directory(goes)
        fd = os.open(name, _READ, dir_fd=directory)
        try:
            self._commits.sync(fd, path)
        finally:
            os.close(fd)
        with self._root.directory(goes) as there:
            kept = self._rename(directory, name, there, path)
            entry = Entry(Finish(path, 0, b"", 0, 0), goes, kept, 0)
            self._commits.sync_names([entry])
            if entry.error is not None:
                rename_noreplace(there, kept, directory, name)
                raise entry.error
        return join(goes, kept)

    def _rename(self, directory: int, name: bytes, there: int, path: bytes) -> bytes:
        date = time.strftime("(%Y-%m-%d %H.%M.%S)", time.gmtime(self._seconds()))
        known = self._root.filesystem(there)
        dated = marked(name, date.encode("ascii"), known)
        for number in range(MOST + 1):
            kept = numbered(dated, number, known)
            try:
                _take(directory, name, there, kept)
            except FileExistsError:
                continue
            except OSError as error:
                raise self._failed(error, path) from None
            return kept
        raise AlreadyExists(f"{printable(path)}: no name is free for the older file")

    def _failed(self, error: OSError, path: bytes) -> PeerError:
        if error.errno in UNSUPPORTED or error.errno in NO_LINKS:
            return DiskError(
                f"{printable(path)}: this file system cannot give the older file a name"
                f" without taking it from another: {os.strerror(error.errno or 0)}"
            )
        return disk_error(error, path, "put the older file away")


def _take(directory: int, name: bytes, there: int, kept: bytes) -> None:
    try:
        rename_noreplace(directory, name, there, kept)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        os.link(name, kept, src_dir_fd=directory, dst_dir_fd=there)
        os.unlink(name, dir_fd=directory)
