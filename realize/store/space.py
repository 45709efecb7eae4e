"""
Room on the disk: what is promised to files under construction.
"""

from __future__ import annotations

from realize.accounts import Account, new_space
from realize.errors import NoSpace
from realize.store.replaced import Replaced
from realize.units import format_size


class SpaceLedger:
    """
    Bytes promised to files under construction of one session in one directory.

    A promise shrinks as its bytes are written, because from then on they are missing
    from what the file system calls free.  Used from several threads.

    A session that is alone may be promised all there is.  While others ask, it is
    promised no more than it leaves to them, and what it has beyond that for files that
    were not begun is asked back.

    :param min_free: bytes that must stay free when all promises are kept.
    :param account: of the file system, which all its directories share.
    :ivar replaced: files that have given way, and whose room has yet to become free;
        of the directory.
    """

    def __init__(
        self,
        min_free: int = 0,
        account: Account | None = None,
        replaced: Replaced | None = None,
    ) -> None:
        self.replaced = replaced or Replaced()
        self.account = account or new_space().account("local", "")
        self._min_free = min_free

    @property
    def promised(self) -> int:
        """
        Bytes promised and not yet written, to all sessions.
        """
        return self.account.resource.held

    def check(self, nbytes: int, free: int) -> None:
        """
        Whether *nbytes* could be promised, whatever others have been promised; promises
        nothing.

        :param free: bytes that the file system has for us now.
        :raises NoSpace: with what is needed and what there is.
        """
        spare = free - self.account.held - self._min_free
        if nbytes > spare:
            taken = [
                f"{format_size(self._min_free)} to be kept free",
                f"{format_size(self.account.held)} promised to other files",
            ]
            sums = (self._min_free, self.account.held)
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
        :raises OverShare: others have been promised too much of it, for now.
        """
        self.check(nbytes, free)
        self.account.resource.total = free - self._min_free
        self.account.take(lambda: f"needs {format_size(nbytes)}", nbytes)

    def release(self, nbytes: int) -> None:
        """
        Give back what was promised: written, or not wanted any more.
        """
        self.account.give(nbytes)
