"""
Bulk bytes through TLS: real TLS, in memory, with everything that can come between.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from realize.net import records
from realize.net.keys import public_bytes
from realize.net.records import PLAIN, engine
from realize.net.tls import client_factory, server_factory
from tests.support.transports import Connected

#: Most bytes in a record.
RECORD = 16 * 1024

KEY = Ed25519PrivateKey.generate()
CONTENT = bytes(range(256)) * 1024 + b"more than is decrypted at once"


@pytest.fixture(autouse=True, scope="module", params=["direct", "documented"])
def how(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    Everything here holds whether pyOpenSSL is used as it is documented, or otherwise.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "documented":
            patch.setattr(records, "engine", records._Documented)
        yield


def test_direct_where_it_works() -> None:
    """
    With the pyOpenSSL that is installed it does.
    """
    assert isinstance(engine(), records._Direct)


def _quiet(_self: object, _ssl: object, _result: int) -> None:
    pass


def _longer(_self: object, _ssl: object, _result: int, _more: object) -> None:
    pass


_made = SSL.Connection.__init__


def _unconnected(self: SSL.Connection, context: SSL.Context) -> None:
    _made(self, context)
    del self._from_ssl  # type: ignore[attr-defined]


def _remembering(self: Any, context: SSL.Context) -> None:
    _made(self, context)
    self._reads_from = self._into_ssl


def _deaf(_self: object, _tls: SSL.Connection, _data: bytes) -> None:
    pass


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setitem(sys.modules, "OpenSSL._util", None),
        lambda patch: patch.setitem(sys.modules, "OpenSSL._util", object()),
        lambda patch: patch.delattr(SSL.Connection, "_raise_ssl_error"),
        lambda patch: patch.setattr(SSL.Connection, "_raise_ssl_error", _quiet),
        lambda patch: patch.setattr(SSL.Connection, "_raise_ssl_error", _longer),
        lambda patch: patch.setattr(SSL.Connection, "__init__", _unconnected),
        lambda patch: patch.setattr(SSL.Connection, "__init__", _remembering),
        lambda patch: patch.setattr(records._Direct, "feed", _deaf),
    ],
    ids=[
        "no module",
        "no names",
        "no method",
        "nothing raised",
        "other arguments",
        "other memory",
        "memory known twice",
        "deaf",
    ],
)
def test_documented_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """
    A pyOpenSSL that is made in another way is slower, and no more.
    """
    change(monkeypatch)
    assert isinstance(engine(), records._Documented)


class End(Protocol):
    """
    Remembers what it hears, piece by piece.

    :ivar made: what to do as soon as there is a transport, before the handshake.
    :ivar heard: what to do with each piece.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost: Failure | None = None
        self.made: Callable[[Any], None] = lambda _transport: None
        self.heard: Callable[[Any], None] = lambda _transport: None

    def connectionMade(self) -> None:
        self.made(self.transport)

    def dataReceived(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.pieces.append(data)
        self.heard(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    @property
    def received(self) -> bytes:
        """
        All of it.
        """
        return b"".join(self.pieces)


class RoomyEnd(End):
    """
    Takes lengths, each of four bytes, and has room for as many bytes after each.

    :ivar contents: what is whole of that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.contents: list[memoryview] = []
        self._length = b""
        self._content = memoryview(b"")
        self._have = 0

    def room(self) -> memoryview | None:
        return self._content[self._have :] or None

    def filled(self, count: int) -> None:
        assert 0 < count <= len(self._content) - self._have
        self._have += count
        if self._have == len(self._content):
            self._end()

    def dataReceived(self, data: bytes) -> None:
        assert not self._content
        while data:
            missing = 4 - len(self._length)
            self._length, data = self._length + data[:missing], data[missing:]
            if len(self._length) == 4:
                content = bytearray(int.from_bytes(self._length))
                self._have = min(len(content), len(data))
                content[: self._have] = data[: self._have]
                data = data[self._have :]
                self._content = memoryview(content)
                if self._have == len(content):
                    self._end()

    def _end(self) -> None:
        self.contents.append(self._content)
        self._content, self._length = memoryview(b""), b""
        self.heard(self.transport)


class Wires:
    """
    Two ends that know each other, connected in memory.

    :param segment: bytes in each delivery; by default, all that there are.
    :param server: one of the ends.
    """

    def __init__(
        self,
        segment: Callable[[], int] = lambda: 1 << 24,
        server: type[End] = End,
    ) -> None:
        self.clock = Clock()
        self.client, self.server = End(), server()
        self.segment = segment

    def connect(self) -> Connected:
        """
        Connect them and let them shake hands.
        """
        ends: list[Any] = []
        known = public_bytes(KEY)
        for end, make in (
            (self.client, lambda made: client_factory(made, KEY, known, self.clock)),
            (
                self.server,
                lambda made: server_factory(made, KEY, known.__eq__, self.clock),
            ),
        ):
            factory: Factory[Protocol] = Factory()
            factory.buildProtocol = lambda _addr, end=end: end  # type: ignore[method-assign,misc]
            tls: IProtocol | None = make(factory).buildProtocol(None)
            ends.append(tls)
        connected = Connected(ends[0], ends[1], self.clock, self.segment)
        connected.pump()
        return connected


def test_many_records_are_one_piece() -> None:
    """
    What arrived together is handed over in few pieces, and sent together.
    """
    wires = Wires()
    connected = wires.connect()
    sent: list[int] = []
    write = connected.client_end.write
    connected.client_end.write = lambda data: (  # type: ignore[method-assign]
        sent.append(len(data)),
        write(data),
    )[1]
    wires.client.transport.writeSequence([b"head", memoryview(CONTENT)])
    assert len(sent) == 1
    assert len(CONTENT) > PLAIN
    connected.pump()
    assert wires.server.received == b"head" + CONTENT
    assert len(wires.server.pieces) == 2


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_room(data: st.DataObject) -> None:
    """
    Bytes for which a protocol has room are put there and nowhere else, others are
    handed over in order, whatever TCP makes of them.
    """
    segments = st.one_of(st.integers(1, 40), st.integers(1, 3 * RECORD))
    wires = Wires(
        lambda: data.draw(segments, "segment") if talking else 1 << 20, RoomyEnd
    )
    talking = False
    connected = wires.connect()
    talking = True
    sizes = st.one_of(st.integers(0, 40), st.integers(0, 5 * RECORD))
    expected = [
        bytes([number]) * size
        for number, size in enumerate(data.draw(st.lists(sizes, max_size=6)))
    ]
    for content in expected:
        head = len(content).to_bytes(4)
        if data.draw(st.booleans(), "in one"):
            wires.client.transport.write(head + content)
        else:
            wires.client.transport.writeSequence([head, memoryview(content)])
    connected.pump()
    assert isinstance(wires.server, RoomyEnd)
    assert wires.server.contents == expected


def test_room_is_let_go_of() -> None:
    """
    Nobody holds what a protocol had room for, but the protocol.
    """
    wires = Wires(server=RoomyEnd)
    connected = wires.connect()
    head = len(CONTENT).to_bytes(4)
    wires.client.transport.writeSequence([head, memoryview(CONTENT)])
    connected.pump()
    assert isinstance(wires.server, RoomyEnd)
    (content,) = wires.server.contents
    memory = content.obj
    assert isinstance(memory, bytearray)
    content.release()
    memory.clear()  # fails while anybody looks at it


def test_nothing_is_put_anywhere_after_an_abort() -> None:
    """
    As for what is handed over.
    """
    wires = Wires(server=RoomyEnd)
    connected = wires.connect()
    wires.server.heard = lambda transport: transport.abortConnection()
    head = len(CONTENT).to_bytes(4)
    for _ in range(2):
        wires.client.transport.writeSequence([head, memoryview(CONTENT)])
    tls: Any = connected.server_end.protocol
    tls.dataReceived(bytes(connected.client_end.take(1 << 24)))
    assert isinstance(wires.server, RoomyEnd)
    assert wires.server.contents == [CONTENT]
    assert wires.server.room() is None


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_order(data: st.DataObject) -> None:
    """
    Small writes, sequences and views arrive as they were written, whatever TCP makes
    of them.
    """
    segments = st.one_of(st.integers(1, 40), st.integers(1, 3 * RECORD))
    wires = Wires(lambda: data.draw(segments, "segment") if talking else 1 << 20)
    talking = False
    connected = wires.connect()
    talking = True
    sizes = st.one_of(st.integers(0, 40), st.integers(0, 3 * RECORD))
    expected = b""
    for number, (whole, size) in enumerate(
        data.draw(st.lists(st.tuples(st.booleans(), sizes), max_size=8), "writes")
    ):
        content = bytes([number]) * size
        expected += content
        if whole:
            wires.client.transport.write(content)
        else:
            view = memoryview(content)
            wires.client.transport.writeSequence([view[: size // 2], view[size // 2 :]])
    connected.pump()
    assert wires.server.received == expected


def test_written_before_the_handshake() -> None:
    """
    It waits for the handshake, in order.
    """
    wires = Wires()

    def write(transport: Any) -> None:
        transport.writeSequence([b"first ", memoryview(CONTENT)])
        transport.write(b" last")

    wires.client.made = write
    wires.connect()
    assert wires.server.received == b"first " + CONTENT + b" last"


@implementer(IPushProducer)
class Producer:
    """
    Remembers what it was told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def test_producer_waits_for_the_handshake() -> None:
    """
    And goes on after it.
    """
    wires = Wires()
    producer = Producer()

    def write(transport: Any) -> None:
        transport.registerProducer(producer, True)
        transport.writeSequence([b"early"])
        assert producer.told == ["pause"]

    wires.client.made = write
    wires.connect()
    assert producer.told == ["pause", "resume"]
    assert wires.server.received == b"early"


def test_bytes_before_the_end() -> None:
    """
    Bytes and the end of TLS arrive in one piece: the bytes are heard, then the end.
    """
    wires = Wires()
    connected = wires.connect()
    wires.client.transport.writeSequence([memoryview(CONTENT)])
    wires.client.transport.loseConnection()
    connected.pump()
    assert wires.server.received == CONTENT
    assert wires.server.lost is not None
    assert wires.server.lost.check(ConnectionDone)


def test_nothing_is_written_after_the_end() -> None:
    """
    As for ``write``: unless a producer is still there, what comes later is dropped.
    """
    wires = Wires()
    connected = wires.connect()
    wires.client.transport.writeSequence([b"said"])
    wires.client.transport.loseConnection()
    wires.client.transport.writeSequence([b"unsaid"])
    connected.pump()
    wires.client.transport.writeSequence([b"unsaid"])
    assert wires.server.received == b"said"


def test_nothing_is_written_to_who_has_left() -> None:
    """
    What is written after the other end has closed the connection is dropped.
    """
    wires = Wires()
    connected = wires.connect()
    wires.server.transport.loseConnection()
    connected.pump()
    assert wires.client.lost is not None
    wires.client.transport.writeSequence([b"unheard"])
    wires.client.transport.write(b"unheard")
    assert wires.server.received == b""


@pytest.mark.parametrize("good", [b"", CONTENT])
def test_bytes_before_garbage(good: bytes) -> None:
    """
    What was whole before something that is no TLS is heard; what was wrong is known.
    """
    wires = Wires()
    connected = wires.connect()
    if good:
        wires.client.transport.writeSequence([good])
    connected.client_end.sent += b"this is no TLS at all"
    connected.pump()
    assert wires.server.received == good
    assert wires.server.lost is not None
    assert wires.server.lost.check(SSL.Error, ConnectionLost)


def test_nothing_is_heard_after_the_end() -> None:
    """
    Nor does it matter what arrives then.
    """
    wires = Wires()
    connected = wires.connect()
    tls: Any = connected.server_end.protocol
    wires.client.transport.writeSequence([b"said"])
    tls.dataReceived(bytes(connected.client_end.take(1 << 24)))
    tls.dataReceived(b"this is no TLS at all")
    tls.dataReceived(b"and neither is this")
    connected.pump()
    assert wires.server.received == b"said"
    assert wires.server.lost is not None


def test_nothing_is_heard_after_an_abort() -> None:
    """
    Who aborts when it hears something hears nothing more, though more has arrived.
    """
    wires = Wires(segment=lambda: 3 * RECORD)
    connected = wires.connect()
    wires.server.heard = lambda transport: transport.abortConnection()
    wires.client.transport.writeSequence([memoryview(CONTENT)])
    tls: Any = connected.server_end.protocol
    while connected.client_end.sent:
        tls.dataReceived(connected.client_end.take(3 * RECORD))
    assert len(wires.server.pieces) == 1
