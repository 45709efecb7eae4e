"""
The server's end of connections: who is let in, how often, and in whose place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from txaio.tx import make_logger

from realize.errors import RealizeError
from realize.net.limits import Limits
from realize.net.throttled import ThrottledFactory
from realize.net.tls import MAX_PENDING, RefusalReason, peer_public_key, server_factory
from realize.observe.events import PEER_CONNECTED, PEER_LEFT
from realize.observe.metrics import (
    CommandMetrics,
    CompressionMetrics,
    ConnectionMetrics,
)
from realize.observe.recorder import Party, session_name
from realize.peers import public_key_text
from realize.texts import Label
from realize.wire import commands
from realize.wire.complaints import Complaints
from realize.wire.compression import MODES, Compression
from realize.wire.control import Control, ControlledService, Teller
from realize.wire.flow import MAX_REQUESTS, Budget
from realize.wire.payload import MAX_PAYLOAD, pack

#: Connections of one peer, and in all.
MAX_CONNECTIONS_PER_PEER: Final = 16
MAX_CONNECTIONS: Final = 256

#: Connections of one peer, and in all, that have not answered the welcome yet.
MAX_UNGREETED_PER_PEER: Final = 8
MAX_UNGREETED: Final = 64


@frozen
class WireMetrics:
    """
    What a server counts.
    """

    connections: ConnectionMetrics
    commands: CommandMetrics
    compression: CompressionMetrics

    @classmethod
    def create(cls, registry: CollectorRegistry, peers: Iterable[str]) -> WireMetrics:
        """
        :param peers: the configured names.
        """
        return cls(
            ConnectionMetrics.create(registry, peers),
            commands.command_metrics(registry, "answer"),
            CompressionMetrics.create(registry),
        )


class ServerLink(Control):
    """
    A connection of a client.

    :ivar key: the public key of the peer, once it has proved it.
    :ivar token: of its session, once it has answered the welcome.
    :ivar software: what it calls itself.
    :ivar address: where it connected from.
    """

    log = make_logger()

    def __init__(self, factory: ServerFactory, address: IAddress | None) -> None:
        super().__init__(
            factory.service,
            factory.clock,
            factory.budget,
            factory.complaints,
            factory.metrics.commands,
            factory.compression,
        )
        self._factory = factory
        self.limits = factory.limits
        self.everybody = factory
        self._welcomed = False
        self.address = _address_text(address)
        self.peer = self.address
        self.key = b""
        self.token = b""
        self.software = Label("")
        self.since = self.clock.seconds()

    @property
    def party(self) -> Party:
        """
        For whom stores are opened.
        """
        return Party(self.peer, session_name(self.token))

    def handshakeCompleted(self) -> None:
        super().handshakeCompleted()
        self.key = self._factory.identify(self.transport)
        self.peer = self._service.peer_name(self.key) or self.peer
        if self._factory.arrived(self):
            Deferred.fromCoroutine(self._welcome())

    async def _welcome(self) -> None:
        greeting = commands.Greeting(
            software=commands.SOFTWARE,
            granted=list(self._service.granted(self.peer).values()),
            max_payload=MAX_PAYLOAD,
            max_requests=MAX_REQUESTS,
            features=[
                each
                for each in commands.FEATURES
                if each != "zstd" or self._compression is not None
            ],
        )
        try:
            answer = await self.ask(
                commands.Welcome, version=commands.VERSION, payload=pack(greeting)
            )
        except RealizeError as error:
            self._factory.refuse(self.peer, "protocol", str(error))
            return
        if len(answer["token"]) != commands.TOKEN_SIZE:
            self.broken("a token of the wrong size")
        elif answer["version"] != commands.VERSION:
            self._complain_of_version(answer["version"], answer["software"])
        else:
            self.token = answer["token"]
            self.software = answer["software"]
            if self._compression is not None and answer["compress"] in MODES:
                self._outgoing.mode = answer["compress"]
            self._welcomed = self._factory.joined(self)
            if self._welcomed:
                self.session = self.limits.joined(
                    self.throttled,
                    self.peer,
                    (self.key, self.token),
                    Teller(self).tell,
                )
                self.greeted()
                counts = self._factory.metrics.connections
                counts.opened.labels(self.peer).inc()
                counts.open.labels(self.peer).inc()
                self.complaints.tell(
                    self.peer,
                    PEER_CONNECTED,
                    peer=self.peer,
                    address=self.address,
                    software=self.software,
                    connection=self.session.number,
                )

    def _complain_of_version(self, version: int, software: str) -> None:
        older = "there" if version < commands.VERSION else "here"
        self._factory.refuse(
            self.peer,
            "protocol",
            f"it has protocol version {version} ({software}), this end "
            f"{commands.VERSION}: update realize {older}",
        )
        self.close()

    @property
    def is_welcomed(self) -> bool:
        """
        Whether the peer was let in.
        """
        return self._welcomed

    def may_ask(self, command: type[commands.Request] | None) -> bool:
        return self._welcomed

    def broken(self, why: str) -> None:
        self._factory.refuse(self.peer, "protocol", why)
        super().broken(why)

    def say_goodbye(self, text: str, again: bool) -> None:
        """
        Close, and tell the client why.

        :param again: whether connecting again later can help.
        """
        if not self.ended:
            self.callRemote(commands.Closing, text=text, again=again)
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._factory.left(self)
        if self._welcomed:
            self.limits.left(self.session, self.throttled)
            self._factory.metrics.connections.open.labels(self.peer).dec()
            self.complaints.tell(
                self.peer,
                PEER_LEFT,
                peer=self.peer,
                seconds=self.clock.seconds() - self.since,
                received=self.throttled.received,
                sent=self.throttled.sent,
                connection=self.session.number,
                reason=str(self.lost(reason)).removeprefix(f"{self.peer}: "),
            )


class ServerFactory(Factory):
    """
    Makes the server's end of each connection.

    :param service: what is offered, and to whom.
    :param identify: the public key that the peer has proved to have.
    :ivar metrics: by default, where nobody looks.
    :ivar limits: by default, none.
    :ivar compression: for clients that want it; None if there is none.
    :ivar since: when it was made, by the clock.
    :ivar links: the connections that there are.
    """

    noisy = False

    def __init__(
        self,
        service: ControlledService,
        clock: IReactorTime,
        identify: Callable[[Any], bytes] = peer_public_key,
        metrics: WireMetrics | None = None,
        limits: Limits | None = None,
        compression: Compression | None = None,
    ) -> None:
        self.compression = compression
        self.limits = limits or Limits(clock)
        self.limits.passed = self._count_bytes
        self.since = clock.seconds()
        self.metrics = metrics or WireMetrics.create(CollectorRegistry(), ())
        self.service = service
        self.clock = clock
        self.identify = identify
        self.budget = Budget()
        self.complaints = Complaints(clock)
        self.links: set[ServerLink] = set()
        self._sessions: dict[tuple[bytes, bytes], ServerLink] = {}
        self._stopping = False

    def buildProtocol(self, addr: IAddress | None) -> ServerLink:
        return ServerLink(self, addr)

    def listening(
        self, key: Ed25519PrivateKey, places: int = MAX_PENDING
    ) -> IProtocolFactory:
        """
        What to listen with: this factory, above TLS, above the limits.

        :param key: of this host.
        :param places: most connections in their handshake.
        """
        secured = server_factory(
            self, key, self.is_allowed, self.clock, self.refused, places
        )
        return ThrottledFactory(secured, self.clock, self.limits.service.shared)

    def _count_bytes(self, peer: str, sent: int, received: int) -> None:
        counter = self.metrics.connections.network_bytes
        counter.labels("sent", peer).inc(sent)
        counter.labels("received", peer).inc(received)

    def connections(self) -> list[ServerLink]:
        """
        Those that were welcomed and not lost.
        """
        return [
            link
            for link in self.links
            if link.is_welcomed and link.session.connection is link.throttled
        ]

    def is_allowed(self, key: bytes) -> bool:
        """
        Whether a public key is that of a peer.
        """
        return self.service.peer_name(key) is not None

    def refused(
        self, address: IAddress | None, reason: RefusalReason, text: str
    ) -> None:
        """
        Log that TLS turned a connection away.
        """
        self.refuse(_address_text(address), reason, text)

    def refuse(
        self, peer: str, reason: RefusalReason | Literal["protocol"], text: str
    ) -> None:
        """
        Log and count that a connection is not served, or no longer.

        :param peer: the name of a peer, or the address of a stranger.
        """
        self.metrics.connections.refused.labels(reason).inc()
        self.complaints.refused(peer, text)

    def arrived(self, link: ServerLink) -> bool:
        """
        A peer has proved who it is: whether it is to be welcomed.
        """
        ungreeted = [each for each in self.links if not each.token]
        same_peer = sum(each.key == link.key for each in ungreeted)
        self.links.add(link)
        if self._stopping:
            link.say_goodbye("the service is stopping", again=True)
        elif not self.is_allowed(link.key):
            link.say_goodbye(_not_known(link.key), again=False)
        elif len(ungreeted) >= MAX_UNGREETED or same_peer >= MAX_UNGREETED_PER_PEER:
            self.refuse(link.peer, "too many", "too many connections at once")
            link.say_goodbye("too many connections at once", again=True)
        else:
            return True
        return False

    def joined(self, link: ServerLink) -> bool:
        """
        A peer has said which session it belongs to: whether it may stay.

        An older connection of the session gives way to it.
        """
        session = (link.key, link.token)
        older = self._sessions.get(session)
        others = [each for each in self.links if each.token and each is not older]
        others.remove(link)
        if (
            len(others) >= MAX_CONNECTIONS
            or sum(each.key == link.key for each in others) >= MAX_CONNECTIONS_PER_PEER
        ):
            self.refuse(link.peer, "too many", "too many connections")
            link.say_goodbye("too many connections", again=True)
            return False
        self._sessions[session] = link
        if older is not None:
            link.predecessor = older
            older.abort(RealizeError("a newer connection took its place"))
        return True

    def left(self, link: ServerLink) -> None:
        """
        A connection is gone.  Its session ends when its stores are closed.
        """
        self.links.discard(link)
        link.when_closed().addCallback(self._forget, link)

    def _forget(self, _closed: None, link: ServerLink) -> None:
        session = (link.key, link.token)
        if self._sessions.get(session) is link:
            del self._sessions[session]

    def recheck(self) -> None:
        """
        Peers or rights have changed: close connections of those that are no peers now.

        Rights need no more than that: they are looked up for each request.
        """
        for link in list(self.links):
            if link.key and self.service.peer_name(link.key) != link.peer:
                link.say_goodbye(_not_known(link.key), again=False)

    async def stop(self) -> None:
        """
        Close all connections and wait until all their stores are closed, which is when
        what they were committing is committed.  Those that come later are sent away.
        """
        self._stopping = True
        links = [*self.links, *self._sessions.values()]
        for link in links:
            link.say_goodbye("the service is stopping", again=True)
        await DeferredList([link.when_closed() for link in links])
        self.limits.stop()


def _not_known(key: bytes) -> str:
    return (
        "this key is not known here any more; if it should be, the configuration here "
        f'needs it: pubkey = "{public_key_text(key)}"'
    )


def _address_text(address: Any) -> str:
    return str(getattr(address, "host", "") or "unknown address")
