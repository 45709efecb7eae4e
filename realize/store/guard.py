"""
The guard, which opens a source file only if it is the version asked for and nobody is
still writing to it.

Whether a file is open for writing is found out with a read lease, which the kernel
grants only while nobody is (``fcntl(2)``, ``F_SETLEASE``).  That needs the owner of
the file or ``CAP_LEASE``, and a file system whose leases are believed
(:mod:`realize.store.filesystem`).  Elsewhere a file has to have settled: it must not
have changed for a while.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from realize.digest import is_sparse, new_hasher
from realize.errors import NotSettled, PeerError, SourceChanged, StillOpen
from realize.model import last_change
from realize.paths import printable
from realize.store.filesystem import FileSystem
from realize.store.identity import (
    changed_of,
    differs_by_links,
    identity_now,
    matches,
    matches_moved,
    size_of,
)
from realize.store.mapped import mapped_elsewhere, writeback_ns
from realize.store.root import disk_error
from realize.store.sparse import digest_file
from realize.store.syscalls import refresh_attributes
from realize.store.writers import Writers
from realize.units import format_duration

#: Largest file, in bytes, of which it is looked before it is read whether it is mapped.
MAPPED_AT_ONCE: Final = 16 * 1024 * 1024

#: Files of which it is remembered that they were renamed there and back.
_MAX_RENAMED: Final = 16384

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


def _go_on() -> None:
    """Nothing ends, or holds up, what takes long."""


class TooFresh(Exception):
    """
    The file changed so recently that another change might not be noticed.

    :ivar wait_ns: nanoseconds after which it would.
    """

    def __init__(self, wait_ns: int) -> None:
        super().__init__(wait_ns)
        self.wait_ns = wait_ns


def _look(_device: int, fd: int) -> FileSystem:
    return FileSystem.of(fd)


class Guard:
    """
    Opens files only if they are the version asked for and nobody writes to them.

    :param settle_ns: nanoseconds for which a file must not have changed where no
        lease can be had, or none believed; 0 if nothing is to be waited for.
    :param no_leases: called, with the reason, for each file without one; in a thread.
    :param now_ns: the time, in nanoseconds since 1970.
    :param filesystem_of: as :meth:`realize.store.root.Root.filesystem_of`.
    :param pause: called every few milliseconds of what may take long; what it raises
        ends that.
    """

    def __init__(
        self,
        settle_ns: int,
        no_leases: Callable[[str], object],
        now_ns: Callable[[], int] = time.time_ns,
        filesystem_of: Callable[[int, int], FileSystem] = _look,
        pause: Callable[[], object] = _go_on,
    ) -> None:
        self._pause = pause
        self.settle_ns = settle_ns
        self._no_leases = no_leases
        self._now_ns = now_ns
        self._filesystem_of = filesystem_of
        self._writers = Writers()
        #: By identity, the one that a file has since it was renamed there and back.
        self._renamed: OrderedDict[bytes, bytes] = OrderedDict()

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
        Open a file for reading.  It is the version asked for, or other links of it were
        renamed or removed since: then :meth:`open_version` tells what to compare it
        with.

        :param directory: descriptor of the directory that holds *name*.
        :param path: for messages.
        :param fresh: whether it may have changed so recently that another change might
            not be noticed.
        :returns: a descriptor that the caller closes.
        :raises NoSuchFile: the name is free.
        :raises SourceChanged: it is another version, or no regular file.
        :raises StillOpen: somebody has it open for writing.
        :raises NotSettled: that cannot be found out, and it changed recently.
        :raises TooFresh: unless *fresh*.
        :raises DiskError: it cannot be opened.
        """
        return self.open_version(directory, name, path, identity, fresh=fresh)[0]

    def open_to_rename(
        self, directory: int, name: bytes, path: bytes, identity: bytes
    ) -> int:
        """
        The same, for a file that is not to be read but renamed.

        That loses nothing of a writer, who goes on writing to it.  So where no lease
        tells, the time of modification says whether it is complete: the change time
        may be that of a rename, or of permissions that were set.
        """
        fd, leased, status, _same = self._open(
            directory, name, path, identity, fresh=True, settled=True, removing=False
        )
        try:
            if leased:
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            elif self.settle_ns:
                now = self._now_ns()
                modified = status.st_mtime_ns
                changed = modified if modified <= now else status.st_ctime_ns
                self._check_age(now - changed, path, self.settle_ns)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open_version(
        self,
        directory: int,
        name: bytes,
        path: bytes,
        identity: bytes,
        *,
        fresh: bool = True,
    ) -> tuple[int, bytes]:
        """
        The same.

        :returns: the descriptor, and the identity that the file has now, if other links
            changed it, or *identity* itself.
        """
        fd, leased, status, same = self._open(
            directory, name, path, identity, fresh, settled=False, removing=False
        )
        if leased:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return fd, identity if same else identity_now(status, identity)

    def open_leased(
        self,
        directory: int,
        name: bytes,
        path: bytes,
        identity: bytes,
        *,
        digest: bytes = b"",
        clock: int | None = None,
        settled: bool = False,
    ) -> tuple[int, bool]:
        """
        The same, for a file that is to be removed, and keep the lease until the
        descriptor is closed.

        Whoever opens the file for writing waits until then, so be quick.

        :param digest: of the version: decides where the change time cannot.
        :param clock: descriptor of something that was made there just now: its time is
            that of the clock by which the file's times were set, perhaps a server's.
        :param settled: whether it was looked at before and is hidden since: how young
            it looks does not matter, nor whether changes would show.
        :returns: the descriptor, and whether there is a lease.
        """
        fd, leased, status, same = self._open(
            directory,
            name,
            path,
            identity,
            fresh=True,
            settled=settled,
            removing=True,
            clock=clock,
        )
        try:
            if not same or not (settled or self._shows_changes(fd, status)):
                # Once it is hidden, what was begun is brought to its end.
                pause = _go_on if settled else self._pause
                self._prove(fd, path, status, identity, digest, pause)
        except BaseException:
            os.close(fd)
            raise
        return fd, leased

    def _open(
        self,
        directory: int,
        name: bytes,
        path: bytes,
        identity: bytes,
        fresh: bool,
        settled: bool,
        removing: bool,
        clock: int | None = None,
    ) -> tuple[int, bool, os.stat_result, bool]:
        """
        :returns: the descriptor, whether there is a lease, the status, and whether it
            is that of *identity*; else other links of it have changed, or it was put
            back.
        """
        try:
            fd = os.open(name, _OPEN_FILE, dir_fd=directory)
        except OSError as error:
            raise self._not_opened(error, path) from None
        try:
            refusal = self._lease(fd, path)
            status = os.fstat(fd)
            known = self._filesystem_of(status.st_dev, fd)
            if known.cached:
                refresh_attributes(fd)
                status = os.fstat(fd)
            leased = self._believe(fd, path, refusal, known)
            same = self._check_version(status, path, identity)
            if not leased:
                now = self._now(known, clock)
                self._check_unused(fd, status, path, identity, settled, removing, now)
            if not fresh:
                self._check_fresh(status, known)
        except BaseException:
            os.close(fd)
            raise
        return fd, leased, status, same

    def put_back(self, fd: int, identity: bytes) -> None:
        """
        A file of this version was renamed by us, and is under its name again.

        That has moved its change time, and nothing else: it is the same version still,
        and as settled as it was.

        :param fd: of the file.
        """
        with suppress(OSError):
            # A link may have been in between, and may be remembered.
            refresh_attributes(fd)
            status = os.fstat(fd)
            if matches_moved(status, identity):
                self._renamed[identity] = identity_now(status, identity)
        if len(self._renamed) > _MAX_RENAMED:
            self._renamed.popitem(last=False)

    def is_unbroken(self, fd: int) -> bool:
        """
        Whether nobody has asked for the file of a lease since it was taken.
        """
        return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK

    def _lease(self, fd: int, path: bytes) -> int:
        """
        :returns: 0, or by what error the lease was refused.
        """
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self._no_file(path) from None
            if error.errno != errno.EAGAIN and error.errno not in _NO_LEASES:
                raise disk_error(error, path, "take a lease") from None
            return error.errno
        return 0

    def _believe(self, fd: int, path: bytes, refusal: int, known: FileSystem) -> bool:
        """
        :param refusal: as of :meth:`_lease`.
        :returns: whether nobody writes to it, and a lease tells when that changes.
        """
        if known.leases and not refusal:
            return True
        if refusal == errno.EAGAIN and not known.remote:
            raise StillOpen(f"{printable(path)}: open for writing")
        if not refusal:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        self._no_leases(
            os.strerror(refusal)
            if known.leases
            else f"on {known.kind} they do not tell of all who write"
        )
        return False

    def _check_version(
        self, status: os.stat_result, path: bytes, identity: bytes
    ) -> bool:
        """
        :returns: False if it is another because other links of it have changed, or it
            was put back.
        """
        if matches(status, identity):
            return True
        size_of(identity)
        if differs_by_links(status, identity) or self._was_put_back(status, identity):
            return False
        raise self._changed(path)

    def _was_put_back(self, status: os.stat_result, identity: bytes) -> bool:
        renamed = self._renamed.get(identity)
        return renamed is not None and matches(status, renamed)

    def _shows_changes(self, fd: int, status: os.stat_result) -> bool:
        """
        Whether its times tell of every change.  They do not where the change time only
        follows that of modification, which anybody can set back.
        """
        known = self._filesystem_of(status.st_dev, fd)
        return known.ctime or status.st_ctime_ns != status.st_mtime_ns

    def _prove(
        self,
        fd: int,
        path: bytes,
        status: os.stat_result,
        identity: bytes,
        digest: bytes,
        pause: Callable[[], object],
    ) -> None:
        """
        :raises SourceChanged: it has not this content, or is changing.
        """
        if not digest:
            raise self._changed(path)
        if not self._filesystem_of(status.st_dev, fd).leases:
            # What is remembered of it may be older than what is there.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        hasher = new_hasher(is_sparse(digest))
        digest_file(hasher, fd, 0, status.st_size, pause)
        now = identity_now(status, identity)
        if hasher.digest() != digest or not matches(os.fstat(fd), now):
            raise self._changed(path)

    def _check_fresh(self, status: os.stat_result, known: FileSystem) -> None:
        settling_ns = known.settling_ns(status.st_ctime_ns)
        wait_ns = status.st_ctime_ns + settling_ns - self._now_ns()
        if wait_ns > 0:
            raise TooFresh(min(wait_ns, settling_ns))

    def _check_unused(
        self,
        fd: int,
        status: os.stat_result,
        path: bytes,
        identity: bytes,
        settled: bool,
        removing: bool,
        now: int,
    ) -> None:
        """
        Whether nobody seems to write to a file of which no lease tells.

        A large file is looked at for mappings only before it is removed: that may read
        it.
        """
        mapped: bool | None = False
        if removing or status.st_size <= MAPPED_AT_ONCE:
            mapped = mapped_elsewhere(fd, status.st_size)
        if mapped:
            raise StillOpen(f"{printable(path)}: mapped by another process")
        if self._writers.have(status):
            raise StillOpen(f"{printable(path)}: open for writing")
        if self.settle_ns and not settled:
            unseen_ns = writeback_ns() if mapped is None else 0
            settle_ns = max(self.settle_ns, unseen_ns)
            changed_ns = status.st_ctime_ns
            if self._was_put_back(status, identity):
                changed_ns = changed_of(identity)
            age = now - last_change(status.st_mtime_ns, changed_ns, now)
            self._check_age(age, path, settle_ns)

    def _now(self, known: FileSystem, clock: int | None) -> int:
        """
        Our time, or that by which the file system sets times if that is earlier.
        """
        now = self._now_ns()
        if clock is None or known.leases:
            return now
        return min(now, os.fstat(clock).st_mtime_ns)

    @staticmethod
    def _check_age(age: int, path: bytes, settle_ns: int) -> None:
        if age < 0:
            ahead = format_duration(-age / 1e9)
            raise NotSettled(f"{printable(path)}: changed {ahead} in the future")
        if age < settle_ns:
            ago = format_duration(age / 1e9)
            raise NotSettled(f"{printable(path)}: changed {ago} ago")

    def _not_opened(self, error: OSError, path: bytes) -> PeerError:
        if error.errno == errno.EAGAIN:
            # Somebody holds a lease for writing, and now knows that we came by.
            return StillOpen(f"{printable(path)}: open for writing")
        if error.errno in _REPLACED:
            return self._no_file(path)
        return disk_error(error, path, "open")

    @staticmethod
    def _changed(path: bytes) -> SourceChanged:
        return SourceChanged(f"{printable(path)}: changed since it was listed")

    @staticmethod
    def _no_file(path: bytes) -> SourceChanged:
        return SourceChanged(f"{printable(path)}: no regular file any more")
