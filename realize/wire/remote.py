"""
Connections to peers: what may be asked of one who has let us in.

Nothing above this module knows of AMP: what can go wrong is
:class:`~realize.errors.PeerError`, :class:`~realize.errors.PeerGone` and
:class:`~realize.errors.PeerRefused`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from realize.conflicts import USUAL, Asked
from realize.errors import NotWelcomed, PeerGone
from realize.net.keys import public_bytes
from realize.net.throttled import Shared, ThrottledConnection, ThrottledFactory
from realize.net.tls import client_factory, connection_error
from realize.observe.metrics import CommandMetrics
from realize.peers import public_key_text
from realize.wire import commands
from realize.wire.client import ClientLink
from realize.wire.commands import Granted, Greeting
from realize.wire.compression import Compression
from realize.wire.status import Status, Throttle, rate_text
from realize.wire.stores import RemoteDestination, RemoteSource, store_name
from realize.wire.waiting import Deadline, LateAnswers

#: Seconds before a peer that cut the connection before its welcome is tried again: the
#: first time, and the last; twice as long each time.
FIRST_DELAY: Final = 0.05
LAST_DELAY: Final = 0.8

_ADVICE: Final = "; is the address right, and realized running there?"


class Connection:
    """
    A connection to a peer who has let us in.

    :ivar peer: its name.
    :ivar software: what it calls itself.
    :ivar granted: the directories that this host may use there, by their ids.
    :ivar features: what it can do, as :data:`realize.wire.commands.FEATURES`.
    """

    def __init__(self, link: ClientLink, greeting: Greeting) -> None:
        self._link = link
        self._late = LateAnswers(link)
        self.peer = link.peer
        self.software = greeting.software
        self.granted: Mapping[str, Granted] = {
            granted.directory: granted for granted in greeting.granted
        }
        self.features = frozenset(greeting.features)

    async def ask(
        self, command: type[commands.Request], quick: bool = False, **arguments: Any
    ) -> Any:
        """
        Send a request and wait for its answer.

        :param quick: it is a small thing to do, whatever the disk is like:
            :data:`~realize.wire.waiting.ANSWER_DEADLINE`.
        :raises PeerError: the answer is an error.
        :raises PeerGone: the connection was lost; what became of the request is not
            known.
        """
        name = command.commandName.decode()
        deadline = Deadline(self._link, name) if quick else None
        self._late.begin(name)
        try:
            return await self._link.ask(command, **arguments)
        finally:
            self._late.end(name)
            if deadline is not None:
                deadline.cancel()

    @property
    def silent(self) -> float:
        """
        For how many seconds the peer has answered nothing of what it was asked.
        """
        return self._late.silent

    def broken(self, why: str) -> PeerGone:
        """
        Close at once, because of an answer that makes no sense.

        :returns: what to raise.
        """
        self._link.broken(why)
        return PeerGone(f"{self.peer} broke the protocol: {why}")

    async def open_source(
        self, directory: str, below: bytes = b"", settle_ns: int | None = None
    ) -> RemoteSource:
        """
        Open a directory of the peer, or what is below it, to take files from.

        :param settle_ns: nanoseconds for which a file must not have changed; None
            leaves it to the peer.
        :raises PeerError: as :class:`~realize.wire.commands.OpenSource`.
        :raises PeerGone: the connection was lost.
        """
        answer = await self.ask(
            commands.OpenSource,
            quick=True,
            directory=directory,
            below=below,
            settle=settle_ns,
        )
        name = store_name(self.peer, directory, below)
        return RemoteSource(self, name, answer["store"], answer["payload"].head)

    async def open_destination(
        self, directory: str, below: bytes = b"", conflicts: Asked = USUAL
    ) -> RemoteDestination:
        """
        Open a directory of the peer, or one below it, to put files into.

        :param conflicts: what is to be done about files whose names others have.
        :raises PeerError: as :class:`~realize.wire.commands.OpenDestination`.
        :raises PeerGone: the connection was lost.
        """
        answer = await self.ask(
            commands.OpenDestination,
            quick=True,
            directory=directory,
            below=below,
            on_conflict=conflicts.choice,
            backup=conflicts.backup or None,
        )
        name = store_name(self.peer, directory, below)
        return RemoteDestination(self, name, answer["store"], answer["payload"].head)

    # -- limits

    @property
    def throttled(self) -> ThrottledConnection:
        """
        This end of it, below TLS, with its limits.
        """
        return self._link.throttled

    async def set_throttle(
        self,
        scope: str = "connection",
        *,
        name: str | None = None,
        connection: int | None = None,
        rates: Mapping[str, int | None],
        seconds: int | None = None,
    ) -> Throttle:
        """
        Set or lift limits at the other end.

        :param name: of a peer, for the scope ``peer``.
        :param connection: a number, for the scope ``connection``; None for this one.
        :param rates: bytes per second by direction as the other end sees it, ``send``
            and ``receive``; None lifts a limit.
        :param seconds: for which they hold; None for good.
        :returns: what holds now.
        :raises PeerError: as :class:`~realize.wire.commands.SetThrottle`.
        :raises PeerGone: the connection was lost.
        """
        texts = {way: rate_text(rate) for way, rate in rates.items()}
        answer = await self.ask(
            commands.SetThrottle,
            quick=True,
            scope=scope,
            name=name,
            connection=connection,
            send=texts.get("send"),
            receive=texts.get("receive"),
            seconds=seconds,
        )
        throttle: Throttle = answer["payload"].head
        return throttle

    async def get_throttle(
        self,
        scope: str = "connection",
        *,
        name: str | None = None,
        connection: int | None = None,
    ) -> Throttle:
        """
        The limits of one scope at the other end.

        :raises PeerError: as :class:`~realize.wire.commands.GetThrottle`.
        :raises PeerGone: the connection was lost.
        """
        answer = await self.ask(
            commands.GetThrottle,
            quick=True,
            scope=scope,
            name=name,
            connection=connection,
        )
        throttle: Throttle = answer["payload"].head
        return throttle

    async def set_log_level(self, level: str, seconds: int | None = None) -> str:
        """
        Change what the peer logs.

        :param level: as :meth:`realize.observe.levels.Levels.parse` takes it.
        :param seconds: for which it holds; None for good.
        :returns: what was logged before.
        :raises PeerError: as :class:`~realize.wire.commands.SetLogLevel`.
        :raises PeerGone: the connection was lost.
        """
        answer = await self.ask(
            commands.SetLogLevel, quick=True, level=level, seconds=seconds
        )
        before: str = answer["before"]
        return before

    async def get_status(self) -> Status:
        """
        What the peer is doing.

        :raises NotAllowed: this host has not the right ``control`` there.
        :raises PeerGone: the connection was lost.
        """
        status: Status = (await self.ask(commands.GetStatus, quick=True))[
            "payload"
        ].head
        return status

    async def close(self) -> None:
        """
        Close it, and with it all stores.  Returns once it is closed.
        """
        await self._link.close_and_wait()


async def connect(
    endpoint: IStreamClientEndpoint,
    private_key: Ed25519PrivateKey,
    peer_name: str,
    peer_key: bytes,
    token: bytes,
    clock: IReactorTime,
    metrics: CommandMetrics | None = None,
    limits: Shared | None = None,
    where: str = "",
    compression: Compression | None = None,
) -> Connection:
    """
    Connect to a peer and wait until it has let us in.

    A peer that is flooded with connections cuts some of them: then it is tried again,
    a few times, before anybody hears of it.

    :param private_key: of this host.
    :param peer_name: what this host's configuration calls the peer.
    :param peer_key: the public key that it must have, 32 bytes.
    :param token: 16 random bytes, the same for each connection of a session.
    :param metrics: where requests are counted; by default, where nobody looks.
    :param limits: what the connection obeys beside its own limits; by default none.
    :param where: the address, for people.
    :param compression: how content is compressed on the way; by default it is not.
    :raises PeerGone: it could not be reached; trying again later can help.
    :raises PeerRefused: it does not want us, or is not who we expected; says what to
        do.
    :raises Incompatible: it has another version of the protocol; says which end to
        update.
    """
    delay = FIRST_DELAY
    while True:
        try:
            return await _connect(
                endpoint,
                private_key,
                peer_name,
                peer_key,
                token,
                clock,
                metrics,
                limits,
                where,
                compression,
            )
        except NotWelcomed:
            if delay > LAST_DELAY:
                raise
        await deferLater(clock, delay)
        delay *= 2


async def _connect(
    endpoint: IStreamClientEndpoint,
    private_key: Ed25519PrivateKey,
    peer_name: str,
    peer_key: bytes,
    token: bytes,
    clock: IReactorTime,
    metrics: CommandMetrics | None = None,
    limits: Shared | None = None,
    where: str = "",
    compression: Compression | None = None,
) -> Connection:
    own_key = public_key_text(public_bytes(private_key))
    link = ClientLink(clock, peer_name, own_key, token, metrics, compression)
    factory = Factory.forProtocol(lambda: link)
    factory.noisy = False
    secured = client_factory(factory, private_key, peer_key, clock)
    try:
        await endpoint.connect(
            ThrottledFactory(secured, clock, limits or Shared(clock))
        )
    except (ConnectError, OSError):
        why = connection_error(Failure())
        to = f" to {where}" if where else ""
        raise PeerGone(f"{peer_name}: cannot connect{to}: {why}{_ADVICE}") from None
    return Connection(link, await link.welcomed)
