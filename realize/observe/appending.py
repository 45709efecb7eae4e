"""
A file that several programs append to, that may be rotated away, and that may be no
file at all but a pipe or a device.

What was begun and not ended, since a disk was full or a host crashed, is ended with
:data:`CANCELLED` before anything else is put behind it: a torn line never joins the
next, and can be told from a damaged one.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import define, field

#: How a line ends that was never finished: ASCII's CANCEL, and a line feed.
CANCELLED: Final = b"\x18\n"

#: Seconds between looks at a lock that somebody else has.
_PAUSE: Final = 0.01

#: Seconds that are waited for at most after a wait was in vain, for as long as that
#: had taken: not everybody waits for the same stuck reader, one after the other.
_HURRY: Final = 0.05

#: Errors of file systems that have no locks.
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@define
class AppendedFile:
    """
    Appends whole lines to a file; may be used from several threads.

    :ivar path: of the file, made readable by its owner and group.
    :ivar patience: seconds that a write waits, at most, for a pipe that nobody reads or
        a lock that somebody else keeps.
    :ivar shared: whether others append to it, and rotate it without telling us.  They
        are kept from writing meanwhile; and where the name no longer leads to what is
        open, it goes on in the file of that name, and makes it if there is none.
    :raises OSError: it cannot be opened; also for a pipe that nobody reads.
    """

    path: str
    patience: float
    shared: bool = True
    _lock: threading.Lock = field(init=False, factory=threading.Lock)
    _fd: int = field(init=False)
    _plain: bool = field(init=False)
    _torn: bool = field(init=False, default=False)
    _hurried_until: float = field(init=False, default=-math.inf)

    def __attrs_post_init__(self) -> None:
        self.path = os.path.abspath(self.path)
        self._fd, self._plain = _open(self.path)

    def append(self, lines: bytes, sync: bool = False) -> None:
        """
        Put whole lines at the end.  Blocks.

        :param sync: make them durable, too.
        :raises OSError: they are not in the file, or only in part.
        """
        with self._lock:
            now = time.monotonic()
            hurried = now < self._hurried_until
            patience = min(self.patience, _HURRY) if hurried else self.patience
            try:
                self._append(lines, now + patience)
            except BlockingIOError:
                self._hurried_until = time.monotonic() + self.patience
                raise
            if sync:
                self._sync()

    def _append(self, lines: bytes, deadline: float) -> None:
        with self._alone(deadline):
            if self._torn or (self._plain and not _ends_whole(self._fd)):
                lines = CANCELLED + lines
            self._write(memoryview(lines), deadline)

    def reopen(self) -> None:
        """
        Go on in a new file of the same name, after the old one was rotated away.

        :raises OSError: the new one cannot be opened; the old one stays in use.
        """
        with self._lock:
            self._reopen()

    def _reopen(self) -> None:
        fd, plain = _open(self.path)
        os.close(self._fd)
        self._fd, self._plain, self._torn = fd, plain, False

    @contextmanager
    def _alone(self, deadline: float) -> Iterator[None]:
        """
        Nobody else who asks for it appends to the file that the name leads to.
        """
        if not self._plain or not self.shared:
            yield
            return
        while not self._is_current():
            self._reopen()
        _take(self._fd, deadline)
        try:
            yield
        finally:
            _release(self._fd)

    def _is_current(self) -> bool:
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._fd))

    def _write(self, data: memoryview, deadline: float) -> None:
        while data:
            self._torn = True
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                _await_room(self._fd, deadline)
        self._torn = False

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # A pipe or a terminal keeps nothing; a disk has to.
            if error.errno not in (errno.EINVAL, errno.EROFS):
                raise


def _open(path: str) -> tuple[int, bool]:
    """
    :returns: a descriptor, and whether it is of a regular file.
    """
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    # To be read, too, for its last byte.  But whoever opens a pipe for reading is taken
    # for its reader.
    access = os.O_RDWR if _may_be_plain(path) else os.O_WRONLY
    try:
        fd = os.open(path, flags | access, 0o640)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from this pipe", path) from None
        raise
    status = os.fstat(fd)
    plain = stat.S_ISREG(status.st_mode)
    if plain and not status.st_size:
        _keep_name(path)
    return fd, plain


def _may_be_plain(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


def _keep_name(path: str) -> None:
    """
    Make the name of a new file durable.
    """
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _ends_whole(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return not size or os.pread(fd, 1, size - 1) == b"\n"


def _take(fd: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                text = "another program keeps it locked"
                raise OSError(errno.EAGAIN, text) from None
            time.sleep(_PAUSE)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            raise
        else:
            return


def _release(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _await_room(fd: int, deadline: float) -> None:
    room = select.poll()
    room.register(fd, select.POLLOUT)
    if not room.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise OSError(errno.EAGAIN, "it is full and nobody reads from it")
