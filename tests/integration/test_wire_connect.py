"""
Connecting over real sockets: what becomes of it, and how the socket is set.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.policies import ProtocolWrapper

from realize.errors import PeerGone, PeerRefused
from realize.net.keys import public_bytes
from realize.peers import public_key_text
from realize.wire.remote import Connection, connect
from realize.wire.server import ServerFactory
from tests.support.wire import MemoryService

clock: Any = reactor
KEY = Ed25519PrivateKey.generate()
SERVER_KEY = Ed25519PrivateKey.generate()


async def connect_to(
    port: int,
    server_key: Ed25519PrivateKey = SERVER_KEY,
    key: Ed25519PrivateKey = KEY,
) -> Connection:
    """
    Connect to a port of this host.
    """
    return await connect(
        endpoints.TCP4ClientEndpoint(clock, "127.0.0.1", port),
        key,
        "archive",
        public_bytes(server_key),
        bytes(16),
        clock,
    )


@define
class Server:
    """
    A server on loopback.
    """

    factory: ServerFactory
    port: int


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[Server]:
    """
    A server that knows :data:`KEY`.
    """
    service = MemoryService(clock)
    service.peers = {public_bytes(KEY): "laptop"}
    factory = ServerFactory(service, clock)
    port = clock.listenTCP(0, factory.listening(SERVER_KEY), interface="127.0.0.1")
    yield Server(factory, port.getHost().port)
    await port.stopListening()
    await factory.stop()


@pytest_twisted.ensureDeferred
async def test_nobody_listens() -> None:
    """
    A peer that cannot be reached can be tried again.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(PeerGone, match=r"archive: cannot connect: .*refused"):
            await connect_to(bound.getsockname()[1])


@pytest_twisted.ensureDeferred
async def test_the_key_is_not_known(server: Server) -> None:
    """
    The handshake succeeds, and still it is a refusal; it says which key to add where.
    """
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(PeerRefused) as raised:
        await connect_to(server.port, key=stranger)
    own = public_key_text(public_bytes(stranger))
    assert "archive did not let this host in" in str(raised.value)
    assert f'pubkey = "{own}"' in str(raised.value)


@pytest_twisted.ensureDeferred
async def test_another_server(server: Server) -> None:
    """
    A server with another key is not talked to.
    """
    with pytest.raises(PeerRefused) as raised:
        await connect_to(server.port, server_key=Ed25519PrivateKey.generate())
    assert "it has another key than the one expected" in str(raised.value)
    assert "compare the pubkey that is configured here" in str(raised.value)
    assert public_key_text(public_bytes(KEY)) not in str(raised.value)
    assert server.factory.connections() == []


class Closes(Protocol):
    """
    Closes at once.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class Greets(Protocol):
    """
    Speaks another protocol.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 mail.example ESMTP\r\n")


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        (Closes, PeerGone, "cut the connection without a word of welcome"),
        (Greets, PeerRefused, "it is no realized"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_realized(
    kind: type[Protocol], error: type[Exception], text: str
) -> None:
    """
    Something else listens there; who only closes may be too busy.
    """
    factory = Factory.forProtocol(kind)
    factory.noisy = False
    port = clock.listenTCP(0, factory, interface="127.0.0.1")
    try:
        with pytest.raises(error, match=text):
            await connect_to(port.getHost().port)
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_sockets(server: Server) -> None:
    """
    Both ends send at once, ask whether the other host is there, and leave it to that:
    no timeout ends a connection whose peer is only busy.
    """
    connection = await connect_to(server.port)
    (there,) = server.factory.links
    for link in (connection._link, there):
        transport: Any = link.transport
        while isinstance(transport, ProtocolWrapper):
            transport = transport.transport
        handle: socket.socket = transport.getHandle()
        tcp = socket.IPPROTO_TCP
        assert handle.getsockopt(tcp, socket.TCP_NODELAY)
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert handle.getsockopt(tcp, socket.TCP_KEEPIDLE) == 60
        assert handle.getsockopt(tcp, socket.TCP_KEEPINTVL) == 10
        assert handle.getsockopt(tcp, socket.TCP_KEEPCNT) == 6
        assert handle.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 0
    await connection.close()


@pytest.mark.parametrize("asked", [False, True])
@pytest_twisted.ensureDeferred
async def test_the_end_takes_no_round_trip(server: Server, asked: bool) -> None:
    """
    When all that was asked is answered, closing waits for nothing that the server does;
    else until it has read what was sent.
    """
    connection = await connect_to(server.port)
    (there,) = server.factory.links
    below: Any = there.transport
    while isinstance(below, ProtocolWrapper):
        below = below.transport
    below.pauseProducing()
    asking = Deferred.fromCoroutine(connection.get_throttle()) if asked else None
    closing = Deferred.fromCoroutine(connection.close())
    if asking is not None:
        await deferLater(clock, 0.05)
        assert not closing.called
        below.resumeProducing()
        with pytest.raises(PeerGone):
            await asking
    await closing
    assert connection._link.gone
    below.resumeProducing()
