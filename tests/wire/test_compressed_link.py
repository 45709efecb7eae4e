"""
Connections on which content crosses compressed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zstandard
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.protocols.amp import AmpBox

from realize.errors import PeerGone
from realize.model import Piece, Range, decode_hook
from realize.wire.commands import Greeting
from realize.wire.link import ALIVE_AFTER, SILENCE
from realize.wire.payload import MAX_PAYLOAD, pack
from tests.support.inbox import check_any_pieces, make_net, open_both, piece, use
from tests.support.slow import QuickStore
from tests.support.wire import Client, now

TEXT = b"never lost, " * 5000
BOMB = zstandard.ZstdCompressor().compress(bytes(2**26))


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_order_and_content(data):
    """
    In pieces of any size, whatever shrinks and whatever does not: writes are begun in
    their order, and both directions bring what was sent.
    """
    client = check_any_pieces(make_net("always", server_can=True), data.draw)
    assert client.server._intake._unread == client.server._intake._in_progress == 0


@pytest.mark.parametrize(
    ("client_wants", "server_can", "shrinks"),
    [
        ("always", True, True),
        ("always", False, False),
        ("never", True, False),
        ("auto", True, False),
        (None, True, False),
        (None, False, False),
    ],
)
def test_agreed(client_wants, server_can, shrinks):
    """
    Only if both can and the client wants it; one that knows nothing of it, of an older
    version, is understood and left alone.
    """
    net = make_net(client_wants, server_can)
    use(net, QuickStore())
    client = net.client()
    source, destination = open_both(client)
    sent, received = client.link.throttled.sent, client.link.throttled.received
    client.run(destination.write(*piece(TEXT)))
    client.run(source.read([Range(b"x", b"i", 0, len(TEXT))]))
    assert (client.link.throttled.sent - sent < len(TEXT) // 2) == shrinks
    assert (client.link.throttled.received - received < len(TEXT) // 2) == shrinks


def test_a_limit_turns_it_on():
    """
    ``auto`` knows of a limit on what it sends.
    """
    net = make_net("auto", server_can=True)
    use(net, QuickStore())
    client = net.client()
    _source, destination = open_both(client)
    client.link.throttled.own.send.claim("user", 10_000_000)
    sent = client.link.throttled.sent
    writing = client.begin(destination.write(*piece(TEXT)))
    client.wires.pump()
    net.clock.advance(1)
    client.wires.pump()
    now(writing)
    assert client.link.throttled.sent - sent < len(TEXT) // 2


def test_greeting_of_an_older_version():
    """
    It has no features, and is a greeting all the same.
    """
    old = msgspec.msgpack.encode(["realize/0.1", [], MAX_PAYLOAD, 64])
    assert (
        msgspec.msgpack.decode(old, type=Greeting, dec_hook=decode_hook).features == []
    )


def test_goodbye_is_heard():
    """
    What waits to be compressed does not keep back why a connection is closed.
    """
    net = make_net("always", server_can=True)
    use(net, QuickStore())
    client = net.client()
    source, _destination = open_both(client)
    asked = client.begin(source.read([Range(b"x", b"i", 0, len(TEXT))]))
    heard: list[Any] = []
    asked.addErrback(heard.append)

    client.wires._deliver(client.wires.client_end, client.wires.server_end)
    assert client.server._outgoing.waiting
    client.server.say_goodbye("the service is stopping", again=True)
    client.wires.pump()
    assert not client.server._outgoing.waiting
    assert client.link._why is not None
    assert "the service is stopping" in str(client.link._why)


def compressed_box(data: bytes, claimed: int, frame: bytes | None = None) -> bytes:
    """
    A write whose data is compressed, or said to be.
    """
    packed = pack([Piece(b"x", 0, len(data))], data)
    if frame is None:
        frame = zstandard.ZstdCompressor().compress(data)
    box = AmpBox(
        _command=b"Write",
        _ask=b"t1",
        store=b"2",
        payload=b"%d" % (len(packed.head) + len(frame)),
        zstd=b"%d" % claimed,
    )
    return box.serialize() + packed.head + frame


@pytest.mark.parametrize(
    ("sends", "server_can"),
    [
        (compressed_box(TEXT, len(TEXT) - 1), True),
        (compressed_box(TEXT, len(TEXT) + 1), True),
        (compressed_box(TEXT, 0), True),
        (compressed_box(TEXT, MAX_PAYLOAD + 1), True),
        (compressed_box(TEXT, len(TEXT), b"nothing of that kind"), True),
        (compressed_box(TEXT, 100, BOMB), True),
        (compressed_box(TEXT, len(TEXT)), False),
        (AmpBox(_command=b"Alive", zstd=b"10").serialize(), True),
        (
            compressed_box(TEXT, len(TEXT)).replace(
                b"zstd\0\5%d" % len(TEXT), b"zstd\0\5-1234"
            ),
            True,
        ),
    ],
    ids=[
        "more",
        "less",
        "nothing",
        "too much",
        "garbage",
        "bomb",
        "not agreed on",
        "no payload",
        "no number",
    ],
)
def test_hostile(sends, server_can):
    """
    The connection is closed, and the store has seen nothing.
    """
    net = make_net("always", server_can)
    store = use(net, QuickStore())
    client = net.client()
    open_both(client)
    client.server.dataReceived(sends)
    client.wires.pump()
    assert client.server.ended
    assert store.begun == []
    with pytest.raises(PeerGone):
        client.run(client.connection().open_source("inbox"))


@define
class Stuck:
    """
    Workers that have not got round to it.
    """

    answers: list[Deferred[Any]] = field(factory=list)

    def run(self, _function: Callable[..., Any], *_args: Any) -> Deferred[Any]:
        """
        Maybe later.
        """
        self.answers.append(Deferred())
        return self.answers[-1]


def swell(client: Client) -> int:
    """
    Send a server more and more behind a payload that is being decompressed; as much
    as it reads, and how much that was.
    """
    transport = client.wires.server_end
    sent = 0
    while transport.reading and sent < 2 * MAX_PAYLOAD:
        client.server.dataReceived(bytes(65536))
        sent += 65536
    return sent


def test_reading_stops_while_much_arrives():
    """
    A peer that sends faster than this end decompresses fills no memory, whatever else
    has reading resumed.
    """
    net = make_net("always", server_can=True)
    store = use(net, QuickStore())
    client = net.client()
    open_both(client)
    client.server.dataReceived(compressed_box(TEXT, len(TEXT)))
    assert MAX_PAYLOAD < swell(client) <= MAX_PAYLOAD + 65536
    client.wires.server_end.resumeProducing()
    assert swell(client) == 65536
    assert len(client.server._boxes) <= MAX_PAYLOAD + 2 * 65536
    assert store.begun == []


def test_alive_while_reading_is_stopped():
    """
    Who does not read, because so much waits behind what is being decompressed, does
    not take the other end for dead.
    """
    net = make_net("always", server_can=True)
    client = net.client()
    compression = client.server._compression
    assert compression is not None
    compression.workers = workers = Stuck()
    client.server.dataReceived(compressed_box(TEXT, len(TEXT)))
    swell(client)
    for _ in range(2 * SILENCE // ALIVE_AFTER):
        net.clock.advance(ALIVE_AFTER)
    assert not client.server.ended
    workers.answers[0].callback(pack([Piece(b"x", 0, len(TEXT))], TEXT).head + TEXT)
    assert client.server.ended  # what waited were zeros, which are no box


def test_goodbye_behind_content():
    """
    A connection may be gone before what arrived in front of the goodbye is
    decompressed; why it was closed is heard all the same.
    """
    net = make_net("always", server_can=True)
    use(net, QuickStore())
    client = net.client()
    source, _destination = open_both(client)
    compression = client.link._compression
    assert compression is not None
    compression.workers = Stuck()
    asked = client.begin(source.read([Range(b"x", b"i", 0, len(TEXT))]))
    client.wires.pump()
    assert client.link._decompressing
    client.server.say_goodbye("the service is stopping", again=True)
    client.wires.pump()
    assert client.link.gone
    with pytest.raises(PeerGone, match="the service is stopping"):
        now(asked)
