"""
Connections: what arrives in pieces, too much at once, too late, or wrong.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.protocols.amp import AmpBox

from realize.errors import InternalError, PeerError, PeerGone, peer_errors
from realize.model import MAX_BATCH_BYTES, Range
from realize.wire import commands
from realize.wire.flow import (
    MAX_IN_PROGRESS,
    MAX_IN_TURN,
    MAX_REQUESTS,
    MAX_UNREAD,
    SLICE,
)
from realize.wire.link import ALIVE_AFTER, SILENCE
from realize.wire.payload import MAX_PAYLOAD, pack
from tests.support.inbox import check_any_pieces, make_net, open_both, piece, use
from tests.support.slow import QuickStore, SlowStore
from tests.support.wire import Client, Net, now


@pytest.fixture
def net() -> Net:
    """
    A server with one directory.
    """
    return make_net()


def client_writes(client: Client, destination: Any, *contents: bytes) -> list[Any]:
    """
    Begin writes and let them arrive.
    """
    asked = [client.begin(destination.write(*piece(content))) for content in contents]
    client.wires.pump()
    return asked


def write_box(number: int, tag: int, content: bytes) -> bytes:
    """
    A write request as it is on the wire.
    """
    packed = pack(piece(content)[0], content)
    box = AmpBox(
        _command=b"Write",
        _ask=b"t%d" % tag,
        store=b"%d" % number,
        payload=b"%d" % len(packed),
    )
    return box.serialize() + packed.head + content


class TestPieces:
    """
    TCP and TLS deliver in pieces of any size.
    """

    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_any_pieces(self, data):
        """
        Payloads of any size arrive as they were sent, both ways, in order.
        """
        check_any_pieces(make_net(), data.draw)

    def test_byte_by_byte(self, net):
        """
        A payload that arrives in tiny pieces is what was sent, and so is what follows.
        """
        store = use(net, QuickStore())
        client = net.client()
        open_both(client)
        for byte in write_box(2, 1, bytes(5000)) + write_box(2, 2, b"more"):
            client.server.dataReceived(bytes([byte]))
        assert store.begun == [
            ("write", b"x", 5000, bytes(16)),
            ("write", b"x", 4, b"more"),
        ]

    @pytest.mark.parametrize("most", [1, 1000, 1 << 20])
    def test_room(self, net, most):
        """
        There is room for a payload as soon as its length is known, and for nothing
        that comes after it.
        """
        store = use(net, QuickStore())
        client = net.client()
        open_both(client)
        server = client.server
        content = bytes(range(250)) * 20
        sent = write_box(2, 1, content) + write_box(2, 2, content[::-1])
        while sent:
            room = server.room()
            if room is None:
                server.dataReceived(sent[:1])
                sent = sent[1:]
            else:
                count = min(len(room), most)
                room[:count] = sent[:count]
                server.filled(count)
                sent = sent[count:]
        assert [each[2:] for each in store.begun] == [
            (5000, content[:16]),
            (5000, content[::-1][:16]),
        ]

    def test_no_room_when_closed(self, net):
        """
        What arrives on a connection that is being closed is not put anywhere.
        """
        client = net.client()
        open_both(client)
        server = client.server
        box = write_box(2, 1, bytes(5000))
        server.dataReceived(box[:-100])
        assert server.room() is not None
        server.close()
        assert server.room() is None
        server.dataReceived(box[-100:])
        assert server.room() is None


class TestTooMuch:
    """
    Reading stops while there is too much to do.
    """

    def test_one_more_than_the_limit_in_one_segment(self, net):
        """
        Each request is begun once, also the one with which reading goes on again, and
        ends at once.
        """
        store = use(net, SlowStore())
        client = net.client()
        open_both(client)
        quick = QuickStore()
        client.server.dataReceived(
            b"".join(write_box(2, n, b"%d" % n) for n in range(MAX_REQUESTS + 1))
        )
        assert [each[3] for each in store.begun] == [
            b"%d" % n for n in range(MAX_REQUESTS)
        ]
        assert not client.wires.server_end.reading
        store._wait = quick._wait  # type: ignore[method-assign]
        store.let_go(1)
        assert quick.begun == []
        client.wires.clock.advance(0)
        assert [each[3] for each in quick.begun] == [b"%d" % MAX_REQUESTS]
        store.let_go()
        client.wires.clock.advance(0)
        assert client.wires.server_end.reading

    def test_bytes_in_progress(self, net):
        """
        So many bytes of payloads, and what had been asked for in reads, count.
        """
        store = use(net, SlowStore())
        client = net.client()
        source, destination = open_both(client)
        asked = []
        for _ in range(10):
            content = bytes(MAX_BATCH_BYTES)
            asked.append(client.begin(destination.write(*piece(content))))
        client.wires.pump()
        assert len(store.begun) == -(-MAX_IN_PROGRESS // MAX_BATCH_BYTES)
        while store.waiting:
            store.let_go()
            client.wires.pump()
        assert len(store.begun) == 10
        store.begun.clear()
        for _ in range(10):
            wanted = [Range(b"x", b"i", 0, MAX_BATCH_BYTES)]
            asked.append(client.begin(source.read(wanted)))
        client.wires.pump()
        assert len(store.begun) == -(-MAX_IN_PROGRESS // MAX_BATCH_BYTES)
        while store.waiting:
            store.let_go()
            client.wires.pump()
        assert all(now(each) for each in asked)

    def test_answers_that_nobody_reads(self, net):
        """
        A peer that asks and never reads gets only so much kept for it.
        """
        store = use(net, QuickStore())
        client = net.client()
        source, _ = open_both(client)
        client.wires.client_end.reading = False
        for _ in range(40):
            client.begin(source.read([Range(b"x", b"i", 0, MAX_BATCH_BYTES)]))
        client.wires.pump()
        assert not client.wires.server_end.reading
        assert len(store.begun) == -(-MAX_UNREAD // MAX_BATCH_BYTES)
        assert client.wires.server_end.most <= SLICE + 64 * 1024
        assert net.factory.budget.used < MAX_UNREAD + 2 * MAX_PAYLOAD
        client.wires.client_end.reading = True
        client.wires.pump()
        assert len(store.begun) == 40
        assert net.factory.budget.used == 0

    @pytest.mark.parametrize(
        "first", [b"", AmpBox(payload=b"4000000").serialize()], ids=["boxes", "payload"]
    )
    def test_nothing_is_kept_while_closing(self, net, first):
        """
        Closing takes up to some seconds; what a peer sends in them fills no memory.
        """
        client = net.client()
        client.server.dataReceived(first)
        client.server.close()
        for _ in range(100):
            client.server.dataReceived(b"k" * 65536)
        assert len(client.server._boxes) == client.server._have == 0

    def test_kept_while_paused(self, net):
        """
        What TLS delivers after reading was paused is kept, in order, also in the middle
        of a payload.
        """
        store = use(net, SlowStore())
        client = net.client()
        open_both(client)
        many = [write_box(2, n, b"%16d" % n + bytes(9000)) for n in range(99)]
        raw = b"".join(many)
        for at in range(0, len(raw), 7001):
            client.server.dataReceived(raw[at : at + 7001])
        assert len(store.begun) == MAX_REQUESTS
        while store.waiting:
            store.let_go()
            client.wires.clock.advance(0)
        assert [each[3] for each in store.begun] == [b"%16d" % n for n in range(99)]

    def test_many_at_once_take_turns(self, net):
        """
        However small requests are and however many arrive at once, the others have
        their turn after so many.
        """
        client = net.client()
        begun: list[Any] = []
        dispatch = client.server.dispatchCommand
        client.server.dispatchCommand = lambda box: begun.append(box) or dispatch(box)
        one = AmpBox(_command=b"Alive").serialize()
        client.server.dataReceived(one * 1000)
        assert len(begun) == MAX_IN_TURN
        seen: list[int] = []
        client.wires.clock.callLater(0, lambda: seen.append(len(begun)))
        client.wires.clock.advance(0)
        assert seen == [2 * MAX_IN_TURN]
        assert len(begun) == 1000

    def test_both_send_buffers_full(self, net):
        """
        Two ends that have much to send do not wait for each other for ever.
        """
        use(net, QuickStore())
        client = net.client(size=1024)
        source, destination = open_both(client)
        asked: list[Deferred[Any]] = []
        for _ in range(12):
            content = bytes(MAX_BATCH_BYTES)
            wanted = [Range(b"x", b"i", 0, MAX_BATCH_BYTES)]
            asked.append(client.begin(destination.write(*piece(content))))
            asked.append(client.begin(source.read(wanted)))
        client.wires.pump()
        assert len([now(each) for each in asked]) == 24
        assert client.wires.client_end.pauses == 0

    def test_in_all(self, net):
        """
        When all connections together hold too much, those that hold something wait;
        others are served, and the rest too once there is room.
        """
        net.factory.budget.limit = 2 * MAX_BATCH_BYTES
        store = use(net, SlowStore())
        clients = [net.client(token=b"%16d" % n) for n in range(4)]
        asked = []
        for client in clients:
            _, destination = open_both(client)
            for _ in range(2):
                content = bytes(MAX_BATCH_BYTES)
                asked.append(client.begin(destination.write(*piece(content))))
        for client in clients:
            client.wires.pump()
        # The first has two, then the budget is used up: one for each of the others.
        assert len(store.begun) == 5
        for _ in range(8):
            store.let_go()
            for client in clients:
                client.wires.pump()
        assert len([now(each) for each in asked]) == 8
        assert net.factory.budget.used == 0

    def test_others_make_room(self, net):
        """
        A connection that stopped because of others reads on once those have ended,
        while what it has in progress itself goes on.
        """
        net.factory.budget.limit = MAX_BATCH_BYTES
        store = use(net, SlowStore())
        large, small = (net.client(token=b"%16d" % n) for n in range(2))
        opened = {each.link: open_both(each)[1] for each in (large, small)}
        begun = client_writes(small, opened[small.link], b"first")
        asked = client_writes(large, opened[large.link], bytes(MAX_BATCH_BYTES))
        later = client_writes(small, opened[small.link], b"second", b"third")
        assert [each[3] for each in store.begun] == [b"first", bytes(16), b"second"]
        store.waiting.pop(1).callback(None)
        for each in (large, small):
            each.wires.pump()
        assert store.begun[-1][3] == b"third"
        store.let_go()
        small.wires.pump()
        assert all(now(each) for each in begun + asked + later)

    def test_others_hold_everything(self, net):
        """
        A connection that holds nothing is served, one request at a time, also while
        others hold all that may be held.
        """
        net.factory.budget.limit = MAX_BATCH_BYTES
        store = use(net, SlowStore())
        large, small = (net.client(token=b"%16d" % n) for n in range(2))
        opened = {each.link: open_both(each)[1] for each in (large, small)}
        client_writes(large, opened[large.link], bytes(MAX_BATCH_BYTES))
        asked = client_writes(small, opened[small.link], b"first", b"second")
        assert [each[3] for each in store.begun] == [bytes(16), b"first"]
        store.waiting.pop(1).callback(None)
        small.wires.pump()
        assert store.begun[-1][3] == b"second"
        store.waiting.pop(1).callback(None)
        small.wires.pump()
        assert all(now(each) for each in asked)
        store.let_go()

    def test_lost_in_the_middle(self, net):
        """
        A connection that is lost gives back what it held of the common budget.
        """
        use(net, SlowStore())
        client = net.client()
        source, destination = open_both(client)
        client.wires.client_end.reading = False
        for _ in range(9):
            client.begin(destination.write(*piece(bytes(MAX_BATCH_BYTES)))).addErrback(
                lambda _: None
            )
            client.begin(source.read([Range(b"x", b"i", 0, 10)])).addErrback(
                lambda _: None
            )
        client.wires.pump()
        assert net.factory.budget.used > 0
        client.wires.cut()
        assert net.factory.budget.used == 0
        assert net.clock.getDelayedCalls() == []


class TestErrors:
    """
    What goes wrong in a request, and what it does to the connection.
    """

    @pytest.mark.parametrize(
        "kind",
        [kind for kind in peer_errors() if kind.code],
        ids=lambda kind: kind.code,
    )
    def test_every_error_arrives_as_itself(self, net, kind):
        """
        The same class, with the same text, for each error that crosses.
        """

        class Failing(QuickStore):
            async def list(self, cursor, restore, subset):
                raise kind("some \N{SNOWMAN} text")

        use(net, Failing())
        client = net.client()
        source, _ = open_both(client)
        with pytest.raises(PeerError) as raised:
            client.run(source.list(0))
        assert type(raised.value) is kind
        assert str(raised.value) == "some \N{SNOWMAN} text"
        assert not client.link.gone

    def test_unplanned(self, net):
        """
        A bug is logged there, answered without details, and keeps the connection.
        """

        class Failing(QuickStore):
            async def list(self, cursor, restore, subset):
                raise ZeroDivisionError("/secret/path")

        use(net, Failing())
        client = net.client()
        source, _ = open_both(client)
        with capturedLogs() as events, pytest.raises(InternalError) as raised:
            client.run(source.list(0))
        assert "secret" not in str(raised.value)
        assert [event["what"] for event in events] == ["List for laptop"]
        assert events[0]["log_failure"].check(ZeroDivisionError)
        assert client.run(source.read([])) == ([], b"")

    def test_errors_before_anybody_waits(self, net):
        """
        Several requests in progress may fail in any order.
        """
        store = use(net, SlowStore())
        client = net.client()
        source, _ = open_both(client)
        asked = [client.begin(source.list(0)) for _ in range(3)]
        client.wires.pump()
        store.waiting.pop(1).errback(InternalError("second"))
        client.wires.pump()
        store.let_go()
        client.wires.pump()
        assert now(asked[0]).next == 0
        with pytest.raises(InternalError, match="second"):
            now(asked[1])
        assert now(asked[2]).next == 0

    def test_given_up(self, net):
        """
        Who stops waiting for an answer is not disturbed by it, nor is the connection.
        """
        store = use(net, SlowStore())
        client = net.client()
        source, _ = open_both(client)
        given_up = [client.begin(source.list(0)) for _ in range(2)]
        client.wires.pump()
        for each in given_up:
            each.addErrback(lambda _: None)
            each.cancel()
        store.waiting.pop(0).errback(InternalError("late"))
        store.let_go()
        asked = client.begin(source.list(0))
        client.wires.pump()
        store.let_go()
        client.wires.pump()
        assert now(asked).next == 0

    def test_connection_lost(self, net):
        """
        Requests in progress end on both sides, and stores are closed.
        """
        store = use(net, SlowStore())
        client = net.client()
        source, _ = open_both(client)
        asked = client.begin(source.list(0))
        client.wires.pump()
        with capturedLogs() as events:
            client.wires.cut()
        assert store.cancelled == 1
        assert store.closed
        with pytest.raises(PeerGone, match="archive: the connection was lost"):
            now(asked)
        with pytest.raises(PeerGone):
            client.run(source.list(0))
        assert [e["log_format"] for e in events if e["log_level"].name != "info"] == []


MALFORMED = {
    "plain text": b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n",
    "zeros": bytes(100),
    "no command": AmpBox(a=b"b").serialize(),
    "an answer to nothing": AmpBox(_answer=b"77").serialize(),
    "an error without a code": AmpBox(_error=b"1").serialize(),
    "a request that wants no answer": AmpBox(_command=b"List").serialize(),
    "an answer wanted to what has none": AmpBox(
        _command=b"Alive", _ask=b"1"
    ).serialize(),
    "a command name without end": AmpBox(_command=b"L" * 999, _ask=b"1").serialize(),
    "an argument missing": AmpBox(_command=b"List", _ask=b"1", store=b"1").serialize(),
    "a negative number": AmpBox(
        _command=b"List", _ask=b"1", store=b"1", cursor=b"-1"
    ).serialize(),
    "a huge number": AmpBox(
        _command=b"List", _ask=b"1", store=b"1", cursor=b"9" * 60_000
    ).serialize(),
    "no boolean": AmpBox(
        _command=b"List", _ask=b"1", store=b"1", cursor=b"0", restore=b"1"
    ).serialize(),
    "invalid UTF-8": AmpBox(
        _command=b"OpenDestination", _ask=b"1", directory=b"\xff", below=b""
    ).serialize(),
    "a payload too large": AmpBox(
        _command=b"Write", _ask=b"1", store=b"2", payload=b"%d" % (MAX_PAYLOAD + 1)
    ).serialize(),
    "a negative payload": AmpBox(
        _command=b"Write", _ask=b"1", store=b"2", payload=b"-1"
    ).serialize(),
    "no payload": AmpBox(_command=b"Write", _ask=b"1", store=b"2").serialize(),
    "an empty payload": AmpBox(
        _command=b"Write", _ask=b"1", store=b"2", payload=b"0"
    ).serialize(),
    "a welcome for the server": AmpBox(
        _command=b"Welcome", _ask=b"1", version=b"1", payload=b"5"
    ).serialize()
    + b"\0\0\0\1\x90",
}


class TestMalformed:
    """
    What is not the protocol ends the connection, with one line.
    """

    @pytest.mark.parametrize(
        "case", sorted(set(MALFORMED) - {"a welcome for the server"})
    )
    def test_closed(self, net, case):
        """
        Nothing is begun, everything is closed, and the log says who and why, once.
        """
        store = use(net, QuickStore())
        client = net.client()
        open_both(client)
        with capturedLogs() as events:
            client.server.dataReceived(MALFORMED[case] + MALFORMED[case])
            client.wires.pump()
        assert client.link.gone
        assert client.server.gone
        assert store.begun == []
        assert store.closed
        warnings = [each for each in events if each["log_level"].name != "info"]
        assert [each["peer"] for each in warnings] == ["laptop"]
        assert all("log_failure" not in each for each in warnings)
        assert net.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("name", [b"StartTLS", b"Welcome", b"Nothing"])
    def test_unknown_commands(self, net, name):
        """
        What the server has no responder for is answered so, and nothing happens.
        """
        client = net.client()
        asked = client.link.callRemoteString(name, version=b"1", payload=b"")
        errors: list[Any] = []
        asked.addErrback(errors.append)
        client.wires.pump()
        assert "Unhandled Command" in str(errors[0].value)
        assert not client.link.gone

    def test_nothing_before_the_welcome(self, net):
        """
        Who has not answered the welcome may ask nothing.
        """
        client = net.client(pump=False)
        box = AmpBox(_command=b"OpenSource", _ask=b"1", directory=b"inbox", below=b"")
        client.server.dataReceived(box.serialize())
        client.wires.pump()
        assert client.server.gone
        assert net.service.directories["inbox"].opened == []
        with pytest.raises(PeerGone):
            now(client.link.welcomed)

    def test_an_answer_that_makes_no_sense(self, net):
        """
        A server that does not keep to the protocol is left.
        """
        use(net, SlowStore())
        client = net.client()
        source, _ = open_both(client)
        asked = client.begin(source.list(0))
        client.wires.pump()
        tag = next(iter(client.link._outstandingRequests))
        answer = AmpBox(_answer=tag, payload=b"5").serialize() + b"\0\0\0\1\x90"
        client.link.dataReceived(answer)
        with pytest.raises(PeerGone, match="broke the protocol"):
            now(asked)
        client.wires.pump()
        assert client.link.gone


class TestSignsOfLife:
    """
    Each side says that it is there, and gives up on one that does not.
    """

    def test_idle(self, net):
        """
        Two ends with nothing to say stay connected.
        """
        client = net.client()
        for _ in range(20):
            net.clock.advance(ALIVE_AFTER)
            client.wires.pump()
        assert not client.link.gone

    def test_nothing_sent_needlessly(self, net):
        """
        A side that has sent something else within the time adds nothing.
        """
        client = net.client()
        before = client.wires.client_end.written
        net.clock.advance(ALIVE_AFTER - 1)
        client.wires.pump()
        assert client.wires.client_end.written == before
        net.clock.advance(1)
        client.wires.pump()
        box = AmpBox(_command=b"Alive").serialize()
        assert client.wires.client_end.written == before + len(box)

    @pytest.mark.parametrize("dead", ["client_end", "server_end"])
    def test_silence(self, net, dead):
        """
        A peer of whom nothing is heard is given up.
        """
        client = net.client()
        other = client.server if dead == "client_end" else client.link
        getattr(client.wires, dead).write = lambda _: None
        for _ in range(SILENCE // 10 - 1):
            net.clock.advance(10)
            client.wires.pump()
        assert not other.ended
        net.clock.advance(20)
        client.wires.pump()
        assert other.gone

    def test_while_closing(self, net):
        """
        A connection that is being closed shows no more signs of life.
        """
        client = net.client()
        net.clock.advance(ALIVE_AFTER - 2)
        client.wires.server_end.reading = False
        client.wires.client_end.write(b"not read, so that closing takes its time")
        client.link.close()
        net.clock.advance(2)
        client.wires.pump()
        net.clock.advance(5)
        client.wires.pump()
        assert client.link.gone

    def test_paused(self, net):
        """
        While reading is paused, silence means nothing, and the side that paused still
        says that it is alive.
        """
        store = use(net, SlowStore())
        client = net.client()
        _, destination = open_both(client)
        asked = [
            client.begin(destination.write(*piece(b"x"))) for _ in range(MAX_REQUESTS)
        ]
        client.wires.pump()
        assert not client.wires.server_end.reading
        for _ in range(50):
            net.clock.advance(10)
            client.wires.pump()
        assert not client.server.ended
        assert not client.link.ended
        store.let_go()
        client.wires.pump()
        assert len([now(each) for each in asked]) == MAX_REQUESTS


def test_nothing_of_amp_itself(net):
    """
    The commands that AMP brings along are not there.
    """
    known = set(client_and_server_commands(net))
    assert known == set(commands.COMMANDS)


def client_and_server_commands(net: Net) -> list[bytes]:
    """
    All that either end has a responder for.
    """
    client = net.client()
    names = [*commands.COMMANDS, b"StartTLS", b"startTLS", b"SUM"]
    return [
        name
        for name in names
        if client.link.locateResponder(name) or client.server.locateResponder(name)
    ]


def test_unpacked_length_is_what_was_announced():
    """
    The first bytes of a payload are the length of its head, in 32 bits.
    """
    packed = pack([1, 2], b"data")
    assert struct.unpack(">I", packed.head[:4]) == (len(packed.head) - 4,)
