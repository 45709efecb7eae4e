"""
Stores of a peer, for the contract suite: over a connection in memory, and over TLS.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import endpoints
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from realize.config import DirectorySettings
from realize.net.keys import public_bytes
from realize.store.directory import LocalDirectory
from realize.store.interface import Destination, Source
from realize.store.work import WorkPool
from realize.wire.commands import Granted
from realize.wire.compression import Compression
from realize.wire.remote import Connection, connect
from realize.wire.server import ServerFactory
from tests.support.threads import QueueReactor
from tests.support.wire import LAPTOP, MemoryService, Net

T = TypeVar("T")

PEER = "laptop"


class RemotePair:
    """
    What both have in common: a service whose directories are on this host.

    :param threads: makes the threads of a directory; given its number.
    """

    def __init__(self, service: MemoryService, reactor: Any, make_threads: Any) -> None:
        self._service = service
        self._reactor = reactor
        self._make_threads = make_threads
        self._directories: list[LocalDirectory] = []
        self.connection: Connection

    def wait(self, answer: Deferred[T]) -> T:
        """
        See :class:`tests.contract.pairs.Pair`.
        """
        raise AssertionError("a subclass waits")

    def open_source(self, path: Path) -> Source:
        """
        See :class:`tests.contract.pairs.Pair`.
        """
        name = self._offer(DirectorySettings(path), replace=False)
        return self.run(self.connection.open_source(name, settle_ns=0))

    def open_destination(
        self, path: Path, replace: bool = True, **settings: Any
    ) -> Destination:
        """
        See :class:`tests.contract.pairs.Pair`.
        """
        name = self._offer(DirectorySettings(path, **settings), replace)
        return self.run(self.connection.open_destination(name))

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        """
        Begin an operation and wait for its answer.
        """
        return self.wait(Deferred.fromCoroutine(asked))

    def close_directories(self) -> None:
        """
        Once nothing can use them any more.
        """
        for directory in self._directories:
            self.run(directory.close())

    def _offer(self, settings: DirectorySettings, replace: bool) -> str:
        number = len(self._directories)
        name = f"directory-{number}"
        threads: ThreadPool = self._make_threads(number)
        directory = LocalDirectory(settings.path.name, settings, self._reactor, threads)
        self._directories.append(directory)
        directories: dict[str, Any] = self._service.directories
        directories[name] = directory
        granted = Granted(name, take=True, put=True, replace=replace)
        self._service.rights.setdefault(PEER, {})[name] = granted
        return name


class MemoryPair(RemotePair):
    """
    Over a connection in memory that cuts what it delivers into pieces of any size.
    """

    def __init__(self, make_threads: Any) -> None:
        self._queue = QueueReactor()
        self._net = Net()
        super().__init__(self._net.service, self._queue, make_threads)
        sizes = random.Random(1)  # noqa: S311
        self._client = self._net.client(segment=lambda: sizes.randrange(1, 50_000))
        self.connection = self._client.connection()

    def wait(self, answer: Deferred[T]) -> T:
        """
        See :class:`tests.contract.pairs.Pair`.
        """
        results: list[Any] = []
        answer.addBoth(results.append)

        def arrived() -> bool:
            self._client.wires.pump()
            return bool(results)

        self._queue.run_until(arrived)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return cast(T, results[0])

    def close(self) -> None:
        """
        See :class:`tests.contract.pairs.Pair`.
        """
        self.run(self.connection.close())
        self.run(self._net.factory.stop())
        self.close_directories()


class TlsPair(RemotePair):
    """
    Over TLS on the loopback interface, with a real reactor of its own, which turns
    while something is waited for.  All content that shrinks is compressed on the way.
    """

    def __init__(self, make_threads: Any) -> None:
        clock: Any = EPollReactor()
        self._turning = clock
        service = MemoryService(clock)
        super().__init__(service, clock, make_threads)
        server_key = Ed25519PrivateKey.generate()
        client_key = Ed25519PrivateKey.generate()
        service.peers = {public_bytes(client_key): PEER}
        self._threads = WorkPool(clock, name="zstd")
        compression = Compression(self._threads, "always", smallest=1)
        self._factory = ServerFactory(service, clock, compression=compression)
        listening = self._factory.listening(server_key)
        self._port = clock.listenTCP(0, listening, interface="127.0.0.1")
        self.connection = self.run(
            connect(
                endpoints.TCP4ClientEndpoint(
                    clock, "127.0.0.1", self._port.getHost().port
                ),
                client_key,
                "archive",
                public_bytes(server_key),
                LAPTOP[:16],
                clock,
                compression=compression,
            )
        )

    def wait(self, answer: Deferred[T]) -> T:
        """
        See :class:`tests.contract.pairs.Pair`.
        """
        results: list[Any] = []
        answer.addBoth(results.append)
        until = self._turning.seconds() + 30
        while not results:
            assert self._turning.seconds() < until, "no answer in 30 s"
            self._turning.iterate(0.1)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return cast(T, results[0])

    def close(self) -> None:
        """
        See :class:`tests.contract.pairs.Pair`.
        """
        self.run(self.connection.close())
        self.run(self._factory.stop())
        self.wait(maybeDeferred(self._port.stopListening))
        self.close_directories()
        self._threads.close()
        self._turning.removeAll()
