"""
Who may do what with which directory, as the configuration says at present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from realize.config import Config, DirectorySettings
from realize.daemon.status import directories_status
from realize.store.directory import LocalDirectory
from realize.wire.commands import Granted
from realize.wire.status import DirectoryStatus


class Access:
    """
    The peers, the directories, and the rights of the ones to the others.

    Asked anew for each connection and request, so that what :meth:`use` changes
    counts at once.

    :param make: makes a directory from its id and settings; called in :meth:`use`.
    :param clock: by which disks are late.
    """

    def __init__(
        self,
        make: Callable[[str, DirectorySettings], LocalDirectory],
        clock: IReactorTime,
    ) -> None:
        self._make = make
        self._clock = clock
        self._controllers: frozenset[str] = frozenset()
        self._names: dict[bytes, str] = {}
        self._granted: dict[str, dict[str, Granted]] = {}
        self.directories: Mapping[str, LocalDirectory] = {}

    def use(self, config: Config) -> list[LocalDirectory]:
        """
        From now on, what *config* says.

        A directory whose settings have not changed stays as it is.

        :returns: directories that are not offered any more, for the caller to close.
        """
        before = self.directories
        self.directories = {
            name: before[name]
            if name in before and before[name].settings == directory.settings
            else self._make(name, directory.settings)
            for name, directory in config.directories.items()
        }
        self._names = {peer.public_key: peer.name for peer in config.peers.values()}
        self._granted = {name: _granted(config, name) for name in config.peers}
        self._controllers = frozenset(
            peer.name for peer in config.peers.values() if peer.control
        )
        return [
            directory
            for name, directory in before.items()
            if self.directories.get(name) is not directory
        ]

    @property
    def peers(self) -> list[str]:
        """
        The names of all peers.
        """
        return list(self._granted)

    # -- what the wire asks

    def peer_name(self, key: bytes) -> str | None:
        """
        The name of the peer with this public key; None if it is no peer of ours.
        """
        return self._names.get(key)

    def granted(self, peer: str) -> Mapping[str, Granted]:
        """
        The directories that a peer may use in some way, by their ids.
        """
        return self._granted.get(peer, {})

    def directory(self, name: str) -> LocalDirectory:
        """
        The directory with this id, which has been granted to somebody.
        """
        return self.directories[name]

    def may_control(self, peer: str) -> bool:
        """
        Whether a peer may read the status and change limits.
        """
        return peer in self._controllers

    async def status(self) -> list[DirectoryStatus]:
        """
        What the directories are doing.
        """
        return await directories_status(self.directories.values(), self._clock)


def _granted(config: Config, peer: str) -> dict[str, Granted]:
    every = (
        Granted(
            directory=name,
            take=peer in directory.take,
            put=peer in directory.put,
            replace=peer in directory.replace,
        )
        for name, directory in config.directories.items()
    )
    return {each.directory: each for each in every if each.take or each.put}
