"""
Reading the configuration again while connections go on.

A file that cannot be used changes nothing.  Of what it says, peers, directories and
limits take effect; the rest does at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from attrs import fields
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from txaio.tx import make_logger

from realize.config import Config, ServiceConfig
from realize.daemon.access import Access
from realize.daemon.monitoring import Monitoring
from realize.errors import ConfigError, RealizeError
from realize.observe.events import RELOAD_REFUSED, RELOADED
from realize.store.directory import LocalDirectory
from realize.wire.server import ServerFactory

T = TypeVar("T")

#: What of ``[service]`` takes effect at once.
_LIMITS: Final = frozenset({"send_limit", "receive_limit"})


def check_directories(
    config: Config, directories: Mapping[str, LocalDirectory]
) -> None:
    """
    Make sure that all of these are there.  Blocks.

    :raises ConfigError: one is not; the text names its setting.
    """
    for name, directory in directories.items():
        try:
            directory.check()
        except RealizeError as error:
            path = config.directories[name].settings.path
            raise ConfigError(f"[directories.{name}] path: {path}: {error}") from None


class Reloading:
    """
    What a daemon does when it is told to read its configuration again.

    :param config: in force now.
    :param read: reads the new one.  Blocks.
    """

    log = make_logger()

    def __init__(
        self,
        reactor: Any,
        config: Config,
        read: Callable[[], Config],
        access: Access,
        wire: ServerFactory,
        monitoring: Monitoring,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._read = read
        self._access = access
        self._wire = wire
        self._monitoring = monitoring
        self._retired: list[LocalDirectory] = []

    async def reload(self) -> None:
        """
        Read it, and if it is good, act accordingly.
        """
        made: dict[str, LocalDirectory] = {}
        try:
            config = await self._in_thread(self._read)
            made = self._access.prepare(config)
            await self._in_thread(lambda: check_directories(config, made))
        except ConfigError as error:
            RELOAD_REFUSED.log(self.log, reason=str(error))
            for directory in made.values():
                await directory.close()
            return
        self._use(config, made)

    def _use(self, config: Config, made: Mapping[str, LocalDirectory]) -> None:
        changes = describe(self._config, config)
        self._config = config
        for peer in config.peers:
            self._monitoring.wire.connections.add_peer(peer)
            self._monitoring.shared.add_peer(peer)
        self._retired += self._access.use(config, made)
        self._wire.limits.configure(config)
        self._wire.recheck()
        self._monitoring.watch(self._access.directories.values())
        RELOADED.log(self.log, changes=changes)

    @property
    def is_untidy(self) -> bool:
        """
        Whether :meth:`tidy` has anything to do, now or later.
        """
        return bool(self._retired)

    async def tidy(self) -> None:
        """
        Close directories that are offered no more, once nobody has them open.
        """
        idle = [each for each in self._retired if not each.in_use]
        self._retired = [each for each in self._retired if each not in idle]
        for directory in idle:
            await directory.close()

    async def close(self) -> None:
        """
        Close them in any case.
        """
        retired, self._retired = self._retired, []
        for directory in retired:
            await directory.close()

    def _in_thread(self, function: Callable[[], T]) -> Deferred[T]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, function)


def describe(old: Config, new: Config) -> str:
    """
    What differs, in one line.
    """
    parts = [
        _differences("directories", old.directories, new.directories),
        _differences("peers", old.peers, new.peers),
    ]
    changed = [
        each.name
        for each in fields(ServiceConfig)
        if getattr(old.service, each.name) != getattr(new.service, each.name)
    ]
    if not _LIMITS.isdisjoint(changed):
        parts.append("limits of the service")
    later = [name for name in changed if name not in _LIMITS]
    if old.privkey != new.privkey:
        later.append("privkey")
    if later:
        parts.append(f"not before the next start: {', '.join(later)}")
    return "; ".join(filter(None, parts)) or "nothing has changed"


def _differences(
    what: str, old: Mapping[str, object], new: Mapping[str, object]
) -> str:
    words = [f"{name} is new" for name in new if name not in old]
    words += [f"{name} is gone" for name in old if name not in new]
    words += [
        f"{name} has changed" for name in new if name in old and new[name] != old[name]
    ]
    return f"{what}: {', '.join(words)}" if words else ""
