"""
Who may do what with which directory, as the configuration says at present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from realize.config import Config, DirectorySettings
from realize.daemon.status import directories_status
from realize.observe.levels import Levels
from realize.observe.switch import LevelSwitch
from realize.store.directory import LocalDirectory
from realize.texts import Label
from realize.wire.commands import Granted
from realize.wire.status import DirectoryStatus


class Access:
    """
    The peers, the directories, and the rights of the ones to the others.

    Asked anew for each connection and request, so that what :meth:`use` changes
    counts at once.

    :param make: makes a directory from its id and settings.
    :param clock: by which disks are late.
    :param switch: changes what is logged.
    """

    def __init__(
        self,
        make: Callable[[str, DirectorySettings], LocalDirectory],
        clock: IReactorTime,
        switch: LevelSwitch,
    ) -> None:
        self._make = make
        self._switch = switch
        self._clock = clock
        self._controllers: frozenset[str] = frozenset()
        self._names: dict[bytes, str] = {}
        self._granted: dict[str, dict[str, Granted]] = {}
        self.directories: Mapping[str, LocalDirectory] = {}

    def prepare(self, config: Config) -> dict[str, LocalDirectory]:
        """
        The directories that *config* needs and that are not there yet, or differ.
        """
        before = self.directories
        return {
            name: self._make(name, directory.settings)
            for name, directory in config.directories.items()
            if name not in before or before[name].settings != directory.settings
        }

    def use(
        self, config: Config, made: Mapping[str, LocalDirectory] | None = None
    ) -> list[LocalDirectory]:
        """
        From now on, what *config* says.

        A directory whose settings have not changed stays as it is.

        :param made: what :meth:`prepare` has returned for the same configuration.
        :returns: directories that are not offered any more, for the caller to close.
        """
        before = self.directories
        new = self.prepare(config) if made is None else made
        self.directories = {
            name: new[name] if name in new else before[name]
            for name in config.directories
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

    def is_offered(self, name: str, directory: Any) -> bool:
        """
        Whether this id still stands for the same place as *directory*.

        What else of its settings has changed counts for what is opened from now on.
        """
        now = self.directories.get(name)
        if now is None:
            return False
        ours, theirs = now.settings, directory.settings
        return (ours.path, ours.marker) == (theirs.path, theirs.marker)

    def may_control(self, peer: str) -> bool:
        """
        Whether a peer may read the status and change limits.
        """
        return peer in self._controllers

    def log_at(self, levels: Levels, by: str, seconds: int | None) -> Levels:
        """
        Log at these levels from now on.

        :param by: who wants it.
        :param seconds: for which; None for good.
        :returns: what was logged before.
        """
        before = self._switch.levels
        self._switch.set(levels, by, seconds)
        return before

    async def status(self) -> list[DirectoryStatus]:
        """
        What the directories are doing.
        """
        return await directories_status(self.directories.values(), self._clock)


def _granted(config: Config, peer: str) -> dict[str, Granted]:
    every = (
        Granted(
            directory=Label(name),
            take=peer in directory.take,
            put=peer in directory.put,
            replace=peer in directory.replace,
        )
        for name, directory in config.directories.items()
    )
    return {each.directory: each for each in every if each.take or each.put}
