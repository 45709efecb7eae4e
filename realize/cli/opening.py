"""
From SRC and DST to open stores, and back.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from realize.accounts import Accounts
from realize.cli.endpoints import (
    LocalPlace,
    PeerPlace,
    Place,
    RemotePlace,
    SshPlace,
    other_party,
)
from realize.cli.listening import Silence
from realize.cli.report import Ends
from realize.config import DirectorySettings
from realize.conflicts import USUAL, Asked
from realize.errors import ConfigError, PeerError
from realize.net.ssh_command import SshChoice, SshHost
from realize.observe.recorder import Party, Records, session_name
from realize.paths import printable
from realize.peers import Address
from realize.store.directory import DEFAULT_SETTLE_NS, LocalDirectory
from realize.store.guard import ignore_lease_signals
from realize.store.interface import Destination, Source
from realize.store.work import WorkPool

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from realize.cli.throttling import Throttling
    from realize.net.ssh_start import StartedSsh
    from realize.net.throttled import Shared
    from realize.observe.metrics import CommandMetrics, CompressionMetrics
    from realize.wire.compression import Compression, Mode
    from realize.wire.remote import Connection

#: Bytes of the token that a peer knows this run by, over all its connections.
TOKEN_SIZE: Final = 16


class Opener:
    """
    Opens the two ends of one move, as often as its connections are lost.

    :param key: where this host's private key is; None if both ends are local.
    :param settle: seconds that files must not have changed for; None for what suits
        the source.
    :param metrics: where requests to peers are counted; by default, nowhere.
    :param throttling: the limits of the move; by default there are none.
    :param compress: whether content is compressed on its way to or from peers.
    :param compressed: where that is counted; by default, nowhere.
    :param ssh: how hosts are reached that are no peers.
    :param started: what runs already and is used first, by host.
    :param conflicts: what is to be done about two files of one name.
    :raises ConfigError: the key can't be read.
    """

    def __init__(
        self,
        reactor: Any,
        source: Place,
        destination: Place,
        key: Path | None,
        settle: float | None,
        metrics: CommandMetrics | None = None,
        throttling: Throttling | None = None,
        compress: Mode = "auto",
        compressed: CompressionMetrics | None = None,
        ssh: SshChoice | None = None,
        started: Mapping[SshHost, StartedSsh] | None = None,
        conflicts: Asked = USUAL,
    ) -> None:
        self._conflicts = conflicts
        self._ssh = ssh or SshChoice()
        self._started = dict(started or {})
        self._throttling = throttling
        self._compress: Mode = compress
        self._compressed = compressed
        self._compression: Compression | None = None
        self._threads: WorkPool | None = None
        self._metrics = metrics
        self._reactor = reactor
        self._source = source
        self._destination = destination
        self._settle_ns = (
            DEFAULT_SETTLE_NS if settle is None else round(settle * 1_000_000_000)
        )
        self._key = _load(key) if key else None
        self._token = secrets.token_bytes(TOKEN_SIZE)
        self._directories: dict[bytes, LocalDirectory] = {}
        self._connections: dict[str, Connection] = {}
        self._accounts = Accounts()

    @property
    def ends(self) -> Ends:
        """
        What messages call the two ends.
        """
        return Ends(str(self._source), str(self._destination))

    @property
    def compressed(self) -> tuple[int, int]:
        """
        Bytes of content that crossed compressed, and what they were compressed to.
        """
        shared = self._compression
        return (0, 0) if shared is None else (shared.content, shared.crossed)

    @property
    def session(self) -> str:
        """
        What logs call this run, here and at peers.
        """
        return session_name(self._token)

    @asynccontextmanager
    async def open_source(self) -> AsyncIterator[Source]:
        """
        The source alone; as :meth:`open`.
        """
        async with AsyncExitStack() as stack:
            source = await self._open_source(stack, {})
            stack.push_async_callback(source.close)
            yield source

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Source, Destination]]:
        """
        Both stores; leaving closes them and their connections.

        Both ends at one peer share a connection.

        :raises PeerGone: a peer can't be reached.
        :raises PeerRefused: a peer does not want us, or is not the one we expect.
        :raises PeerError: a directory is not there, or we may not use it.
        """
        async with AsyncExitStack() as stack:
            connections: dict[str, Connection] = {}
            source = await self._open_source(stack, connections)
            stack.push_async_callback(source.close)
            destination = await self._open_destination(stack, connections)
            stack.push_async_callback(destination.close)
            yield source, destination

    def silences(self) -> Iterator[Silence]:
        """
        For how long the disks of both ends have not answered.
        """
        for path, directory in self._directories.items():
            yield f"the disk of {printable(path)}", directory.silent()
        for name, connection in self._connections.items():
            yield f"the disk of {name}, or from {name} itself,", connection.silent

    @property
    def peer(self) -> str:
        """
        Who has an end that is not on this host; ``local`` if both are.
        """
        return other_party(self._destination, self._source)

    @property
    def _party(self) -> Party:
        return Party(self.peer, self.session)

    async def close(self) -> None:
        """
        Let go of the threads that local ends used.
        """
        for directory in self._directories.values():
            await directory.close()
        if self._threads is not None:
            self._threads.close()

    async def _open_source(
        self, stack: AsyncExitStack, connections: dict[str, Connection]
    ) -> Source:
        place = self._source
        if isinstance(place, LocalPlace):
            directory = self._local(place)
            with _naming(place):
                return await directory.open_source(
                    place.only, self._settle_ns, self._party
                )
        connection = await self._connect(place, stack, connections)
        with _naming(place):
            return await connection.open_source(
                place.directory, _asked(place), self._settle_ns
            )

    async def _open_destination(
        self, stack: AsyncExitStack, connections: dict[str, Connection]
    ) -> Destination:
        place = self._destination
        if isinstance(place, LocalPlace):
            directory = self._local(place)
            with _naming(place):
                # Nobody has granted anything here.
                asked = evolve(self._conflicts, choice=self._conflicts.choice or "fail")
                return await directory.open_destination(
                    place.below, party=self._party, conflicts=asked
                )
        connection = await self._connect(place, stack, connections)
        with _naming(place):
            return await connection.open_destination(
                place.directory, _asked(place), self._conflicts
            )

    def _local(self, place: LocalPlace) -> LocalDirectory:
        if place.path not in self._directories:
            ignore_lease_signals()
            path = Path(os.fsdecode(place.path)).absolute()
            self._directories[place.path] = LocalDirectory(
                printable(place.path),
                DirectorySettings(path),
                self._reactor,
                accounts=self._accounts,
                # Files that come to their end are logged by MoveLog.
                records=Records.unseen(str(place), tells_files=False),
            )
        return self._directories[place.path]

    async def _connect(
        self,
        place: RemotePlace,
        stack: AsyncExitStack,
        connections: dict[str, Connection],
    ) -> Connection:
        if place.party not in connections:
            if isinstance(place, SshPlace):
                connection = await self._start(place, stack)
            else:
                connection = await self._reach(place)
            stack.push_async_callback(connection.close)
            connections[place.party] = self._connections[place.party] = connection
            if self._throttling is not None:
                await self._throttling.attach(connection)
        return connections[place.party]

    async def _reach(self, place: PeerPlace) -> Connection:
        """
        Connect to a daemon.
        """
        from realize.net.address import client_endpoint
        from realize.wire.remote import connect

        peer = place.peer
        if self._key is None:
            raise ConfigError(f"{place}: a private key is needed to reach a peer")
        address = Address.parse(peer.address or "")
        return await connect(
            client_endpoint(self._reactor, address),
            self._key,
            peer.name,
            peer.public_key,
            self._token,
            self._reactor,
            metrics=self._metrics,
            limits=self._limits(place),
            where=str(address),
            compression=self._shared_compression(),
        )

    async def _start(self, place: SshPlace, stack: AsyncExitStack) -> Connection:
        """
        Have ssh start the other end.
        """
        from realize.wire.through_ssh import connect

        connection, process = await connect(
            self._reactor,
            self._ssh,
            place.host,
            self._token,
            metrics=self._metrics,
            limits=self._limits(place),
            compression=self._shared_compression(),
            started=self._started.pop(place.host, None),
        )
        stack.push_async_callback(process.stop)
        return connection

    def _limits(self, place: RemotePlace) -> Shared | None:
        return self._throttling.shared(place.party) if self._throttling else None

    def _shared_compression(self) -> Compression:
        from realize.wire.compression import Compression

        if self._compression is None:
            self._threads = WorkPool(self._reactor, name="zstd")
            self._compression = Compression(
                self._threads, self._compress, self._compressed
            )
        return self._compression


@contextmanager
def _naming(place: Place) -> Iterator[None]:
    """
    Let an error say at which end it happened.
    """
    try:
        yield
    except PeerError as error:
        text = str(error)
        if isinstance(place, PeerPlace):
            text = text.removeprefix(f"{place.directory}: ")
        elif isinstance(place, SshPlace):
            text = text.removeprefix(f"/{printable(place.path)}: ")
        raise type(error)(f"{place}: {text.removeprefix(f'{place}: ')}") from None


def _asked(place: RemotePlace) -> bytes:
    """
    The path below its directory, as the other end takes it.
    """
    return place.asked if isinstance(place, SshPlace) else place.below


def _load(path: Path) -> Ed25519PrivateKey:
    from realize.net.keys import load_private_key

    return load_private_key(path)
