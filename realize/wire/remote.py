"""
The client's end of a connection, and stores that are a peer's.

Nothing above this module knows of AMP: what can go wrong is
:class:`~realize.errors.PeerError`, :class:`~realize.errors.PeerGone` and
:class:`~realize.errors.PeerRefused`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from realize.errors import (
    BadRequest,
    Incompatible,
    PeerGone,
    PeerRefused,
    RealizeError,
)
from realize.net.keys import public_bytes
from realize.net.throttled import Shared, ThrottledConnection, ThrottledFactory
from realize.net.tls import client_factory, connection_error
from realize.observe.metrics import CommandMetrics
from realize.peers import public_key_text
from realize.wire import commands
from realize.wire.commands import Granted, Greeting
from realize.wire.complaints import Complaints
from realize.wire.compression import Compression
from realize.wire.flow import Budget
from realize.wire.link import Link
from realize.wire.payload import Malformed, Unpacked, pack
from realize.wire.status import Status, Throttle, rate_text, read_rates
from realize.wire.stores import RemoteDestination, RemoteSource, store_name
from realize.wire.waiting import Deadline, LateAnswers

_ADVICE: Final = "; is the address right, and realized running there?"


class ClientLink(Link):
    """
    A connection to a server.

    :param peer: the name that this host's configuration gives the server.
    :param key: the text of this host's public key.
    :param token: of the session.
    :param metrics: where requests are counted; by default, where nobody looks.
    :param compression: how content is compressed on the way; by default it is not.
    :ivar welcomed: fires with the greeting once the server has let us in.
    """

    def __init__(
        self,
        clock: IReactorTime,
        peer: str,
        key: str,
        token: bytes,
        metrics: CommandMetrics | None = None,
        compression: Compression | None = None,
    ) -> None:
        metrics = metrics or commands.command_metrics(CollectorRegistry(), "ask")
        super().__init__(clock, Budget(), Complaints(clock), metrics, compression)
        self.peer = peer
        self._key = key
        self._token = token
        self._was_welcomed = False
        self.welcomed: Deferred[Greeting] = Deferred(self._given_up)

    def _given_up(self, _welcomed: object) -> None:
        self.abort(PeerGone(f"{self.peer}: given up"))

    # -- what the server asks

    @commands.Welcome.responder
    def welcome(self, version: int, payload: Unpacked) -> dict[str, Any]:
        if self._was_welcomed:
            raise Malformed("welcomed twice")
        self._was_welcomed = True
        if version != commands.VERSION:
            older = "there" if version < commands.VERSION else "here"
            self._why = Incompatible(
                f"{self.peer} has version {version} of the protocol, this host "
                f"{commands.VERSION}: update realize {older}"
            )
            greet: Callable[[], None] = self.close
        else:
            try:
                greeting = msgspec.msgpack.decode(payload.head, type=Greeting)
            except msgspec.DecodeError as error:
                raise Malformed(f"a greeting that is none: {error}") from None

            def greet() -> None:
                if not self.ended:
                    if self._compression is not None and "zstd" in greeting.features:
                        self._outgoing.mode = self._compression.mode
                    self.greeted()
                    self.welcomed.callback(greeting)

        # Not before this answer has been sent: no request may come before it.
        self.clock.callLater(0, greet)
        return {
            "version": commands.VERSION,
            "software": commands.SOFTWARE,
            "token": self._token,
            "compress": None if self._compression is None else self._compression.mode,
        }

    @commands.Closing.responder
    def closing(self, text: str, again: bool) -> dict[str, Any]:
        kind = PeerGone if again else PeerRefused
        self._why = self._why or kind(f"{self.peer}: {text}")
        return {}

    @commands.SetThrottle.responder
    def set_throttle(
        self,
        scope: str,
        name: str | None,
        connection: int | None,
        send: str | None,
        receive: str | None,
        seconds: int | None,
    ) -> dict[str, Any]:
        if scope != "connection" or (name, connection, seconds) != (None, None, None):
            raise BadRequest("only this connection can be limited here, and for good")
        own = self.throttled.own
        rates = read_rates(send=send, receive=receive)
        for direction, limit in (("send", own.send), ("receive", own.receive)):
            if direction in rates:
                limit.claim("peer", rates[direction])
        return {
            "payload": pack(
                Throttle(
                    "connection",
                    send=own.send.rate,
                    receive=own.receive.rate,
                    effective_send=self.throttled.send_rate,
                    effective_receive=self.throttled.receive_rate,
                )
            )
        }

    # -- the end

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._hear_why()
        super().connectionLost(reason)
        if not self.welcomed.called:
            self.welcomed.errback(Failure(self.lost(reason)))

    def _hear_why(self) -> None:
        """
        Answers that wait behind one that is being decompressed are lost with the
        connection.  Why it was closed is not.
        """
        if self.ended or not self._decompressing:
            return
        with suppress(Malformed):
            while box := self._next_box():
                if box.get(amp.COMMAND) == commands.Closing.commandName:
                    self.ampBoxReceived(box)

    def lost(self, reason: Failure) -> RealizeError:
        if self._why is not None:
            return self._why
        error = connection_error(reason)
        if self._was_welcomed:
            return PeerGone(f"{self.peer}: the connection was lost: {error}")
        if reason.check(ConnectionLost):
            error = PeerGone("it cut the connection without a word of welcome")
        elif reason.check(ConnectionDone):
            error = PeerRefused("it closed the connection without a word of welcome")
        if isinstance(error, PeerGone):
            return PeerGone(f"{self.peer}: {error}")
        if "certificate verify failed" in str(reason.value):
            return PeerRefused(
                f"{self.peer}: {error}; compare the pubkey that is configured here for "
                f"{self.peer} with the one that it has"
            )
        return PeerRefused(
            f"{self.peer} did not let this host in: {error}. If it should, its "
            f'configuration needs this host\'s key: pubkey = "{self._key}"'
        )


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
        if quick:
            deadline = Deadline(self._link, name)
            try:
                return await self._link.ask(command, **arguments)
            finally:
                deadline.cancel()
        self._late.begin(name)
        try:
            return await self._link.ask(command, **arguments)
        finally:
            self._late.end(name)

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
        self, directory: str, below: bytes = b""
    ) -> RemoteDestination:
        """
        Open a directory of the peer, or one below it, to put files into.

        :raises PeerError: as :class:`~realize.wire.commands.OpenDestination`.
        :raises PeerGone: the connection was lost.
        """
        answer = await self.ask(
            commands.OpenDestination, quick=True, directory=directory, below=below
        )
        name = store_name(self.peer, directory, below)
        return RemoteDestination(
            self,
            name,
            answer["store"],
            answer["payload"].head,
            takes_holes="holes" in self.features,
        )

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
