"""
Hiding: where source files wait to be unlinked.

Between the last check of a file and its removal somebody may put another one under
its name.  So the name is first moved out of everybody's sight, into a directory that
only this process uses, and checked again there.  Where no directory can be made, since
the disk is full, the file gets a hidden name beside its own.  What holds:

- Whoever has the exclusive ``flock`` on a hidden directory, or on a file with a hidden
  name, moves files into it, out of it, and removes it.
- One whose lock is free was left by a crash.  The next listing puts files back
  (:func:`empty_abandoned`, :func:`uncover_abandoned`).
- Where locks do not hold, a listing may put back what somebody is about to unlink.  He
  then finds nothing: whoever unlinks, or puts back, does it to the hidden name, and
  only one of them can.
- Nothing is ever replaced by a file that is put back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import ClassVar, Final, Protocol

from attrs import frozen

from realize.errors import DiskError, PeerError
from realize.paths import (
    HIDDEN_PREFIX,
    MAX_NAME,
    SHORT_NAME,
    cut,
    is_hidden,
    is_hidden_directory,
    name_of_hidden,
    printable,
)
from realize.store.root import OPEN_DIRECTORY, disk_error
from realize.store.syscalls import NO_LINKS, UNSUPPORTED, rename_noreplace

#: Follows the name of a file that is put back when another has taken its name,
#: before 16 hex digits.
KEPT_INFIX: Final = b".realize-kept-"

#: The hidden directory that is made only to find out what may be done in a directory.
#: Always the same, so that one that cannot be removed is the only one.
PROBE: Final = HIDDEN_PREFIX + b"0" * 16

#: Why there may be no hidden directory: none can be made, or the disk is full.
CANNOT_HIDE: Final = UNSUPPORTED | {errno.ENOSPC, errno.EDQUOT, errno.EMLINK}

#: What a file system answers without locks, or with none on what is only read.
CANNOT_LOCK: Final = UNSUPPORTED | {
    errno.EBADF,
    errno.ENOLCK,
    errno.EACCES,
    errno.EPERM,
}


#: Bytes of two files that are compared at a time.
_AT_ONCE: Final = 1024 * 1024

#: What FUSE and NFS call a file that was unlinked while somebody had it open.
_STILL_OPEN: Final = re.compile(rb"\.fuse_hidden[0-9a-f]{16}\Z|\.nfs[0-9a-f]{16,24}\Z")


_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: What the file in :data:`PROBE` is called, before and after it is renamed.  Such names
#: are never moved.
PROBED: Final = (b".before.realize-part", b".after.realize-part")


def is_unlinked(name: bytes) -> bool:
    """
    Whether a single name is what FUSE or NFS has made of a file that was unlinked while
    somebody had it open.  It goes by itself.
    """
    return _STILL_OPEN.match(name) is not None


def lock_alone(fd: int) -> bool:
    """
    Take the exclusive lock on a file or directory, where there are locks.

    :returns: False if somebody else has it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
    return True


class HidingPlace(Protocol):
    """
    Where files of one directory are hidden.

    :ivar fd: descriptor of the directory that holds them there.
    :ivar is_directory: whether that is one of its own, inside theirs.
    """

    is_directory: ClassVar[bool]

    @property
    def fd(self) -> int:
        """Closed by :meth:`remove` and :meth:`give_up`."""

    def name_for(self, name: bytes) -> bytes:
        """
        What a file is called there.

        :raises OSError: there is no room for such a name.
        """

    def mark_of(self, name: bytes) -> bytes:
        """
        What can be seen in the directory of the file as long as it is hidden, and had
        never been there before.
        """

    def remove(self, directory: int) -> None:
        """
        Give it up, when no file is hidden there any more.

        :raises OSError: something is left in it; the next listing puts that back.
        """

    def give_up(self) -> None:
        """
        Give up the lock: what is in it is put back by the next listing.
        """


def hide(directory: int, name: bytes, place: HidingPlace) -> bytes:
    """
    Move a file out of sight.

    :param directory: descriptor of the one that it is in.
    :returns: what it is called in *place* now.
    :raises OSError: it could not be moved; ``FileNotFoundError`` if it has gone.
    """
    hidden = place.name_for(name)
    try:
        try:
            rename_noreplace(directory, name, place.fd, hidden)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            # Nothing is replaced: only we put anything here, each name once.
            os.rename(name, hidden, src_dir_fd=directory, dst_dir_fd=place.fd)
    except OSError:
        # Some file systems do it, and say that they did not.
        if not is_there(place.fd, hidden):
            raise
    return hidden


def is_there(directory: int, name: bytes) -> bool:
    """
    Whether something has this name; also if that cannot be found out.
    """
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def is_seen(directory: int, name: bytes) -> bool:
    """
    Whether something is known to have this name.
    """
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def not_removed(path: bytes) -> DiskError:
    """
    What to say of a file that is still there, although the file system answers that it
    is not, or that it has removed it.
    """
    return DiskError(
        f"{printable(path)}: was not removed, although the file system says that it is"
        " gone; look at that disk or server"
    )


@frozen
class HiddenDirectory:
    """
    A hidden directory of ours.

    :ivar name: in the directory whose files it hides.
    :ivar fd: descriptor, with the lock; :meth:`remove` closes it.
    """

    is_directory: ClassVar[bool] = True

    name: bytes
    fd: int

    @classmethod
    def make(
        cls, directory: int, lock: Callable[[int, int], None] = fcntl.flock
    ) -> HiddenDirectory:
        """
        :param directory: descriptor of the directory whose files are to be hidden.
        :param lock: ``flock``, or in a test something before which something happens.
        :raises OSError: it cannot be made here, or not be locked.
        """
        while True:
            name = HIDDEN_PREFIX + _hex_digits()
            try:
                os.mkdir(name, 0o700, dir_fd=directory)
                fd = _open_locked(directory, name, lock)
            except OSError:
                with suppress(OSError):
                    os.rmdir(name, dir_fd=directory)
                raise
            # A listing that came by before the lock may be tidying it away.
            if fd is not None:
                _let_us_in(fd)
                return cls(name, fd)

    def name_for(self, name: bytes) -> bytes:
        """See :class:`HidingPlace`: its own name."""
        return name

    def mark_of(self, name: bytes) -> bytes:
        """See :class:`HidingPlace`."""
        return self.name

    def take(self, directory: int, name: bytes) -> None:
        """
        Move a file into it, under its own name.

        :raises OSError: it could not be moved; ``FileNotFoundError`` if it has gone.
        """
        hide(directory, name, self)

    def remove(self, directory: int) -> None:
        """
        Remove it, which needs it to be empty, and give up the lock.

        :raises OSError: it is not empty, or cannot be removed; the lock is given up
            all the same, so that the next listing puts back what is in it.
        """
        try:
            os.rmdir(self.name, dir_fd=directory)
        finally:
            self.give_up()

    def give_up(self) -> None:
        """
        Give up the lock: what is in it is put back by the next listing.
        """
        os.close(self.fd)


@frozen
class HiddenNames:
    """
    Hidden names in a directory in which no other can be made.  A rename needs no inode.

    :ivar prefix: of all of them, with a random part.
    :ivar fd: descriptor of that directory.
    """

    is_directory: ClassVar[bool] = False

    prefix: bytes
    fd: int

    @classmethod
    def make(cls, directory: int) -> HiddenNames:
        """
        :param directory: descriptor of the directory whose files are to be hidden.
        """
        return cls(HIDDEN_PREFIX + _hex_digits() + b"~", os.dup(directory))

    def name_for(self, name: bytes) -> bytes:
        """See :class:`HidingPlace`."""
        hidden = self.prefix + name
        if len(hidden) > MAX_NAME:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return hidden

    def mark_of(self, name: bytes) -> bytes:
        """See :class:`HidingPlace`."""
        return self.prefix + name

    def remove(self, directory: int) -> None:
        """See :class:`HidingPlace`."""
        self.give_up()

    def give_up(self) -> None:
        """See :class:`HidingPlace`."""
        os.close(self.fd)


def make_hiding_place(directory: int) -> HidingPlace:
    """
    A place to hide files of a directory, which may be full.

    :param directory: descriptor.
    :raises OSError: there can be none.
    """
    try:
        return HiddenDirectory.make(directory)
    except OSError as error:
        if error.errno not in CANNOT_HIDE:
            raise
    return HiddenNames.make(directory)


def put_back(hidden: int, name: bytes, directory: int, own: bytes = b"") -> bytes:
    """
    Move a file back to its own name.

    :param hidden: descriptor of the directory that it is hidden in.
    :param name: that it has there.
    :param directory: descriptor of the one that it came from.
    :param own: its own name, if it has another one there.
    :returns: the name it has now: its own, or one that says it was kept.
    :raises OSError: it could not be moved.
    """
    own = own or name
    try:
        _move_noreplace(hidden, name, directory, own)
    except OSError as error:
        if not is_there(hidden, name):
            return own  # It was done, whatever was answered; or by somebody else.
        if isinstance(error, FileExistsError):
            if _is_put_back(hidden, name, directory, own):
                os.unlink(name, dir_fd=hidden)
                return own
        elif error.errno not in NO_LINKS:
            raise
    else:
        return own
    # Replaces nothing: nobody else has ever heard of this name.
    ending = KEPT_INFIX + _hex_digits()
    kept = cut(own, max(len(own), SHORT_NAME) - len(ending)) + ending
    os.rename(name, kept, src_dir_fd=hidden, dst_dir_fd=directory)
    return kept


def undo(
    hidden: int,
    name: bytes,
    directory: int,
    path: bytes,
    error: PeerError | OSError,
    own: bytes = b"",
) -> PeerError:
    """
    Move a file back to its own name, because of an error after it was hidden.

    Parameters as for :func:`put_back`.

    :param path: of the file, for messages.
    :returns: what to raise, which says where the file is now if not in its place.
    """
    if isinstance(error, OSError):
        error = disk_error(error, path, "move it")
    try:
        now = put_back(hidden, name, directory, own)
    except OSError as worse:
        reason = os.strerror(worse.errno or 0)
        return DiskError(
            f"{printable(path)}: cannot put it back; the next run tries again: {reason}"
        )
    if now != (own or name):
        return type(error)(f"{error}; kept as {printable(now)}")
    return error


def empty_abandoned(directory: int, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """
    Put back what a crash left in a hidden directory, and remove it.

    Does nothing if somebody holds its lock, or it has vanished.

    :returns: of each file, the name it had and the one it has now.
    :raises OSError: it cannot be looked into, or a file not be moved.
    """
    fd = _open_locked(directory, name)
    if fd is None:
        return
    try:
        left = [os.fsencode(each) for each in os.listdir(fd)]
        for was in left:
            if not is_unlinked(was):
                yield was, put_back(fd, was, directory)
        if not any(map(is_unlinked, left)):
            os.rmdir(name, dir_fd=directory)
    finally:
        os.close(fd)


def uncover_abandoned(directory: int, name: bytes) -> bytes | None:
    """
    Give a file its own name back that a crash left under a hidden one.

    :returns: the name it has now; None if somebody holds it, or it has vanished.
    :raises OSError: it cannot be looked at, or not be moved.
    """
    try:
        fd = os.open(name, _OPEN_FILE, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        if not lock_alone(fd):
            return None
        return put_back(directory, name, directory, name_of_hidden(name))
    finally:
        os.close(fd)


def is_abandoned(directory: int, name: bytes) -> bool:
    """
    Whether a crash left a file under a hidden name; changes nothing.

    :raises OSError: it cannot be looked at.
    """
    try:
        fd = os.open(name, _OPEN_FILE, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        return lock_alone(fd)
    finally:
        os.close(fd)


def find_hidden(directory: int, name: bytes) -> bool:
    """
    Whether a crash has left a file of this name hidden; changes nothing.

    :param directory: descriptor of the one that it belongs in.
    :raises OSError: that cannot be found out.
    """
    for each in map(os.fsencode, os.listdir(directory)):
        if name_of_hidden(each) == name and is_abandoned(directory, each):
            return True
        if is_hidden_directory(each) and name in look_into_abandoned(directory, each):
            return True
    return False


def find_held(directory: int, names: Collection[bytes]) -> set[bytes]:
    """
    Which of some files that were not there are hidden by somebody, who may put them
    back, or were put back just now; also those of which it cannot be found out.

    :param directory: descriptor of the one that they belong in.
    :raises OSError: it cannot be listed.
    """
    listed = map(os.fsencode, os.listdir(directory))
    hidden = [each for each in listed if is_hidden(each)]
    held = {each for each in map(name_of_hidden, hidden) if each in names}
    for each in filter(is_hidden_directory, hidden):
        held.update(name for name in names if is_there(directory, each + b"/" + name))
    return held.union(name for name in names if is_there(directory, name))


def tidy_probe(directory: int) -> None:
    """
    Remove what a crash has left of finding out what may be done in a directory.
    """
    with suppress(OSError):
        fd = os.open(PROBE, OPEN_DIRECTORY, dir_fd=directory)
        try:
            for each in PROBED:
                with suppress(OSError):
                    os.unlink(each, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(PROBE, dir_fd=directory)


def look_into_abandoned(directory: int, name: bytes) -> list[bytes]:
    """
    What a crash left in a hidden directory; changes nothing.

    :returns: the names of the files; none if somebody holds its lock.
    :raises OSError: it cannot be looked into.
    """
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return []
    try:
        names = [os.fsencode(each) for each in os.listdir(fd)]
        names = [each for each in names if not is_unlinked(each)]
        # One that is empty may have been made just now: its lock is left alone.
        if names:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return []
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        return names
    else:
        return names
    finally:
        os.close(fd)


def _open_locked(
    directory: int, name: bytes, lock: Callable[[int, int], None] = fcntl.flock
) -> int | None:
    """
    :returns: a descriptor with the lock, or None if somebody else has it, or removed
        the directory meanwhile.
    """
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        try:
            lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
        now = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if os.path.samestat(now, os.fstat(fd)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _let_us_in(fd: int) -> None:
    """
    Let a directory that was made just now be used by whom it belongs to, whatever the
    umask, or the default ACL of the directory above.
    """
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        with suppress(OSError):
            os.fchmod(fd, 0o700)


def _is_put_back(hidden: int, name: bytes, directory: int, own: bytes) -> bool:
    """
    Whether the own name has the file already, after a link that was not followed by an
    unlink; or an equal one, where another move has brought it back.  It is made durable
    then.
    """
    if _same_file(hidden, name, directory, own):
        return True
    with suppress(OSError):
        one = os.open(name, _OPEN_FILE, dir_fd=hidden)
        try:
            other = os.open(own, _OPEN_FILE, dir_fd=directory)
            try:
                if _are_equal(one, other):
                    os.fsync(other)
                    os.fsync(directory)
                    return True
            finally:
                os.close(other)
        finally:
            os.close(one)
    return False


def _are_equal(one: int, other: int) -> bool:
    """
    Whether two open files have the same time of modification, permissions and content.
    """
    ours, theirs = os.fstat(one), os.fstat(other)
    if not stat.S_ISREG(theirs.st_mode) or (
        ours.st_size,
        ours.st_mtime_ns,
        ours.st_mode,
    ) != (theirs.st_size, theirs.st_mtime_ns, theirs.st_mode):
        return False
    at = 0
    while data := os.pread(one, _AT_ONCE, at):
        if os.pread(other, _AT_ONCE, at) != data:
            return False
        at += len(data)
    return at == ours.st_size


def _same_file(directory: int, name: bytes, other_directory: int, other: bytes) -> bool:
    return os.path.samestat(
        os.stat(name, dir_fd=directory, follow_symlinks=False),
        os.stat(other, dir_fd=other_directory, follow_symlinks=False),
    )


def _move_noreplace(
    from_directory: int, from_name: bytes, to_directory: int, to_name: bytes
) -> None:
    try:
        rename_noreplace(from_directory, from_name, to_directory, to_name)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        # Either name leads to the file if a crash comes between these two.
        os.link(
            from_name,
            to_name,
            src_dir_fd=from_directory,
            dst_dir_fd=to_directory,
            follow_symlinks=False,
        )
        os.unlink(from_name, dir_fd=from_directory)


def _hex_digits() -> bytes:
    return secrets.token_hex(8).encode("ascii")
