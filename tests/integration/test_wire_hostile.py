"""
Strangers and broken peers at a real server: refused without harm, one line each.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.protocols.amp import AmpBox
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from realize.config import DirectorySettings
from realize.errors import UnsafePath
from realize.model import MAX_BATCH_BYTES, Failure, Offer, Prefix, Range
from realize.net.keys import public_bytes
from realize.net.tls import MAX_PENDING_PER_ADDRESS, client_factory
from realize.store.directory import LocalDirectory
from realize.wire.commands import VERSION
from realize.wire.complaints import LINES_PER_SECOND
from realize.wire.flow import MAX_UNREAD
from realize.wire.payload import MAX_PAYLOAD, pack
from realize.wire.remote import Connection, connect
from realize.wire.server import ServerFactory
from tests.support.wire import MemoryService
from tests.wire.test_link import MALFORMED

clock: Any = reactor


@define
class Host:
    """
    A server on loopback with one directory, and the key of its one peer.
    """

    factory: ServerFactory
    port: int
    server_key: Ed25519PrivateKey
    key: Ed25519PrivateKey
    root: Path

    async def connect(self, token: bytes = b"t" * 16) -> Connection:
        """
        Connect as one should.
        """
        return await connect(
            endpoints.TCP4ClientEndpoint(clock, "127.0.0.1", self.port),
            self.key,
            "archive",
            public_bytes(self.server_key),
            token,
            clock,
        )

    async def serves(self) -> None:
        """
        Somebody who behaves is still served.
        """
        connection = await self.connect(b"somebody else...")
        source = await connection.open_source("inbox", settle_ns=0)
        page = await source.list(0)
        assert [file.path for file in page.files] == [b"file"]
        await connection.close()

    async def raw(self) -> Raw:
        """
        Connect with the key of the peer, but speak bytes.
        """
        made = Raw()
        factory = Factory.forProtocol(lambda: made)
        factory.noisy = False
        key = public_bytes(self.server_key)
        await endpoints.TCP4ClientEndpoint(clock, "127.0.0.1", self.port).connect(
            client_factory(factory, self.key, key, clock)
        )
        await made.heard_something
        return made

    async def greeted(self) -> Raw:
        """
        The same, with the welcome answered.
        """
        raw = await self.raw()
        version = b"%d" % VERSION
        raw.write(
            AmpBox(_answer=b"1", version=version, software=b"raw", token=bytes(16))
        )
        return raw

    def address_of(self, number: int) -> tuple[str, int]:
        """
        One of the addresses that a stranger can come from.
        """
        return (f"127.0.0.{2 + number}", 0)


@implementer(IHandshakeListener)
class Raw(Protocol):
    """
    The other end of TLS, without a protocol.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.heard_something: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def write(self, *boxes: AmpBox | bytes) -> None:
        """
        Send boxes and bytes.
        """
        assert self.transport is not None
        for each in boxes:
            self.transport.write(each if isinstance(each, bytes) else each.serialize())

    def handshakeCompleted(self) -> None:
        """
        Nothing to say yet.
        """

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if not self.heard_something.called:
            self.heard_something.callback(None)

    def connectionLost(self, reason: TwistedFailure = connectionDone) -> None:
        self.lost.callback(None)


@define
class Log:
    """
    What the server said about others.
    """

    events: list[Any] = field(factory=list)

    @property
    def lines(self) -> list[Any]:
        """
        Events that are not about peers coming and going.
        """
        return [
            event
            for event in self.events
            if event["log_level"].name != "info"
            and event["log_namespace"].startswith("realize")
        ]


@pytest_twisted.async_yield_fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """
    A host that is set up.
    """
    root = tmp_path / "inbox"
    root.mkdir()
    (root / "file").write_bytes(bytes(MAX_BATCH_BYTES))
    server_key, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    service = MemoryService(clock)
    service.peers = {public_bytes(key): "laptop"}
    directory = LocalDirectory("inbox", DirectorySettings(root), clock)
    service.offer("inbox")
    directories: Any = service.directories
    directories["inbox"] = directory
    factory = ServerFactory(service, clock)
    port = clock.listenTCP(0, factory.listening(server_key), interface="127.0.0.1")
    yield Host(factory, port.getHost().port, server_key, key, root)
    await port.stopListening()
    await factory.stop()
    await directory.close()


def strange(host: Host, sends: bytes, number: int = 0) -> bytes:
    """
    Connect without TLS, say something, and return what is answered until the end.
    """
    address = ("127.0.0.1", host.port)
    with socket.create_connection(address, 20, host.address_of(number)) as stranger:
        stranger.sendall(sends)
        heard = b""
        try:
            while data := stranger.recv(65536):
                heard += data
        except ConnectionResetError:
            pass
        return heard


@pytest.mark.parametrize(
    "sends",
    [b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n", bytes(5000), b"\x16\x03\x01" * 300],
    ids=["plain text", "zeros", "broken TLS"],
)
@pytest_twisted.ensureDeferred
async def test_no_tls(host: Host, sends: bytes) -> None:
    """
    Who does not speak TLS is cut off, with one line that names the address.
    """
    with capturedLogs() as events:
        heard = await deferToThread(strange, host, sends)
        await deferLater(clock, 0.05, lambda: None)
    assert len(heard) < 100
    (line,) = Log(list(events)).lines
    assert line["peer"] == "127.0.0.2"
    await host.serves()


@pytest_twisted.ensureDeferred
async def test_a_thousand_connections(host: Host) -> None:
    """
    Strangers who connect and say nothing keep nobody else out, and are not each worth
    a line.
    """

    def connect_all() -> list[socket.socket]:
        address = ("127.0.0.1", host.port)
        return [
            socket.create_connection(address, 20, host.address_of(0))
            for _ in range(1000)
        ]

    with capturedLogs() as events:
        opened = await deferToThread(connect_all)
        try:
            await host.serves()
            await deferLater(clock, 0.1, lambda: None)
            kept = 0
            for each in opened:
                each.setblocking(False)
                try:
                    kept += each.recv(1) != b""
                except BlockingIOError:
                    kept += 1
                except ConnectionResetError:
                    pass
            assert kept == MAX_PENDING_PER_ADDRESS
        finally:
            for each in opened:
                each.close()
        await deferLater(clock, 1.1, lambda: None)
    lines = Log(list(events)).lines
    told = [line for line in lines if "count" in line]
    # The others are told of when the minute is over.
    assert 0 < sum(line["count"] for line in told) + len(lines) - len(told) <= 1000
    seconds = events[-1]["log_time"] - events[0]["log_time"] + 1
    assert len(lines) <= (LINES_PER_SECOND + 1) * (seconds + 1)


@pytest.mark.parametrize("case", sorted(MALFORMED))
@pytest_twisted.ensureDeferred
async def test_malformed(host: Host, case: str) -> None:
    """
    A peer that does not keep to the protocol is cut off at once, with one line.
    """
    raw = await host.greeted()
    with capturedLogs() as events:
        raw.write(MALFORMED[case] + MALFORMED[case])
        if case == "a welcome for the server":
            await deferLater(clock, 0.1, lambda: None)
            assert b"UNHANDLED" in raw.heard
            assert raw.transport is not None
            raw.transport.loseConnection()
        await raw.lost
        await deferLater(clock, 0.02, lambda: None)
    lines = Log(list(events)).lines
    assert [line["peer"] for line in lines] == ["laptop"] * (
        case != "a welcome for the server"
    )
    await host.serves()


@pytest_twisted.ensureDeferred
async def test_payload_too_large(host: Host) -> None:
    """
    It is refused when it is announced, before a byte of it has come.
    """
    raw = await host.greeted()
    box = AmpBox(_command=b"Write", _ask=b"1", store=b"1")
    box[b"payload"] = b"%d" % (MAX_PAYLOAD + 1)
    raw.write(box)
    await raw.lost
    await host.serves()


@pytest_twisted.ensureDeferred
async def test_answers_that_nobody_reads(host: Host) -> None:
    """
    Who asks for much and reads nothing costs a bounded amount of memory, and nobody
    else waits for it.
    """
    raw = await host.greeted()
    raw.write(
        AmpBox(
            _command=b"OpenSource",
            _ask=b"1",
            directory=b"inbox",
            below=b"",
            settle=b"0",
        )
    )
    while b"store" not in raw.heard:
        await deferLater(clock, 0.01, lambda: None)
    connection = await host.connect(b"another session.")
    source = await connection.open_source("inbox", settle_ns=0)
    (file,) = (await source.list(0)).files
    await source.digest([Prefix(file.path, file.identity, 0)])
    packed = pack([Range(file.path, file.identity, 0, MAX_BATCH_BYTES)])
    transport: Any = raw.transport
    transport.pauseProducing()
    for number in range(200):
        box = AmpBox(_command=b"Read", _ask=b"r%d" % number, store=b"1")
        box[b"payload"] = b"%d" % len(packed)
        raw.write(box, packed.head)
    for _ in range(30):
        await deferLater(clock, 0.02, lambda: None)
        assert host.factory.budget.used < MAX_UNREAD + 8 * MAX_BATCH_BYTES
    assert host.factory.budget.used >= MAX_UNREAD
    await connection.close()
    await host.serves()
    transport.abortConnection()
    await raw.lost
    while host.factory.budget.used:
        await deferLater(clock, 0.01, lambda: None)


@pytest.mark.parametrize(
    "name",
    [b"../out", b"/etc/out", b"a/../../out", b"", b".", b"a//b", b"a\0b", b"x" * 5000],
)
@pytest_twisted.ensureDeferred
async def test_names_that_lead_out(host: Host, name: bytes) -> None:
    """
    Refused for files, as for what is below a directory.
    """
    connection = await host.connect()
    destination = await connection.open_destination("inbox")
    (held,) = await destination.offer([Offer(name, 1)], [])
    assert isinstance(held, Failure)
    assert isinstance(held.error, UnsafePath)
    if name:
        with pytest.raises(UnsafePath):
            await connection.open_source("inbox", name)
        with pytest.raises(UnsafePath):
            await connection.open_destination("inbox", name)
    source = await connection.open_source("inbox", settle_ns=0)
    (extent,), data = await source.read([Range(name, b"", 0, 1)])
    assert isinstance(extent, Failure)
    assert data == b""
    await connection.close()
    assert [each.name for each in host.root.iterdir()] == ["file"]
    assert [each.name for each in host.root.parent.iterdir()] == ["inbox"]
