"""
Files that have given way to new versions, and are still open.

A file without a name is deleted once nobody has it open, and freeing a gigabyte takes a
disk a quarter of a second.  Who renames onto a large file would wait for that, and with
it everybody who waits for the answer.  So it is held open meanwhile, and let go when
the new version has been answered for.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from typing import Final

from realize.store.filesystem import FileSystem

#: Bytes of the smallest file that is held, and how many are at a time.
_LARGE: Final = 16 * 1024 * 1024
_MOST: Final = 16


class Replaced:
    """
    Holds what gave way in one directory, for all its sessions: the room of it counts as
    free for each of them.  Called from several threads.
    """

    def __init__(self) -> None:
        self._held: list[int] = []
        self._lock = threading.Lock()

    def hold(self, directory: int, name: bytes) -> None:
        """
        Keep a file that is about to be replaced, if it is large.

        Not where others have the files too, such as a server: that does not wait for
        us, and NFS would not replace a file that is open here, but rename it away
        first, and for a moment nothing would have the name.

        :param directory: descriptor.
        """
        with suppress(OSError):
            if FileSystem.known_at(directory).cached:
                return
            fd = os.open(
                name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
            status = os.fstat(fd)
            # Not from the lock of let_go, which may take long.
            if (
                stat.S_ISREG(status.st_mode)
                and status.st_size >= _LARGE
                and len(self._held) < _MOST
            ):
                self._held.append(fd)
            else:
                os.close(fd)

    def __bool__(self) -> bool:
        """
        Whether there is anything to let go.
        """
        return bool(self._held)

    def let_go(self) -> None:
        """
        Give their bytes back to the disk, and wait for those that are being given back.
        """
        with self._lock:
            while self._held:
                os.close(self._held.pop())
