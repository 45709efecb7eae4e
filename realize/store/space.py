"""
Room on the disk: what is promised to files under construction.
"""

from __future__ import annotations

import threading

from realize.errors import NoSpace
from realize.store.replaced import Replaced
from realize.units import format_size


class SpaceLedger:
    """
    Bytes promised to files under construction in one directory, by all its sessions.

    A promise shrinks as its bytes are written, because from then on they are missing
    from what the file system calls free.  Used from several threads.

    :param min_free: bytes that must stay free when all promises are kept.
    :ivar replaced: files that have given way, and whose room has yet to become free.
    """

    def __init__(self, min_free: int = 0) -> None:
        self.replaced = Replaced()
        self._min_free = min_free
        self._promised = 0
        self._lock = threading.Lock()

    @property
    def promised(self) -> int:
        """
        Bytes promised and not yet written.
        """
        return self._promised

    def check(self, nbytes: int, free: int) -> None:
        """
        Whether *nbytes* could be promised; promises nothing.

        :param free: bytes that the file system has for us now.
        :raises NoSpace: with what is needed and what there is.
        """
        spare = free - self._promised - self._min_free
        if nbytes > spare:
            taken = [
                f"{format_size(self._min_free)} to be kept free",
                f"{format_size(self._promised)} promised to other files",
            ]
            sums = (self._min_free, self._promised)
            but = " and ".join(
                text for text, nbytes in zip(taken, sums, strict=True) if nbytes
            )
            raise NoSpace(
                f"needs {format_size(nbytes)}; {format_size(free)} free"
                f"{f', of that {but}' if but else ''}"
            )

    def promise(self, nbytes: int, free: int) -> None:
        """
        Set *nbytes* aside until they are given to :meth:`release`.

        :raises NoSpace: as :meth:`check`; nothing is set aside.
        """
        with self._lock:
            self.check(nbytes, free)
            self._promised += nbytes

    def release(self, nbytes: int) -> None:
        """
        Give back what was promised: written, or not wanted any more.
        """
        with self._lock:
            self._promised -= nbytes
