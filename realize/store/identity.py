"""
Which version of a file this is, and whether somebody is still writing to it.

A version is told by device, inode, size and times.  The change time counts only for
a file with one link, because removing one of two links changes that of the other.

Whether a file is open for writing is found out with a read lease, which the kernel
grants only while nobody is (``fcntl(2)``, ``F_SETLEASE``).  That needs the owner of
the file or ``CAP_LEASE``, and a local file system.  Elsewhere a file has to have
settled: it must not have changed for a while.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
import time
from collections.abc import Callable
from typing import Final

from realize.errors import (
    BadRequest,
    NotSettled,
    PeerError,
    SourceChanged,
    StillOpen,
)
from realize.paths import printable
from realize.store.root import disk_error
from realize.units import format_duration

#: Device, inode, size, mtime_ns, ctime_ns (0: does not count).
_IDENTITY: Final = struct.Struct("<QQQqq")
_SIZE: Final = struct.Struct("<16xQ16x")
_CHANGED: Final = struct.Struct("<32xq")
_UNCOUNTED: Final = bytes(8)

#: For so many nanoseconds after a change, another one may not show in the times of
#: the file: the kernel's clock for them moves in steps.
STEP_NS: Final = 50_000_000

_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: What the kernel answers where leases cannot be had.
_NO_LEASES: Final = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EINVAL,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
    }
)

#: What opening a name says when it leads to something that is no file (any more).
_REPLACED: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV})


def ignore_lease_signals() -> None:
    """
    Ignore SIGIO, by which the kernel tells that a lease is wanted back.

    Without this it kills the process.  Call it once, in the main thread, before the
    first store is opened.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def identity_of(status: os.stat_result) -> bytes:
    """
    The identity of a file of this status.
    """
    return _IDENTITY.pack(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns if status.st_nlink == 1 else 0,
    )


def matches(status: os.stat_result, identity: bytes) -> bool:
    """
    Whether a file of this status is still the version of *identity*.

    A file that had other links when it was identified may have lost them since.
    """
    now = _IDENTITY.pack(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    return now == identity or (
        identity[32:] == _UNCOUNTED and now[:32] == identity[:32]
    )


def matches_moved(status: os.stat_result, identity: bytes) -> bool:
    """
    The same for a file that was just renamed, which changes its change time.
    """
    now = _IDENTITY.pack(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, 0
    )
    return now[:32] == identity[:32]


def size_of(identity: bytes) -> int:
    """
    Bytes in the file that *identity* was taken of.

    :raises BadRequest: it is not an identity.
    """
    if len(identity) != _IDENTITY.size:
        raise BadRequest("not an identity of this store")
    size: int = _SIZE.unpack(identity)[0]
    return size


class TooFresh(Exception):
    """
    The file changed so recently that another change might not be noticed.

    :ivar wait_ns: nanoseconds after which it would.
    """

    def __init__(self, wait_ns: int) -> None:
        super().__init__(wait_ns)
        self.wait_ns = wait_ns


class Guard:
    """
    Opens files only if they are the version asked for and nobody writes to them.

    :param settle_ns: nanoseconds for which a file must not have changed where no
        lease can be had.
    :param no_leases: called, with the reason, for each file without one; in a thread.
    :param now_ns: the time, in nanoseconds since 1970.
    """

    def __init__(
        self,
        settle_ns: int,
        no_leases: Callable[[str], object],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settle_ns = settle_ns
        self._no_leases = no_leases
        self._now_ns = now_ns

    def open(
        self,
        directory: int,
        name: bytes,
        path: bytes,
        identity: bytes,
        *,
        fresh: bool = True,
    ) -> int:
        """
        Open a file for reading.

        :param directory: descriptor of the directory that holds *name*.
        :param path: for messages.
        :param fresh: whether it may have changed in the last :data:`STEP_NS`.
        :returns: a descriptor that the caller closes.
        :raises NoSuchFile: the name is free.
        :raises SourceChanged: it is another version, or no regular file.
        :raises StillOpen: somebody has it open for writing.
        :raises NotSettled: that cannot be found out, and it changed recently.
        :raises TooFresh: unless *fresh*.
        :raises DiskError: it cannot be opened.
        """
        fd, leased = self.open_leased(directory, name, path, identity, fresh=fresh)
        if leased:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return fd

    def open_leased(
        self,
        directory: int,
        name: bytes,
        path: bytes,
        identity: bytes,
        *,
        fresh: bool = True,
        settled: bool = False,
    ) -> tuple[int, bool]:
        """
        The same, and keep the lease until the descriptor is closed.

        Whoever opens the file for writing waits until then, so be quick.

        :param settled: whether it is known to have settled, however young it looks.
        :returns: the descriptor, and whether there is a lease.
        """
        try:
            fd = os.open(name, _OPEN_FILE, dir_fd=directory)
        except OSError as error:
            raise self._not_opened(error, path) from None
        try:
            leased = self._lease(fd, path)
            status = os.fstat(fd)
            self._check_version(status, path, identity)
            if not leased and not settled:
                self._check_settled(status, path)
            if not fresh:
                self._check_fresh(status)
        except BaseException:
            os.close(fd)
            raise
        return fd, leased

    def is_unbroken(self, fd: int) -> bool:
        """
        Whether nobody has asked for the file of a lease since it was taken.
        """
        return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK

    def _lease(self, fd: int, path: bytes) -> bool:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            raise StillOpen(f"{printable(path)}: open for writing") from None
        except OSError as error:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self._no_file(path) from None
            if error.errno not in _NO_LEASES:
                raise disk_error(error, path, "take a lease") from None
            self._no_leases(os.strerror(error.errno))
            return False
        return True

    def _check_version(
        self, status: os.stat_result, path: bytes, identity: bytes
    ) -> None:
        if not matches(status, identity):
            size_of(identity)
            raise SourceChanged(f"{printable(path)}: changed since it was listed")

    def _check_fresh(self, status: os.stat_result) -> None:
        wait_ns = status.st_ctime_ns + STEP_NS - self._now_ns()
        if wait_ns > 0:
            raise TooFresh(min(wait_ns, STEP_NS))

    def _check_settled(self, status: os.stat_result, path: bytes) -> None:
        now = self._now_ns()
        # A time of modification in the future was set by hand: then the change time
        # tells when.  With several links it tells of the other links too.
        times = [status.st_mtime_ns] if status.st_mtime_ns <= now else []
        if status.st_nlink == 1 or not times:
            times.append(status.st_ctime_ns)
        age = now - max(times)
        if age < self._settle_ns:
            ago = format_duration(max(age, 0) / 1e9)
            raise NotSettled(f"{printable(path)}: changed {ago} ago")

    def _not_opened(self, error: OSError, path: bytes) -> PeerError:
        if error.errno == errno.EAGAIN:
            # Somebody holds a lease for writing, and now knows that we came by.
            return StillOpen(f"{printable(path)}: open for writing")
        if error.errno in _REPLACED:
            return self._no_file(path)
        return disk_error(error, path, "open")

    @staticmethod
    def _no_file(path: bytes) -> SourceChanged:
        return SourceChanged(f"{printable(path)}: no regular file any more")
