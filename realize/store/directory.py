"""
A directory of this host, from which stores are opened.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from txaio.tx import make_logger

from realize.accounts import Accounts
from realize.config import DirectorySettings
from realize.conflicts import USUAL, Asked, agreed
from realize.observe.events import (
    BUG,
    LEASES_UNAVAILABLE,
    REMOVALS_NOT_DURABLE,
    Event,
)
from realize.observe.recorder import LOCAL, Party, Recorder, Records
from realize.paths import RelativePath, parent_of, printable
from realize.store.filesystem import FileSystem
from realize.store.guesses import Guesses, Unlimited
from realize.store.hidden import find_hidden
from realize.store.replaced import Replaced
from realize.store.root import Root, disk_error
from realize.store.source import Lack, LocalSource
from realize.store.space import SpaceLedger
from realize.store.work import WorkPool, WorkQueue

if TYPE_CHECKING:
    from realize.store.destination import LocalDestination

#: Where it cannot be found out whether a file is open for writing, one that changed
#: within so many nanoseconds is left alone.
DEFAULT_SETTLE_NS: Final = 30 * 1_000_000_000

#: What to say, once, about a directory that lacks something.
_WARNINGS: Final[dict[Lack, Event]] = {
    "leases": LEASES_UNAVAILABLE,
    "syncing": REMOVALS_NOT_DURABLE,
}


class LocalDirectory:
    """
    A directory of this host.  Its stores share threads and the ledger of its space.

    Programs call :func:`realize.store.guard.ignore_lease_signals` first.

    :param name: what messages call it: its id, or for a local move its path.
    :param settings: where it is, and what arriving files get.
    :param reactor: where answers are delivered.
    :param threads: does the disk work; by default a small pool of its own.
    :param records: where what happens is kept; by default it is only logged.
    :param accounts: of the process; by default, of this directory alone.
    """

    log = make_logger()

    def __init__(
        self,
        name: str,
        settings: DirectorySettings,
        reactor: IReactorFromThreads,
        threads: ThreadPool | None = None,
        records: Records | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self.name = name
        self._accounts = accounts or Accounts()
        self.records = records or Records.unseen(name)
        self.settings = settings
        self._pool = WorkPool(reactor, threads, name)
        self._replaced = Replaced()
        self._stores: WeakSet[LocalSource | LocalDestination] = WeakSet()
        self._warned: set[Lack] = set()
        #: By name of the peer; its sessions are many, or one after the other.
        self._guesses: dict[str, Guesses] = {}

    def check(self) -> None:
        """
        Make sure that the directory is there and can be opened.  Blocks.

        :raises DirectoryGone: it is not there, or its marker is not.
        """
        self._open_root(b"").close()

    def look(self) -> os.statvfs_result:
        """
        Make sure of it as :meth:`check` does, and ask its file system how full it is.
        Blocks.

        :raises PeerError: it is not there, or cannot be looked at.
        """
        root = self._open_root(b"")
        try:
            return root.file_system()
        finally:
            root.close()

    async def open_source(
        self,
        below: bytes = b"",
        settle_ns: int = DEFAULT_SETTLE_NS,
        party: Party = LOCAL,
    ) -> LocalSource:
        """
        Open the directory, one below it, or a single file in it, to take files from.

        :param below: canonical path; ``b""`` for all.
        :param settle_ns: nanoseconds for which a file must not have changed, where
            it cannot be found out whether somebody is writing to it.
        :param party: for whom.
        :raises DirectoryGone: the directory is not there, or its marker is not.
        :raises NoSuchFile: *below* is not there.
        :raises NameTaken: it is neither a directory nor a regular file.
        :raises UnsafePath: it is not canonical, or leads through a symbolic link.
        """
        root, only = await self._pool.run(self._open_source_root, below, party)
        marker = os.fsencode(self.settings.marker or "")
        store = LocalSource(
            root,
            WorkQueue(self._pool, (party.peer, party.session)),
            settle_ns,
            self._name_of(below),
            self._recorder(party, root.below),
            only=only,
            skip=b"" if root.below else marker,
            warn=self._warn_from_thread,
        )
        self._stores.add(store)
        return store

    async def open_destination(
        self,
        below: bytes = b"",
        replace: bool = True,
        party: Party = LOCAL,
        conflicts: Asked = USUAL,
    ) -> LocalDestination:
        """
        Open the directory, or one below it, to put files into.

        :param below: canonical path; ``b""`` for all.  Created when the first file
            is offered.
        :param replace: whether present files may give way.
        :param party: for whom.
        :param conflicts: what is to be done about those, as far as the settings and
            *replace* allow.
        :raises DirectoryGone: the directory is not there, or its marker is not.
        :raises UnsafePath: *below*, or the directory for older files, is not canonical.
        :raises NotAllowed: what is to be done about present files is not allowed.
        """
        from realize.store.destination import LocalDestination

        settings = self.settings
        backup = os.fsencode(settings.backup_directory or "")
        wanted = agreed(conflicts, settings.on_conflict, backup, replace)
        root, device = await self._pool.run(self._open_destination_root, below, party)
        accounts, who = self._accounts, (party.peer, party.session)
        ledger = SpaceLedger(
            settings.min_free,
            accounts.space(device).account(*who),
            self._replaced,
        )
        store = LocalDestination(
            root,
            WorkQueue(self._pool, (party.peer, party.session)),
            ledger,
            settings,
            wanted,
            self._name_of(below),
            self._recorder(party, below),
            memory=accounts.memory.account(*who),
            guesses=self._guesses_of(party),
        )
        self._stores.add(store)
        return store

    async def free(self) -> int:
        """
        Bytes free on its file system.

        :raises DirectoryGone: it is not there.
        """
        status = await self._pool.run(self.look)
        return status.f_bavail * status.f_frsize

    async def doubts(self) -> list[str]:
        """
        What is not believed of its file system, and what follows, at most in a dozen
        lines for people.

        :raises PeerError: it is not there, or cannot be looked at.
        """
        known = await self._pool.run(self._look_at_file_system)
        return [
            *known.doubts_as_source(DEFAULT_SETTLE_NS),
            *known.doubts_as_destination(),
        ]

    def under_construction(self) -> list[tuple[bytes, int, int, str]]:
        """
        Path below the root of its store, size, bytes so far, and peer, of each file
        that is being written.
        """
        return [
            (*each, store.peer)
            for store in self._stores
            if not isinstance(store, LocalSource)
            for each in store.under_construction()
        ]

    def silent(self) -> float:
        """
        For how many seconds its disk has not answered.  Costs little; to be called now
        and then.
        """
        return self._pool.silence.seconds()

    @property
    def in_use(self) -> bool:
        """
        Whether a store of it is open.
        """
        return any(not store.closed for store in self._stores)

    async def close(self) -> None:
        """
        Close the stores that are still open, and stop the threads.
        """
        for store in list(self._stores):
            await store.close()
        self._pool.close()

    def _guesses_of(self, party: Party) -> Guesses:
        if party.peer == LOCAL.peer:
            return Unlimited()
        return self._guesses.setdefault(party.peer, Guesses())

    def _open_root(self, below: bytes, party: Party | None = None) -> Root:
        """
        :param party: whose account it goes to; without one, to the reserve.
        """
        descriptors = None
        if party is not None:
            descriptors = self._accounts.descriptors.account(party.peer, party.session)
        return Root.open(
            self.settings.path,
            below,
            marker=self.settings.marker,
            name=self.name,
            descriptors=descriptors,
            surprised=self._surprised_from_thread,
        )

    def _open_destination_root(self, below: bytes, party: Party) -> tuple[Root, int]:
        """
        :returns: the root, and the number of its file system.
        """
        root = self._open_root(below, party)
        return root, root.device

    def _look_at_file_system(self) -> FileSystem:
        root = self._open_root(b"")
        try:
            return root.believed()
        finally:
            root.close()

    def _open_source_root(self, below: bytes, party: Party) -> tuple[Root, bytes]:
        """
        :returns: the root, and the name of the single file in it, if it is one.
        """
        if below and self._is_file(below):
            root = self._open_root(parent_of(below), party)
            return root, RelativePath.parse(below).name
        root = self._open_root(below, party)
        try:
            with root.directory(b""):
                return root, b""
        except BaseException:
            root.close()
            raise

    def _is_file(self, path: bytes) -> bool:
        name = RelativePath.parse(path).name
        root = self._open_root(parent_of(path))
        try:
            root.path(name)
            with root.directory(b"") as directory:
                try:
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    # A crash may have left it hidden: the listing puts it back.
                    if find_hidden(directory, name):
                        return True
                    raise
        except OSError as error:
            raise disk_error(error, path, "open it") from None
        finally:
            root.close()
        return stat.S_ISREG(status.st_mode)

    def _recorder(self, party: Party, below: bytes) -> Recorder:
        return Recorder(self.records, party, below, self._pool.tell)

    def _name_of(self, below: bytes) -> str:
        return f"{self.name}/{printable(below)}" if below else self.name

    def _warn_from_thread(self, lack: Lack, reason: str) -> None:
        if lack not in self._warned:
            self._pool.tell(self._warn, lack, reason)

    def _surprised_from_thread(self, path: bytes, doing: str, error: Exception) -> None:
        what = f"To {doing} {printable(path)} in {self.name}"
        self._pool.tell(
            BUG.log_failure, self.log, Failure(error), what=what, error=repr(error)
        )

    def _warn(self, lack: Lack, reason: str) -> None:
        if lack not in self._warned:
            self._warned.add(lack)
            _WARNINGS[lack].log(self.log, directory=self.name, reason=reason)
