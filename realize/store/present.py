"""
Files that the destination has already.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from realize.digest import is_sparse, new_hasher
from realize.errors import DigestMismatch, NameTaken, PeerError
from realize.model import Held, carried
from realize.paths import printable
from realize.store.guesses import Guesses, Unlimited
from realize.store.identity import identity_of, is_version, version_of
from realize.store.root import disk_error
from realize.store.sparse import allocated, digest_file

_UNLIMITED: Final = Unlimited()

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


#: What opening or reading says of a file whose content cannot be had.
_UNREADABLE: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EIO, errno.EBADMSG, errno.EUCLEAN}
)


def look(directory: int, name: bytes) -> os.stat_result | None:
    """
    Status of the file of this *name*; None if the name is free.

    :param directory: descriptor.
    :raises NameTaken: something that is no regular file has the name.
    :raises OSError: it could not be looked at.
    """
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise NameTaken(f"{printable(name)}: something that is no file has this name")
    return status


def held(present: os.stat_result | None, partial: int = 0) -> Held:
    """
    What to answer about a file of this status, and so many bytes of a partial.
    """
    if present is None:
        return Held(partial)
    modified = carried(present.st_mtime_ns)
    return Held(partial, present.st_size, version_of(present), modified)


@contextmanager
def open_present(directory: int, name: bytes, version: bytes) -> Iterator[int]:
    """
    The present file, open, if it is this version, and still is when the block ends.

    :param directory: descriptor.
    :param version: as in :attr:`~realize.model.Held.version`.
    :raises NoSuchFile: there is none.
    :raises NameTaken: something that is no regular file has the name.
    :raises DigestMismatch: it is another version, or somebody is changing it.
    :raises DiskError: it could not be opened or read.
    """
    changed = f"{printable(name)}: the present file is another by now"
    try:
        look(directory, name)
        fd = os.open(name, _READ, dir_fd=directory)
    except OSError as error:
        raise disk_error(error, name, "open") from None
    try:
        if not is_version(os.fstat(fd), version):
            raise DigestMismatch(changed)
        yield fd
        if not is_version(os.fstat(fd), version):
            raise DigestMismatch(changed)
    except OSError as error:
        raise disk_error(error, name, "read") from None
    finally:
        os.close(fd)


def unreadable(error: OSError, path: bytes) -> PeerError | None:
    """
    What to say if a present file cannot be read: like one that differs it may be
    replaced.  None if that is not what an error means.
    """
    if error.errno not in _UNREADABLE:
        return None
    reason = os.strerror(error.errno)
    return DigestMismatch(
        f"{printable(path)}: the present file cannot be read: {reason}"
    )


@contextmanager
def proven(
    directory: int,
    name: bytes,
    size: int,
    digest: bytes,
    sync: Callable[[int], object] = os.fdatasync,
    guesses: Guesses = _UNLIMITED,
    pause: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, os.stat_result]]:
    """
    The present file, open, and its status, if it has this content.

    Reads all of it; one of another size is not read.

    :param directory: descriptor.
    :param sync: makes a file with holes durable before the file system is asked where
        they are: some have taken for a hole what was not yet on the disk.
    :param guesses: of the one who asks.
    :param pause: called every few milliseconds; what it raises ends this.
    :raises NameTaken: something that is no regular file has the name.
    :raises DigestMismatch: it is another file, or somebody is changing it.
    :raises OSError: it could not be read; ``FileNotFoundError`` if there is none.
    """
    look(directory, name)
    fd = os.open(name, _READ, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if status.st_size != size:
            raise DigestMismatch(
                f"{printable(name)}: the present file has {status.st_size} bytes,"
                f" not {size}"
            )
        version = version_of(status)
        guesses.check(version)
        if allocated(status) < size:
            sync(fd)
        hasher = new_hasher(is_sparse(digest))
        digest_file(hasher, fd, 0, size, pause)
        if hasher.digest() != digest:
            guesses.wrong(version)
            raise DigestMismatch(f"{printable(name)}: the present file differs")
        if identity_of(os.fstat(fd)) != identity_of(status):
            raise DigestMismatch(f"{printable(name)}: the present file is changing")
        yield fd, status
    finally:
        os.close(fd)
