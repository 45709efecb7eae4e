"""
Descriptors of directories that are kept open, because they will be needed again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Final

from attrs import define

from realize.accounts import Account

#: Directories kept open for one root.
MAX_KEPT: Final = 64


@define(eq=False)
class _Held:
    """
    :ivar users: operations that use the descriptor now; it stays open for them.
    :ivar dropped: nobody else will find it; the last user closes it.
    :ivar counted: it is in the account of the root.
    """

    path: bytes
    fd: int
    device: int
    inode: int
    users: int = 1
    dropped: bool = False
    counted: bool = False


class DirectoryUse:
    """
    One use of a directory, as a context that gives its descriptor.
    """

    __slots__ = ("_held", "_kept")

    def __init__(self, kept: KeptDirectories, held: _Held) -> None:
        self._kept = kept
        self._held = held

    def __enter__(self) -> int:
        return self._held.fd

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kept.release(self._held)


class DirectoriesInTurn:
    """
    For files that come directory by directory: holds the directory of the last one
    until another is asked for, or the ``with`` block ends.
    """

    __slots__ = ("_fd", "_kept", "_path", "_use")

    def __init__(self, kept: KeptDirectories) -> None:
        self._kept = kept
        self._use: DirectoryUse | None = None
        self._path = b""
        self._fd = -1

    def __enter__(self) -> DirectoriesInTurn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def descriptor(self, path: bytes) -> int:
        """
        Of the directory that *path* led to when it was first asked for in turn; good
        until the next call.
        """
        if self._use is None or path != self._path:
            self._leave()
            use = self._kept.use(path)
            self._fd = use.__enter__()
            self._use, self._path = use, path
        return self._fd

    def _leave(self) -> None:
        use, self._use = self._use, None
        if use is not None:
            use.__exit__(None, None, None)


class KeptDirectories:
    """
    The descriptors of the directories of one root that were used last.

    Each is asked for by its path, and led to by it when that is done.  Everything
    here may be called from several threads at once.

    :param open_directory: opens a directory; what it raises reaches the user.
    :param find: the status of what a path leads to now.
    :param descriptors: holds those that are kept; without room in it none is kept that
        is not used.
    """

    def __init__(
        self,
        open_directory: Callable[[bytes], int],
        find: Callable[[bytes], os.stat_result],
        descriptors: Account,
    ) -> None:
        self._open = open_directory
        self._find = find
        self._descriptors = descriptors
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def use(self, path: bytes) -> DirectoryUse:
        """
        The directory that *path* leads to.
        """
        return DirectoryUse(self, self._acquire(path))

    def release(self, held: _Held) -> None:
        """
        A use is over.
        """
        with self._lock:
            held.users -= 1
            if held.dropped and not held.users:
                self._close(held)

    def forget(self, path: bytes) -> None:
        """
        Keep it no longer.
        """
        with self._lock:
            held = self._held.get(path)
            if held is not None:
                self._drop(held)

    def let_go_one(self) -> bool:
        """
        Close one that nobody uses, because its descriptor is needed.

        :returns: whether there was one.
        """
        with self._lock:
            for held in self._held.values():
                if held.counted and not held.users:
                    self._drop(held)
                    return True
        return False

    def let_go_idle(self) -> None:
        """
        Close those that nobody uses, because others need their descriptors.
        """
        while self.let_go_one():
            pass

    def close(self) -> None:
        """
        Keep none.  Those that are being used are closed by their users.
        """
        with self._lock:
            for held in list(self._held.values()):
                self._drop(held)

    def _acquire(self, path: bytes) -> _Held:
        with self._lock:
            held = self._held.get(path)
            if held is not None:
                held.users += 1
                self._held.move_to_end(path)
        if held is not None:
            if self._still_leads_to(held):
                return held
            with self._lock:
                self._drop(held)
            self.release(held)
        fd = self._open(path)
        status = os.fstat(fd)
        held = _Held(path, fd, status.st_dev, status.st_ino)
        with self._lock:
            other = self._held.get(path)
            if other is not None:
                self._drop(other)
            self._held[path] = held
            if len(self._held) > MAX_KEPT:
                self._drop(next(iter(self._held.values())))
            self._count(held)
        return held

    def _count(self, held: _Held) -> None:
        """
        Keep *held* in place of another if no more may be kept; in place of none, it is
        closed after this use.
        """
        held.counted = self._descriptors.try_take()
        while not held.counted:
            idle = next((h for h in self._held.values() if not h.users), None)
            if idle is None:
                self._drop(held)
                return
            self._drop(idle)
            held.counted = self._descriptors.try_take()

    def _still_leads_to(self, held: _Held) -> bool:
        try:
            now = self._find(held.path)
        except OSError:
            return False
        return (now.st_dev, now.st_ino) == (held.device, held.inode)

    def _drop(self, held: _Held) -> None:
        # With the lock held.
        if self._held.get(held.path) is held:
            del self._held[held.path]
        if not held.dropped:
            held.dropped = True
            if not held.users:
                self._close(held)

    def _close(self, held: _Held) -> None:
        os.close(held.fd)
        if held.counted:
            self._descriptors.give()
