"""
A service in memory, and clients that are connected to it in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, deferLater

from realize.conflicts import USUAL, Asked
from realize.net.throttled import Shared, ThrottledFactory
from realize.observe.levels import Levels
from realize.observe.recorder import LOCAL, Party
from realize.store.interface import Destination, Source
from realize.wire.client import ClientLink
from realize.wire.commands import Granted
from realize.wire.compression import Compression, Mode
from realize.wire.remote import Connection
from realize.wire.server import ServerFactory, ServerLink
from realize.wire.status import DirectoryStatus
from tests.support.memory.destination import MemoryDestination
from tests.support.memory.disk import Disk
from tests.support.memory.link import Link
from tests.support.memory.source import MemorySource
from tests.support.transports import Connected, Stranger

T = TypeVar("T")

#: The key of the peer ``laptop``, and a token.
LAPTOP = b"L" * 32
TOKEN = b"t" * 16


@define(slots=False)
class MemoryDirectory:
    """
    A directory that is a :class:`Disk`.

    :ivar opened: what was opened so far, each with its arguments.
    :ivar make_source: makes its sources.
    :ivar make_destination: makes its destinations.
    """

    clock: Clock
    disk: Disk = field(factory=Disk)
    opened: list[tuple[Any, ...]] = field(factory=list)
    make_source: Callable[[], Source] | None = None
    make_destination: Callable[[], Destination] | None = None

    async def open_source(
        self, below: bytes = b"", settle_ns: int = -1, party: Party = LOCAL
    ) -> Source:
        """
        A source; *below* is only noted.
        """
        self.opened.append(("source", below, settle_ns))
        if self.make_source is not None:
            return self.make_source()
        return MemorySource(self.disk, Link(self.clock))

    async def open_destination(
        self,
        below: bytes = b"",
        replace: bool = True,
        party: Party = LOCAL,
        conflicts: Asked = USUAL,
    ) -> Destination:
        """
        A destination; *below* is only noted.
        """
        self.opened.append(("destination", below, replace))
        if self.make_destination is not None:
            return self.make_destination()
        return MemoryDestination(self.disk, Link(self.clock))


@define
class MemoryService:
    """
    What is offered, to whom; all of it can be changed at any time.
    """

    clock: Clock
    peers: dict[bytes, str] = field(factory=lambda: {LAPTOP: "laptop"})
    controllers: set[str] = field(factory=set)
    logged: list[tuple[Levels, str, int | None]] = field(factory=list)
    rights: dict[str, dict[str, Granted]] = field(factory=dict)
    directories: dict[str, MemoryDirectory] = field(factory=dict)

    def peer_name(self, key: bytes) -> str | None:
        """
        The name of the peer with this key.
        """
        return self.peers.get(key)

    def granted(self, peer: str) -> Mapping[str, Granted]:
        """
        What a peer may use.
        """
        return self.rights.get(peer, {})

    def may_control(self, peer: str) -> bool:
        """
        Whether a peer may control the service.
        """
        return peer in self.controllers

    def log_at(self, levels: Levels, by: str, seconds: int | None) -> Levels:
        """
        Remember who wants what to be logged, and for how long.
        """
        before = self.logged[-1][0] if self.logged else Levels()
        self.logged.append((levels, by, seconds))
        return before

    async def status(self) -> list[DirectoryStatus]:
        """
        The directories, with nothing to say about them.
        """
        return [DirectoryStatus(name, "", 0, 0, 0, [], []) for name in self.directories]

    def directory(self, name: str) -> MemoryDirectory:
        """
        The directory with this id.
        """
        return self.directories[name]

    def is_offered(self, name: str, directory: object) -> bool:
        """
        Whether this id still stands for it.
        """
        return self.directories.get(name) is directory

    def offer(
        self, name: str, peer: str = "laptop", disk: Disk | None = None, **rights: bool
    ) -> MemoryDirectory:
        """
        Offer a directory to a peer; all rights unless some are named.
        """
        granted = Granted(
            name, **(rights or {"take": True, "put": True, "replace": True})
        )
        self.rights.setdefault(peer, {})[name] = granted
        return self.directories.setdefault(
            name, MemoryDirectory(self.clock, disk or Disk(name))
        )


@define
class Soon:
    """
    Workers without threads: the work is done at the next turn of a clock.
    """

    clock: Clock

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """
        Do it soon.
        """
        return deferLater(self.clock, 0, function, *args)


class Net:
    """
    A server in memory, and whoever connects to it.

    :param server_can: whether the server compresses if a client asks for it.
    :param client_wants: how clients want content to be compressed; by default they
        know nothing of that.
    :ivar clock: what everybody waits by.
    """

    def __init__(
        self, server_can: bool = False, client_wants: Mode | None = None
    ) -> None:
        self.clock = Clock()
        workers = Soon(self.clock)
        self._compression = (
            Compression(workers, client_wants, smallest=1) if client_wants else None
        )
        compression = Compression(workers, smallest=1) if server_can else None
        self.service = MemoryService(self.clock)
        self._keys: dict[Any, bytes] = {}
        self.factory = ServerFactory(
            self.service,
            self.clock,
            identify=self._keys.__getitem__,
            compression=compression,
        )

    def client(
        self,
        token: bytes = TOKEN,
        key: bytes = LAPTOP,
        segment: Callable[[], int] = lambda: 16 * 1024,
        size: int = 64 * 1024,
        kind: type[ClientLink] = ClientLink,
        pump: bool = True,
    ) -> Client:
        """
        A client, connected and (unless not to be pumped) welcomed.
        """
        link = kind(
            self.clock, "archive", "OWN-KEY", token, compression=self._compression
        )
        server = self.factory.buildProtocol(Stranger())
        ends = (
            self._throttled(link),
            self._throttled(server, self.factory.limits.service.shared),
        )
        wires = Connected(*ends, self.clock, segment, size)
        self._keys[server.transport] = key
        client = Client(link, server, wires)
        link.handshakeCompleted()
        server.handshakeCompleted()
        if pump:
            wires.pump()
        return client

    def _throttled(self, protocol: IProtocol, *shared: Shared) -> IProtocol:
        factory = ThrottledFactory(
            Factory.forProtocol(lambda: protocol), self.clock, *shared
        )
        connection = factory.buildProtocol(Stranger())
        assert connection is not None
        return connection


@define
class Client:
    """
    A client and the server's end of its connection.
    """

    link: ClientLink
    server: ServerLink
    wires: Connected

    def connection(self) -> Connection:
        """
        The connection, which has been welcomed.
        """
        return Connection(self.link, now(self.link.welcomed))

    def run(self, asked: Coroutine[Deferred[Any], Any, T]) -> T:
        """
        The answer to a request, after everything that moves has moved.
        """
        waiting = Deferred.fromCoroutine(asked)
        self.wires.pump()
        return now(waiting)

    def begin(self, asked: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """
        Send a request without waiting for anything.
        """
        return Deferred.fromCoroutine(asked)


def now(waiting: Deferred[T]) -> T:
    """
    The result that a Deferred has; raises the error that it has.
    """
    results: list[T] = []
    errors: list[Any] = []

    def keep(result: T) -> T:
        results.append(result)
        return result

    waiting.addCallbacks(keep, errors.append)
    if errors:
        errors[0].raiseException()
    assert results, "there is no result yet"
    return results[0]
