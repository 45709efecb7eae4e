"""
Files under construction: their names, who may hold them, and what is in them.

Invariants of a :class:`Partial` between two calls:

- the file on disk is exactly ``size`` bytes long, and ``hasher`` has seen exactly
  those bytes: a partial is always a beginning of the file, whose only holes are
  those of the source;
- an exclusive ``flock`` on its descriptor keeps every other session out, in this
  process too;
- of all who keep to that, whoever holds the lock is the only one to rename or unlink
  it; others may, so that is looked at before anything is done by its name.

What an earlier run left counts only after :meth:`Partial.keep` has compared it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import define, field
from blake3 import blake3

from realize.accounts import Account
from realize.digest import Hasher, new_hasher
from realize.errors import BadRequest, Busy, NameTaken
from realize.model import prefix_step, prefix_steps
from realize.paths import MAX_NAME, PARTIAL_PREFIX, PARTIAL_SUFFIX, cut, printable
from realize.store.names import find, unlink
from realize.store.sparse import allocated, digest_file

#: Most bytes of a name that its partial can carry whole.
_ROOM: Final = MAX_NAME - len(PARTIAL_PREFIX) - len(PARTIAL_SUFFIX)

#: Bytes of a longer name that stay readable, and of its digest.
_READABLE: Final = 200
_DISTINCT: Final = 8

#: Most readable bytes where two names may be one, and fewest characters.  There it is
#: not known how long names may be either: a partial's is no longer than that of its
#: file, or short.
_READABLE_FOLDED: Final = 100
_READABLE_SHORT: Final = 24

#: Names of which no other is taken for one.
_PLAIN: Final = re.compile(rb"[0-9a-z_.-]{0,39}[0-9a-z_-]")

_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FIND: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = _OPEN | os.O_CREAT | os.O_EXCL

#: How often another session may take the name away from under us.
_ATTEMPTS: Final = 8


def partial_name(name: bytes, folds: bool = False) -> bytes:
    """
    Name of the file under construction for a file of this *name*, in its directory.

    A name too long for the affixes is cut, and told from others by its digest.

    :param folds: whether two names may be one there.  Then all but short and plain
        ones have a digest, so that ``README`` and ``readme`` have two partials.
    """
    if not _PLAIN.fullmatch(name) if folds else len(name) > _ROOM:
        digest = blake3(name).hexdigest(length=_DISTINCT).encode("ascii")
        name = (_begin(name) if folds else cut(name, _READABLE)) + b"~" + digest
    return PARTIAL_PREFIX + name + PARTIAL_SUFFIX


def _begin(name: bytes) -> bytes:
    """
    What stays readable where the room for names is not known.
    """
    text = name.decode("utf-8", "surrogateescape")
    added = len(PARTIAL_PREFIX) + len(PARTIAL_SUFFIX) + 1 + 2 * _DISTINCT
    begin = text[: max(len(text) - added, _READABLE_SHORT)]
    return cut(begin.encode("utf-8", "surrogateescape"), _READABLE_FOLDED)


def held_bytes(directory: int, name: bytes) -> int:
    """
    Bytes in the partial called *name*; 0 if there is none that could be continued.

    Changes nothing and holds nothing afterwards.

    :param directory: descriptor.
    :raises Busy: a session holds it.
    :raises NameTaken: something that is no regular file has the name.
    :raises OSError: it could not be looked at.
    """
    # The usual answer is no, and this is the quickest way to it.
    if not os.access(
        name, os.F_OK, dir_fd=directory, effective_ids=True, follow_symlinks=False
    ):
        return 0
    try:
        fd = _open_existing(directory, name)
    except PermissionError:
        with _found(directory, name) as fd:
            status = os.fstat(fd)
            if not _is_ours(status):
                raise
            return status.st_size
    if fd is None:
        return 0
    try:
        _lock(fd)
        status = os.fstat(fd)
        return status.st_size if _is_ours(status) else 0
    finally:
        os.close(fd)


@define
class Partial:
    """
    A file under construction, open and locked.

    :ivar fd: descriptor; -1 once closed.
    :ivar name: its own name in the directory.
    :ivar size: bytes in it.
    :ivar sparse: which digest *hasher* makes.
    :ivar hasher: has seen those bytes.
    :ivar stored: how many of them take room on the disk; the others are holes.
    :ivar kept: bytes of an earlier run are among them.
    :ivar opened: after it was opened and before anything was written; nanoseconds.
    :ivar account: holds its descriptor, and gets that back when it is closed.
    """

    fd: int
    name: bytes
    size: int
    sparse: bool
    hasher: Hasher = field(init=False)
    stored: int = 0
    kept: bool = False
    opened: int = field(factory=time.monotonic_ns)
    account: Account | None = None

    def __attrs_post_init__(self) -> None:
        self.hasher = new_hasher(self.sparse)

    @classmethod
    def begin(cls, directory: int, name: bytes, sparse: bool = False) -> Partial:
        """
        Open an empty partial; what it held before is gone.

        :param directory: descriptor.
        :param name: of the partial itself, as from :func:`partial_name`.
        :param sparse: which digest is wanted of it, as in :mod:`realize.digest`.
        :raises Busy: another session holds it.
        :raises NameTaken: something that is no regular file has the name.
        :raises OSError: it could not be made.
        """
        return cls(_open_locked(directory, name, empty=True), name, 0, sparse)

    @classmethod
    def resume(cls, directory: int, name: bytes, sparse: bool = False) -> Partial:
        """
        Open what an earlier run left, without believing it: ``size`` is 0 until
        :meth:`keep`, which has to come next.

        Parameters and errors as for :meth:`begin`.
        """
        return cls(_open_locked(directory, name, empty=False), name, 0, sparse)

    def restart(self) -> None:
        """
        Make it empty.
        """
        self.size = self.stored = 0
        self.hasher = new_hasher(self.sparse)
        os.ftruncate(self.fd, 0)

    def keep(
        self,
        length: int,
        steps: Sequence[bytes],
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        """
        Keep as much of the first *length* bytes as *steps* agree with; drop the rest.

        :param steps: digests as in :class:`realize.model.Digests`.
        :param pause: called every few milliseconds; what it raises ends this.
        :raises BadRequest: not as many as *length* needs.
        """
        if len(steps) != prefix_steps(length):
            raise BadRequest(f"{len(steps)} digests for {length} bytes")
        available = min(length, os.fstat(self.fd).st_size)
        kept, agreed, step = 0, new_hasher(self.sparse), prefix_step(length)
        for index, expected in enumerate(steps, 1):
            end = min(index * step, length)
            if end > available:
                break
            hasher = agreed.copy()
            digest_file(hasher, self.fd, kept, end, pause)
            if hasher.digest() != expected:
                break
            kept, agreed = end, hasher
        self.size, self.hasher = kept, agreed
        self.kept = kept > 0
        os.ftruncate(self.fd, kept)
        self.stored = min(kept, allocated(os.fstat(self.fd)))

    def write_runs(self, offset: int, runs: Sequence[int], data: memoryview) -> None:
        """
        Add data and holes at *offset*.  Nothing is written where holes are, and what
        the file may have had there is gone: it ends where it was written so far.

        :param runs: as of :class:`realize.model.Piece`; empty if all is data.
        :param data: without holes.
        :raises BadRequest: as :meth:`write` and :meth:`extend`.
        """
        if not runs:
            self.write(offset, data)
            return
        at = 0
        for index, length in enumerate(runs):
            if index % 2:
                self.extend(offset + length)
            else:
                self.write(offset, data[at : at + length])
                at += length
            offset += length

    def write(self, offset: int, data: memoryview) -> None:
        """
        Add *data* at *offset*; what lies between the present end and there is a hole.

        After an :class:`OSError` the partial no longer agrees with its hasher: give
        it up with :meth:`close`.

        :raises BadRequest: *offset* is before the present end, or as :meth:`extend`.
        """
        if offset < self.size:
            raise BadRequest(f"a piece at {offset} after {self.size} bytes")
        if offset > self.size:
            self.extend(offset)
        self.hasher.update(data)
        end = offset + len(data)
        self.stored += len(data)
        while offset < end:
            count = os.pwrite(self.fd, data, offset)
            offset += count
            data = data[count:]
        self.size = end

    def extend_written(self, size: int) -> None:
        """
        Take over bytes that were put into the file behind its present end.

        Reads them for the digest.

        :param size: bytes that the file has now.
        """
        digest_file(self.hasher, self.fd, self.size, size)
        self.stored += size - self.size
        self.size = size

    def extend(self, size: int) -> None:
        """
        Make it *size* bytes long, with a hole at its end.

        :raises BadRequest: it is longer already.
        """
        hole = size - self.size
        if hole < 0:
            raise BadRequest(f"{self.size} bytes were written of a file of {size}")
        if hole:
            os.ftruncate(self.fd, size)
            self.hasher.zeros(hole)
            self.size = size

    def close(self) -> None:
        """
        Let go of it; it stays on disk.  Safe to repeat.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0:
            # What could not be written is told by sync, or found out by the next run.
            with suppress(OSError):
                os.close(fd)
            if self.account is not None:
                self.account.give()

    def discard(self, directory: int) -> None:
        """
        Delete it and let go of it: what is in it is of no use to anybody.

        Another file that has its name now stays.
        """
        if self.fd >= 0:
            try:
                unlink(directory, self.name, self.fd)
            finally:
                self.close()


def _open_locked(directory: int, name: bytes, *, empty: bool) -> int:
    """
    Descriptor of the file called *name*, held by nobody else.

    A file that has another name besides, or another owner, is not written to: its
    name is taken from it, under its lock, and given to a new file.  What is made here
    is ours, whoever the file system says that its owner is.
    """
    for _ in range(_ATTEMPTS):
        try:
            fd, made = os.open(name, _CREATE, 0o600, dir_fd=directory), True
        except FileExistsError:
            try:
                found = _open_existing(directory, name)
            except PermissionError:
                _make_writable(directory, name)
                found = _open_existing(directory, name)
            if found is None:
                continue
            fd, made = found, False
        try:
            _lock(fd)
            status = os.fstat(fd)
            if find(directory, name, fd, status) is None:
                # Somebody finished it between our open and our lock.
                os.close(fd)
                continue
            if not (made or _is_ours(status)):
                unlink(directory, name, fd)
                os.close(fd)
                continue
            if empty and status.st_size:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        return fd
    raise Busy(f"{printable(name)}: others keep changing it")


def _open_existing(directory: int, name: bytes) -> int | None:
    """
    Descriptor of the file called *name*; None if there is none.

    :raises NameTaken: it is no regular file.  It stays: without a lock on it, what
        we unlink could be what another session has just put in its place.
    """
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise NameTaken(f"{printable(name)}: needed for unfinished work, but taken")
        return os.open(name, _OPEN, dir_fd=directory)
    except FileNotFoundError:
        return None


def _make_writable(directory: int, name: bytes) -> None:
    """
    Let us open a partial of ours that has the mode of its final file already: a crash
    came before it got its name.

    If a session is about to give it that, it will find that the mode is another, and
    set it again.

    :raises PermissionError: it is not ours.
    """
    with _found(directory, name) as fd:
        if not _is_ours(os.fstat(fd)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        os.chmod(f"/proc/self/fd/{fd}", 0o600)


@contextmanager
def _found(directory: int, name: bytes) -> Iterator[int]:
    """
    A file to be looked at, whatever its mode.
    """
    fd = os.open(name, _FIND, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_nlink == 1 and status.st_uid == os.geteuid()


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(f"another move is writing this file: {_holder(fd)}") from None


def _holder(fd: int) -> str:
    """
    Who holds the lock on a file, as far as the kernel tells.
    """
    status = os.fstat(fd)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF
            words = line.split()
            if words[1] == "FLOCK" and words[5] == f"{device}:{status.st_ino}":
                if int(words[4]) == os.getpid():
                    return "another session of this program"
                name = Path(f"/proc/{words[4]}/comm").read_text().strip()
                return f"process {words[4]} ({printable(name)})"
    except (OSError, ValueError, IndexError):
        pass  # Gone meanwhile, or in a container of its own.
    return "another session"
