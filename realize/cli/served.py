"""
What ``realize serve`` lets the other end use: everything that its user can, or a few
directories.

Whoever comes in asks for a path from the root or from the home.  Where only some
directories are served, the path is compared with theirs before anything is looked at,
and what is below one goes through the store of that one, which follows no symbolic
links out of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, evolve, field, frozen
from twisted.internet.threads import deferToThreadPool

from realize.config import DirectorySettings
from realize.conflicts import USUAL, Asked
from realize.errors import DirectoryGone, DiskError, NoSuchFile, NotAllowed, UnsafePath
from realize.observe.levels import Levels
from realize.observe.recorder import LOCAL, Party
from realize.paths import RelativePath, join, printable
from realize.store.directory import DEFAULT_SETTLE_NS, LocalDirectory
from realize.store.interface import Destination, Source
from realize.texts import Label
from realize.wire.commands import Granted
from realize.wire.status import DirectoryStatus

#: What the other end is called here.
PEER: Final = "ssh"

#: What it would show as its key, if there were one.
KEY: Final = bytes(32)

#: Between what is there already and what may be made in the path of a destination.
INSIDE: Final = b"/./"


@frozen
class Grant:
    """
    A directory and what may be done with it.

    :ivar path: absolute, as whoever granted it wrote it.
    :ivar real: the same without symbolic links, if it has another name so.
    """

    path: bytes
    real: bytes = b""
    take: bool = False
    put: bool = False
    replace: bool = False

    def __str__(self) -> str:
        rights = [
            word
            for word, has in (("put into", self.put), ("take from", self.take))
            if has
        ]
        return f"{' and '.join(rights)} {printable(self.path)}"


#: What a user may do who can log in anyway.
EVERYTHING: Final = Grant(b"/", take=True, put=True, replace=True)


@define(eq=False)
class Served:
    """
    Implements :class:`realize.wire.control.ControlledService`, for one peer.

    :ivar grants: what it may do; with :data:`EVERYTHING`, paths are the user's own.
    :ivar home: of the user, absolute.
    """

    grants: Sequence[Grant]
    home: bytes
    _reactor: Any
    _make: Callable[[bytes], LocalDirectory]
    _made: dict[bytes, LocalDirectory] = field(factory=dict)

    def peer_name(self, key: bytes) -> str | None:
        """
        There is one.
        """
        return PEER

    def granted(self, peer: str) -> Mapping[str, Granted]:
        """
        What paths may begin at, with all rights that there are for any of them.
        """
        every = self.grants
        return {
            name: Granted(
                directory=Label(name),
                take=any(each.take for each in every),
                put=any(each.put for each in every),
                replace=any(each.replace for each in every),
            )
            for name in ("/", "~")
        }

    def directory(self, name: str) -> Beginning:
        """
        Where paths begin.
        """
        return Beginning(self, b"/" if name == "/" else self.home)

    def is_offered(self, name: str, directory: Any) -> bool:
        """
        Nothing changes while this process runs.
        """
        return True

    def may_control(self, peer: str) -> bool:
        """
        There is nothing to control.
        """
        return False

    def log_at(self, levels: Levels, by: str, seconds: int | None) -> Levels:
        """
        Nobody may.
        """
        raise NotAllowed("the log of a session by ssh cannot be changed")

    async def status(self) -> list[DirectoryStatus]:
        """
        Nobody may ask.
        """
        return []

    async def close(self) -> None:
        """
        Close all directories.
        """
        for directory in self._made.values():
            await directory.close()

    # -- paths

    @property
    def is_everything(self) -> bool:
        """
        Whether all that the user can use is served.
        """
        return EVERYTHING in self.grants

    def local(self, path: bytes) -> LocalDirectory:
        """
        The directory at an absolute path, whether it is there or not.
        """
        if path not in self._made:
            self._made[path] = self._make(path)
        return self._made[path]

    def find(self, path: bytes, right: str) -> tuple[Grant, bytes]:
        """
        The grant that covers a path, and what of the path is below it.  Looks at
        nothing but words.

        :param path: absolute and canonical.
        :raises NotAllowed: none does, or not with this right; says what is allowed.
        """
        covering = [
            (each, path[len(top) :].lstrip(b"/"))
            for each in self.grants
            for top in {each.path, each.real or each.path}
            if path == top or path.startswith(top.rstrip(b"/") + b"/")
        ]
        for grant, below in sorted(covering, key=lambda found: len(found[1])):
            if getattr(grant, right):
                return grant, below
        allowed = ", ".join(map(str, self.grants))
        raise NotAllowed(
            f"{printable(path)}: this key may not {right} there; it may {allowed}"
        )

    async def is_directory(self, path: bytes) -> bool:
        """
        Whether there is a directory at a path.
        """
        pool = self._reactor.getThreadPool()
        found: bool = await deferToThreadPool(
            self._reactor, pool, lambda: stat.S_ISDIR(_mode(path))
        )
        return found


def _mode(path: bytes) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


@frozen
class Beginning:
    """
    Implements :class:`realize.wire.responders.Directory`: the root, or the home.
    """

    served: Served
    path: bytes

    async def open_source(
        self,
        below: bytes = b"",
        settle_ns: int = DEFAULT_SETTLE_NS,
        party: Party = LOCAL,
    ) -> Source:
        """
        Open a directory or a single file to take files from.

        :raises NotAllowed: it is not there, or not granted.
        """
        path = self._absolute(below)
        grant, inside = self.served.find(path, "take")
        if self.served.is_everything:
            # Symbolic links on the way are the user's own.
            top, inside = path, b""
            if not await self.served.is_directory(path):
                top, inside = os.path.split(path)
        else:
            top = grant.path
        try:
            return await self.served.local(top).open_source(inside, settle_ns, party)
        except (DirectoryGone, NoSuchFile, DiskError) as error:
            raise NotAllowed(str(error)) from None

    async def open_destination(
        self,
        below: bytes = b"",
        replace: bool = True,
        party: Party = LOCAL,
        conflicts: Asked = USUAL,
    ) -> Destination:
        """
        Open a directory to put files into.

        Where nobody has granted anything, nothing is replaced without being asked for.

        :param below: what is behind ``/./`` need not exist.
        :raises NotAllowed: it is not there, or not granted.
        """
        there, _, inside = below.partition(INSIDE)
        path = self._absolute(there)
        grant, rest = self.served.find(path, "put")
        if self.served.is_everything:
            top = path
            conflicts = evolve(conflicts, choice=conflicts.choice or "fail")
        else:
            top, inside = grant.path, join(rest, inside) if inside else rest
        try:
            return await self.served.local(top).open_destination(
                inside, replace and grant.replace, party, conflicts
            )
        except (DirectoryGone, DiskError) as error:
            raise NotAllowed(
                f"{error}; create it first if it is missing (it might be a disk that "
                "is not mounted)"
            ) from None

    def _absolute(self, below: bytes) -> bytes:
        """
        :raises UnsafePath: *below* is not canonical.
        """
        if not below:
            return self.path
        if len(below) > _MOST:
            raise UnsafePath("a path that is too long")
        return os.path.join(self.path, RelativePath.parse(below).raw)


_MOST: Final = 4096


def make_directory(reactor: Any, accounts: Any) -> Callable[[bytes], LocalDirectory]:
    """
    How directories are made from their paths.
    """

    def make(path: bytes) -> LocalDirectory:
        return LocalDirectory(
            printable(path),
            DirectorySettings(Path(os.fsdecode(path))),
            reactor,
            accounts=accounts,
        )

    return make
