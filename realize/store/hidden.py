"""
Hidden directories: where source files wait to be unlinked.

Between the last check of a file and its removal somebody may put another one under
its name.  So the name is first moved out of everybody's sight, into a directory that
only this process uses, and checked again there.  What holds:

- Whoever has the exclusive ``flock`` on a hidden directory, and nobody else, moves
  files into it, out of it, and removes it.
- A hidden directory whose lock is free was left by a crash.  The next listing puts
  its files back (:func:`empty_abandoned`).
- Nothing is ever replaced by a file that is put back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen

from realize.errors import PeerError
from realize.paths import HIDDEN_PREFIX, MAX_NAME, printable
from realize.store.root import OPEN_DIRECTORY, disk_error
from realize.store.syscalls import UNSUPPORTED, rename_noreplace

#: Follows the name of a file that is put back when another has taken its name,
#: before 16 hex digits.
KEPT_INFIX: Final = b".realize-kept-"

#: Why there may be no hidden directory: no locks on directories, or a full disk.
CANNOT_HIDE: Final = UNSUPPORTED | {
    errno.EBADF,
    errno.ENOLCK,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMLINK,
}

#: What a file system answers that has no hard links.
_NO_LINKS: Final = UNSUPPORTED | {errno.EPERM, errno.EMLINK}


@frozen
class HiddenDirectory:
    """
    A hidden directory of ours.

    :ivar name: in the directory whose files it hides.
    :ivar fd: descriptor, with the lock; :meth:`remove` closes it.
    """

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
            os.mkdir(name, 0o700, dir_fd=directory)
            try:
                fd = _open_locked(directory, name, lock)
            except OSError:
                os.rmdir(name, dir_fd=directory)
                raise
            # A listing that came by before the lock may be tidying it away.
            if fd is not None:
                return cls(name, fd)

    def take(self, directory: int, name: bytes) -> None:
        """
        Move a file into it, under its own name.

        :raises OSError: it could not be moved; ``FileNotFoundError`` if it has gone.
        """
        try:
            rename_noreplace(directory, name, self.fd, name)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            # Nothing is replaced: only we put anything here, each name once.
            os.rename(name, name, src_dir_fd=directory, dst_dir_fd=self.fd)

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


def put_back(hidden: int, name: bytes, directory: int) -> bytes:
    """
    Move a file out of a hidden directory.

    :param hidden: descriptor of the hidden directory.
    :param directory: descriptor of the one that holds it.
    :returns: the name it has now: its own, or one that says it was kept.
    :raises OSError: it could not be moved.
    """
    try:
        _move_noreplace(hidden, name, directory, name)
    except FileExistsError:
        if _same_file(hidden, directory, name):
            os.unlink(name, dir_fd=hidden)
            return name
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return name
    # Replaces nothing: nobody else has ever heard of this name.
    ending = KEPT_INFIX + _hex_digits()
    kept = name[: MAX_NAME - len(ending)] + ending
    os.rename(name, kept, src_dir_fd=hidden, dst_dir_fd=directory)
    return kept


def undo(
    hidden: int, name: bytes, directory: int, path: bytes, error: PeerError | OSError
) -> PeerError:
    """
    Move a file out of a hidden directory, because of an error after it was hidden.

    :param path: of the file, for messages.
    :returns: what to raise, which says where the file is now if not in its place.
    """
    if isinstance(error, OSError):
        error = disk_error(error, path, "move it")
    try:
        now = put_back(hidden, name, directory)
    except OSError as worse:
        return disk_error(worse, path, "put it back; the next run tries again")
    if now != name:
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
        for each in os.listdir(fd):
            was = os.fsencode(each)
            yield was, put_back(fd, was, directory)
        os.rmdir(name, dir_fd=directory)
    finally:
        os.close(fd)


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
        # One that is empty may have been made just now: its lock is left alone.
        if names:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return []
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
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def _same_file(one: int, other: int, name: bytes) -> bool:
    return os.path.samestat(
        os.stat(name, dir_fd=one, follow_symlinks=False),
        os.stat(name, dir_fd=other, follow_symlinks=False),
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
