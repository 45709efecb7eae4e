"""
The files that one session may write: announced, and perhaps under construction.

Called from several threads.  Operations on one file never overlap, but those on
different files do, so what they share (promised space, the number of descriptors) is
changed with the lock held.  A file is closed to make room for another only while no
operation works on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from attrs import define

from realize.accounts import Account
from realize.errors import BadRequest, OverShare, PeerError
from realize.model import Failure
from realize.paths import RelativePath, parent_of, printable
from realize.store.partial import Partial, partial_name
from realize.store.space import SpaceLedger

#: Most files that are remembered as offered; many times what a mover has between
#: offer and end.  Of those that could not be read or sent nothing more is heard.
MAX_OFFERED: Final = 65_536

#: Seconds for which nothing has to happen to a file that others may have its room.
LAPSE: Final = 180.0

#: Bytes of memory that a file takes beside its path and that of its directory.
_WEIGHT: Final = 900


@define(eq=False)
class Incoming:
    """
    A file that was offered.

    :ivar size: bytes it will have.
    :ivar holes: how many of them will take no room, as far as the source knows.
    :ivar sparse: whether it was offered with holes: it may have some, and its digests
        are sparse ones.
    :ivar directory: path of the directory it goes to.
    :ivar kept_out: why it must not be written, although it may be there already.
    :ivar leftover: an earlier run left a partial that has not been opened.
    :ivar promised: bytes of the disk set aside for it.
    :ivar partial: open, once writing began.
    :ivar failure: what every further piece is answered, until it is offered again.
    :ivar busy: an operation works on it.
    :ivar used: when one last did, in seconds.
    :ivar reuses: version of the present file of which parts are in the partial.
    :ivar folds: where it goes, two names may be one.
    """

    path: bytes
    name: bytes
    size: int
    directory: bytes
    holes: int = 0
    sparse: bool = False
    kept_out: Failure | None = None
    leftover: bool = False
    promised: int = 0
    partial: Partial | None = None
    failure: Failure | None = None
    busy: bool = False
    used: float = 0.0
    reuses: bytes = b""
    folds: bool = False

    @classmethod
    def of(cls, path: RelativePath, size: int) -> Incoming:
        """
        A file that nothing is known of yet.
        """
        return cls(path.raw, path.name, size, parent_of(path.raw))

    @property
    def weight(self) -> int:
        """
        Bytes of memory that it takes, about.
        """
        return _WEIGHT + 2 * len(self.path)

    @property
    def partial_name(self) -> bytes:
        """
        Name of its partial, in the same directory.
        """
        return partial_name(self.name, self.folds)


class IncomingFiles:
    """
    All files of a session that were offered and are not finished.

    :param ledger: of the directory, shared with other sessions.
    :ivar free: asks the file system for its free bytes.
    :param max_open: most partials open at once.
    :param hold: takes a descriptor, as :meth:`realize.store.root.Root.hold`.
    :param memory: holds what files take that were offered.
    :param seconds: a clock that never steps.
    """

    def __init__(
        self,
        ledger: SpaceLedger,
        free: Callable[[], int],
        max_open: int,
        hold: Callable[[bytes], Account],
        memory: Account,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hold = hold
        self._memory = memory
        self._seconds = seconds
        self._lapsed = False
        memory.ask_back = ledger.account.ask_back = self.give_back
        self._ledger = ledger
        self.free = free
        self._max_open = max_open
        self._files: dict[bytes, Incoming] = {}
        #: Those with a partial; the ones that were not used for longest come first.
        self._open: dict[bytes, Incoming] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._files)

    def get(self, path: bytes) -> Incoming | None:
        """
        The file of this path, if it was offered.
        """
        return self._files.get(path)

    def announce(self, file: Incoming) -> None:
        """
        Let it be written from now on.

        Where there are too many, the one that was offered longest ago, and not begun,
        is forgotten.

        :raises OverShare: there is no memory for it now.
        """
        with self._lock:
            if self._files.pop(file.path, None) is None:
                self._memory.take(lambda: printable(file.path), file.weight)
            self._files[file.path] = file
            file.used = self._seconds()
            if len(self._files) > MAX_OFFERED:
                for each in self._files.values():
                    if each.partial is None and not each.busy:
                        self.forget(each.path)
                        break

    @contextmanager
    def using(self, paths: Iterable[bytes]) -> Iterator[None]:
        """
        While the block runs, these files are not closed to make room.
        """
        files = []
        with self._lock:
            for path in paths:
                file = self._files.get(path)
                if file is not None:
                    file.busy = True
                    files.append(file)
                    if file.partial is not None:
                        self._open[path] = self._open.pop(path)
        try:
            yield
        finally:
            now = self._seconds()
            for file in files:
                file.busy, file.used = False, now

    def promise(self, file: Incoming, stored: int, free: int | None = None) -> None:
        """
        Set aside the bytes that a file still lacks; more or less than before.

        One that turns out to need more than its source had said is not believed to
        have holes any longer: all of it must find room.

        :param stored: bytes of it that take room already.
        :param free: bytes free on the file system, if that is known.
        :raises NoSpace: there are not as many; what was set aside stays.
        """
        if stored > file.size - file.holes:
            file.holes = 0
        missing = max(0, file.size - file.holes - stored)
        more = missing - file.promised
        if more > 0:
            self._ledger.promise(more, self.free() if free is None else free)
        elif more < 0:
            self._ledger.release(-more)
        file.promised = missing

    def open(self, file: Incoming, opening: Callable[[], Partial]) -> Partial:
        """
        Open the partial of a file.

        :raises OverShare: as many are open as may be; or as *opening* does.
        """
        with self._lock:
            if len(self._open) >= self._max_open:
                raise OverShare(
                    f"{printable(file.path)}: {self._max_open} files are under "
                    "construction already"
                )
            account = self._hold(file.path)
            self._open[file.path] = file
        try:
            file.partial = opening()
        except BaseException:
            self.take_partial(file)
            account.give()
            raise
        file.partial.account = account
        file.leftover = False
        return file.partial

    def take_partial(self, file: Incoming) -> Partial | None:
        """
        Hand over the partial: whoever takes it closes it.
        """
        with self._lock:
            partial, file.partial = file.partial, None
            self._open.pop(file.path, None)
        return partial

    def close(self, file: Incoming) -> None:
        """
        Close the partial, which stays on disk.
        """
        partial = self.take_partial(file)
        if partial is not None:
            partial.close()

    def under_construction(self) -> list[tuple[bytes, int, int]]:
        """
        The path of each file with an open partial, its size, and how much is there.
        """
        with self._lock:
            files = list(self._open.values())
        return [
            (file.path, file.size, partial.size)
            for file, partial in ((file, file.partial) for file in files)
            if partial is not None
        ]

    def forget(self, path: bytes) -> None:
        """
        Close it, give back what was set aside, and refuse to write it.
        """
        with self._lock:
            file = self._files.pop(path, None)
        if file is not None:
            self.close(file)
            if file.promised:
                self._ledger.release(file.promised)
            self._memory.give(file.weight)

    def missing(self, path: bytes) -> PeerError:
        """
        Why a file cannot be written that is not among these.
        """
        if self._lapsed:
            return OverShare(
                f"{printable(path)}: nothing was written of it for so long that others "
                "were given its room; offer it again"
            )
        return BadRequest(f"{printable(path)}: written without being offered")

    def give_back(self) -> None:
        """
        Others get nothing: forget files that nobody went on with for :data:`LAPSE`
        seconds, and promise no more room to those that were not begun than is fair.

        Called from threads of others, which may hold locks of theirs.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            late = self._seconds() - LAPSE
            idle = [file for file in self._files.values() if not file.busy]
            for file in idle:
                if file.used <= late:
                    self._lapsed = True
                    self.forget(file.path)
            surplus = self._ledger.account.surplus
            for file in reversed(idle):
                if surplus <= 0:
                    break
                if file.partial is None:
                    surplus -= file.promised
                    self._ledger.release(file.promised)
                    file.promised = 0
        finally:
            self._lock.release()

    def forget_all(self) -> None:
        """
        The session is over.  Partials stay on disk.
        """
        for path in list(self._files):
            self.forget(path)
