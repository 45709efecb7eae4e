"""
The throttled transport between a small transport and a small protocol, by a clock.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from realize.net.shaper import LARGE, MOST_BYTES, QUEUE_BYTES
from realize.net.throttle import MAX_SLICE
from realize.net.throttled import (
    BULK,
    SMALLEST_READ,
    Shared,
    ThrottledConnection,
    ThrottledFactory,
    throttled_below,
)

ADDRESS = IPv4Address("TCP", "127.0.0.1", 1)


class Reading:
    """
    As much of a socket's transport as says how much it reads at once.
    """

    bufferSize = 65536  # noqa: N815  # Twisted's name


class Transport(Reading, StringTransport):
    """
    A transport whose buffer holds so many bytes before its producer is paused.
    """

    aborted = False
    room = 1 << 40

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and len(self.value()) > self.room:
            self.producer.pauseProducing()

    def drain(self) -> bytes:
        """
        Take what has arrived, as the network would, and ask for more.
        """
        data = self.value()
        self.clear()
        if self.producer is not None:
            self.producer.resumeProducing()
        return data

    def abortConnection(self) -> None:
        self.aborted = True


class Received(Protocol):
    """
    Keeps what it received, and why it ended.
    """

    def __init__(self) -> None:
        self.data = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@implementer(IPushProducer)
class Producer:
    """
    Writes *count* pieces as long as it is not paused; notes what it was told.
    """

    def __init__(self, connection: ThrottledConnection, piece: bytes, count: int):
        self.connection = connection
        self.pieces: Iterator[bytes] = iter([piece] * count)
        self.told: list[str] = []
        self.paused = False

    def start(self) -> None:
        self.connection.registerProducer(self, True)
        self._go()

    def _go(self) -> None:
        while not self.paused:
            piece = next(self.pieces, None)
            if piece is None:
                return
            self.connection.write(piece)

    def pauseProducing(self) -> None:
        assert not self.paused, "told to pause twice"
        self.paused = True
        self.told.append("pause")

    def resumeProducing(self) -> None:
        assert self.paused, "told to resume while running"
        self.paused = False
        self.told.append("resume")
        self._go()

    def stopProducing(self) -> None:
        self.paused = True
        self.told.append("stop")


def connect(
    clock: Clock, *shared: Shared, room: int = 1 << 40, holding: bool = True
) -> tuple[ThrottledConnection, Transport]:
    """
    A connection past its handshake, on a transport with *room*.
    """
    factory = ThrottledFactory(Factory.forProtocol(Received), clock, *shared)
    connection = factory.buildProtocol(ADDRESS)
    assert connection is not None
    transport = Transport()
    transport.room = room
    connection.makeConnection(transport)
    if holding:
        connection.begin_holding()
    return connection, transport


def run(clock: Clock, seconds: float, step: float = 0.01) -> None:
    """
    Let time pass in small steps, as a reactor would.
    """
    clock.pump([step] * round(seconds / step))


def test_without_a_limit_writes_pass_at_once() -> None:
    """
    No copy, no timer, no queue.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.write(b"x" * 10_000_000)
    assert len(transport.value()) == 10_000_000
    assert connection.queued == 0
    assert connection.sent == 10_000_000
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("rate", [1024, 100_000, 1 << 20, 20 << 20])
def test_rate_is_held_from_the_first_second(rate: int) -> None:
    """
    Not more than the limit in any second, and not less over ten.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", rate)
    connection.write(bytes(11 * rate))
    arrived = []
    for _ in range(10):
        run(clock, 1.0)
        arrived.append(len(transport.value()))
    for second, total in enumerate(arrived, 1):
        assert total == pytest.approx(rate * second, rel=0.03, abs=MAX_SLICE)


def test_order_and_content_survive() -> None:
    """
    Slicing changes no byte.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", 10_000)
    data = bytes(range(256)) * 40
    for start in range(0, len(data), 1000):
        connection.write(data[start : start + 1000])
    run(clock, 2.0)
    assert transport.value() == data


def test_no_gap_at_a_low_rate() -> None:
    """
    At 1 KiB/s something is sent at least twice a second.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", 1024)
    connection.write(bytes(10_000))
    seen = 0
    for _ in range(8):
        run(clock, 0.5)
        assert len(transport.value()) > seen
        seen = len(transport.value())


def test_handshake_is_counted_and_not_held() -> None:
    """
    Before holding begins bytes pass at once, and what follows pays for them.
    """
    clock = Clock()
    connection, transport = connect(clock, holding=False)
    connection.own.send.claim("test", 1000)
    connection.write(bytes(3000))
    assert len(transport.value()) == 3000
    connection.begin_holding()
    connection.write(bytes(1000))
    run(clock, 2.9)
    assert len(transport.value()) == 3000
    run(clock, 1.2)
    assert len(transport.value()) == 4000


def test_change_applies_to_what_is_queued() -> None:
    """
    Bytes that wait for a long debt obey a new limit at once.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", 128)
    connection.write(bytes(10_000))
    run(clock, 1.0)
    before = len(transport.value())
    assert before <= 128
    connection.own.send.claim("test", 10_000)
    run(clock, 0.5)
    assert len(transport.value()) - before == pytest.approx(5000, rel=0.15)
    connection.own.send.claim("test", None)
    assert len(transport.value()) == 10_000
    assert clock.getDelayedCalls() == []


def test_lowering_applies_to_what_is_queued() -> None:
    """
    No slice of the old size is sent late, and none at the old speed.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", 1 << 20)
    connection.write(bytes(10 << 20))
    run(clock, 1.0)
    before = len(transport.value())
    connection.own.send.claim("test", 1000)
    run(clock, 1.0)
    assert 900 <= len(transport.value()) - before <= 1100


def test_equal_shares() -> None:
    """
    Connections under one limit that always have something to send get the same.
    """
    clock = Clock()
    service = Shared(clock)
    service.send.claim("test", 1 << 20)
    transports = []
    for _ in range(10):
        connection, transport = connect(clock, service)
        connection.write(bytes(4 << 20))
        transports.append(transport)
    run(clock, 20.0)
    shares = [len(transport.value()) for transport in transports]
    assert sum(shares) == pytest.approx(20 << 20, rel=0.03)
    assert max(shares) <= min(shares) * 1.1


def test_unused_share_goes_to_the_others() -> None:
    """
    A connection with a lower limit of its own leaves the rest to its neighbour.
    """
    clock = Clock()
    service = Shared(clock)
    service.send.claim("test", 100_000)
    slow, slow_transport = connect(clock, service)
    slow.own.send.claim("test", 10_000)
    quick, quick_transport = connect(clock, service)
    slow.write(bytes(1 << 20))
    quick.write(bytes(2 << 20))
    run(clock, 10.0)
    assert len(slow_transport.value()) == pytest.approx(100_000, rel=0.05)
    assert len(quick_transport.value()) == pytest.approx(900_000, rel=0.05)


def test_producer_above_is_paused_and_memory_bounded() -> None:
    """
    The producer hears each change once, and writes no more than the queue's bound.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", 1 << 20)
    producer = Producer(connection, bytes(16 * 1024), 1000)
    producer.start()
    for _ in range(100):
        assert connection.queued <= QUEUE_BYTES + 16 * 1024
        run(clock, 0.05)
    assert set(producer.told) == {"pause", "resume"}
    assert len(transport.value()) == pytest.approx(5 << 20, rel=0.05)


def test_transport_that_is_full_holds_writes_back() -> None:
    """
    Back-pressure from below reaches the producer, with a limit and without.
    """
    clock = Clock()
    connection, transport = connect(clock, room=1000)
    producer = Producer(connection, bytes(600), 100)
    producer.start()
    assert len(transport.value()) <= 1600
    assert producer.paused
    total = 0
    for _ in range(200):
        total += len(transport.drain())
    assert total == 60_000


def test_limit_lifted_while_the_transport_is_full() -> None:
    """
    Lifting a limit does not overrun a transport that asked for a pause.
    """
    clock = Clock()
    connection, transport = connect(clock, room=1000)
    connection.own.send.claim("test", 1 << 20)
    for _ in range(100):
        connection.write(bytes(1000))
    run(clock, 1.0)
    connection.own.send.claim("test", None)
    assert len(transport.value()) <= 60_000
    total = 0
    for _ in range(200):
        total += len(transport.drain())
    assert total == 100_000


def test_lose_connection_waits_for_the_queue() -> None:
    """
    What was written before is sent first, at the limit's speed.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", 1000)
    connection.write(bytes(2000))
    connection.loseConnection()
    connection.write(b"too late")
    run(clock, 1.5)
    assert not transport.disconnecting
    run(clock, 1.0)
    assert transport.disconnecting
    assert transport.value() == bytes(2000)
    assert transport.producer is None


def test_lose_connection_at_once_when_nothing_is_queued() -> None:
    """
    An idle connection closes without a wait.
    """
    connection, transport = connect(Clock())
    connection.loseConnection()
    assert transport.disconnecting


def test_abort_drops_the_queue() -> None:
    """
    Aborting waits for nothing; when the connection is gone nothing is left behind.
    """
    clock = Clock()
    service = Shared(clock)
    connection, transport = connect(clock, service)
    connection.own.send.claim("test", 1000)
    connection.write(bytes(2000))
    producer = Producer(connection, b"x", 0)
    producer.start()
    connection.abortConnection()
    assert transport.aborted
    connection.connectionLost(Failure(ConnectionAbortedError()))
    assert producer.told[-1] == "stop"
    assert clock.getDelayedCalls() == []
    service.send.claim("test", 500)
    assert clock.getDelayedCalls() == []


def test_reservation_of_a_lost_connection_is_given_back() -> None:
    """
    Others under the limit do not pay for what was never sent.
    """
    clock = Clock()
    service = Shared(clock)
    service.send.claim("test", 1280)
    for _ in range(50):
        gone, _transport = connect(clock, service)
        gone.write(bytes(1000))
        gone.connectionLost(connectionDone)
    stays, transport = connect(clock, service)
    stays.write(bytes(1000))
    run(clock, 1.0)
    assert len(transport.value()) >= 900


def test_reading_pauses_for_a_sender_who_ignores_the_limit() -> None:
    """
    On average no more than the limit is read.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.receive.claim("test", 100_000)
    for _ in range(1000):
        if transport.producerState == "producing":
            connection.dataReceived(bytes(10_000))
        clock.advance(0.01)
    assert connection.received == pytest.approx(1_000_000, rel=0.03)


def test_reading_is_left_alone_when_the_sender_keeps_to_the_limit() -> None:
    """
    Ordinary unevenness does not make the reader stutter.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.receive.claim("test", 100_000)
    for _ in range(100):
        connection.dataReceived(bytes(5000))
        assert transport.producerState == "producing"
        clock.advance(0.05)


def test_lifting_a_receive_limit_reads_on_at_once() -> None:
    """
    A debt under a limit that is gone is forgotten.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.receive.claim("test", 1000)
    connection.dataReceived(bytes(60_000))
    assert transport.producerState == "paused"
    connection.own.receive.claim("test", None)
    assert transport.producerState == "producing"
    assert clock.getDelayedCalls() == []


def test_the_protocols_own_pause_outlasts_the_throttles() -> None:
    """
    Who asked for silence does not get data because a limit has been paid off.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.receive.claim("test", 1000)
    connection.dataReceived(bytes(2000))
    connection.pauseProducing()
    run(clock, 3.0)
    assert transport.producerState == "paused"
    connection.resumeProducing()
    assert transport.producerState == "producing"


def test_the_throttles_pause_outlasts_the_protocols_own() -> None:
    """
    Who resumes early gets data only once the limit allows.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.receive.claim("test", 1000)
    connection.dataReceived(bytes(2000))
    connection.pauseProducing()
    connection.resumeProducing()
    assert transport.producerState == "paused"
    run(clock, 3.0)
    assert transport.producerState == "producing"


def test_pull_producers_are_refused() -> None:
    """
    Only one kind of producer has a contract that can be kept here.
    """
    connection, _transport = connect(Clock())
    with pytest.raises(RuntimeError, match="push producers"):
        connection.registerProducer(Producer(connection, b"", 0), False)


events = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 200_000)),
        st.tuples(st.just("limit"), st.sampled_from([None, 1000, 50_000, 10**7])),
        st.tuples(st.just("pass"), st.integers(1, 200)),
        st.tuples(st.just("drain"), st.just(0)),
    ),
    max_size=40,
)


@given(events=events, room=st.sampled_from([1000, 1 << 40]))
def test_nothing_is_lost_reordered_or_early(
    events: list[tuple[str, int]], room: int
) -> None:
    """
    Whatever happens to limits and transport, the bytes come out as they went in, and
    under a constant limit never faster than it allows.
    """
    clock = Clock()
    connection, transport = connect(clock, room=room)
    written = arrived = b""
    allowed = 0.0
    limited_since: tuple[float, int, int] | None = None
    for number, (event, value) in enumerate(events):
        if event == "write":
            data = bytes([number % 256]) * value
            written += data
            connection.write(data)
        elif event == "limit":
            connection.own.send.claim("test", value)
            limited_since = value and (clock.seconds(), value, connection.sent)
        elif event == "pass":
            run(clock, value / 100)
        else:
            arrived += transport.drain()
        if limited_since:
            since, rate, before = limited_since
            allowed = rate * (clock.seconds() - since + 0.1) + 1
            assert connection.sent - before <= allowed + MAX_SLICE
    connection.own.send.claim("test", None)
    while connection.queued:
        arrived += transport.drain()
    arrived += transport.drain()
    assert arrived == written


# -- what the transport takes at once


class Descriptor(FileDescriptor):
    """
    Twisted's transport, with something below that takes what it is allowed to.

    :ivar takes: bytes that it takes still; None if it is broken.
    :ivar taken: those that it took.
    """

    def __init__(self) -> None:
        super().__init__(MemoryReactor())  # type: ignore[arg-type]
        self.connected = 1
        self.takes: int | None = 0
        self.taken = b""

    def writeSomeData(  # noqa: N802  # Twisted's name
        self, data: bytes
    ) -> int | BaseException:
        if self.takes is None:
            return ConnectionLost()
        count = min(self.takes, len(data))
        self.takes -= count
        self.taken += bytes(data[:count])
        return count

    def turn(self, takes: int) -> None:
        """
        The reactor's: the descriptor can take so many bytes.
        """
        self.takes = takes
        if self in self.reactor.getWriters():
            self.doWrite()


def connect_descriptor() -> tuple[ThrottledConnection, Descriptor]:
    """
    A connection past its handshake, on a :class:`Descriptor`.
    """
    factory = ThrottledFactory(Factory.forProtocol(Received), Clock())
    connection = factory.buildProtocol(ADDRESS)
    assert connection is not None
    descriptor = Descriptor()
    connection.makeConnection(descriptor)
    connection.begin_holding()
    return connection, descriptor


def test_large_writes_do_not_wait_for_a_turn() -> None:
    """
    What can be taken is taken at once, the rest when there is room again; until then
    the producer pauses.
    """
    connection, descriptor = connect_descriptor()
    producer = Producer(connection, bytes(range(256)) * 1024, 5)
    descriptor.takes = 600_000
    producer.start()
    assert len(descriptor.taken) == 600_000
    assert producer.told == ["pause"]
    descriptor.turn(1_000_000)
    assert producer.told == ["pause", "resume"]
    assert descriptor.taken == bytes(range(256)) * 1024 * 5


def test_a_view_is_used_before_the_return_only() -> None:
    """
    What has to wait was copied.
    """
    connection, descriptor = connect_descriptor()
    memory = bytearray(b"x" * LARGE * 2)
    descriptor.takes = LARGE
    with memoryview(memory) as view:
        connection.write_view(view)
    memory[:] = bytes(len(memory))
    descriptor.turn(1 << 20)
    assert descriptor.taken == b"x" * LARGE * 2


def test_a_broken_descriptor_says_so_in_its_turn() -> None:
    """
    An error does not become anything else because it was met early.
    """
    connection, descriptor = connect_descriptor()
    descriptor.takes = None
    connection.write(bytes(LARGE))
    assert isinstance(descriptor.doWrite(), ConnectionLost)


def test_nothing_is_taken_after_the_end() -> None:
    """
    A connection that is gone takes nothing.
    """
    connection, descriptor = connect_descriptor()
    descriptor.takes = 1 << 20
    descriptor.connectionLost(Failure(ConnectionLost()))
    connection.write(bytes(LARGE))
    assert descriptor.taken == b""


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["write", "limit", "turn"]),
            st.one_of(st.integers(1, 1000), st.integers(LARGE - 5, 3 * LARGE)),
        ),
        max_size=30,
    )
)
def test_what_is_taken_at_once_is_in_order(events: list[tuple[str, int]]) -> None:
    """
    Small writes and large ones, limited or not, leave in the order in which they came.
    """
    connection, descriptor = connect_descriptor()
    written = b""
    for number, (event, value) in enumerate(events):
        if event == "write":
            data = bytes([number % 256]) * value
            written += data
            connection.write(data)
        elif event == "limit":
            connection.own.send.claim("test", None if value % 2 else 128 + value)
        else:
            descriptor.turn(value)
        assert written.startswith(descriptor.taken)
    connection.own.send.claim("test", None)
    while descriptor.taken != written:
        descriptor.turn(1 << 20)


# -- what the daemon and the command build on


def test_reads_are_small_under_a_small_limit() -> None:
    """
    Paying for what was read at once takes a tenth of a second, as far as possible;
    without the limit, reads are as before.
    """
    connection, transport = connect(Clock())
    assert transport.bufferSize == BULK
    connection.own.receive.claim("test", 100_000)
    assert transport.bufferSize == 10_000
    connection.own.receive.claim("test", 128)
    assert transport.bufferSize == SMALLEST_READ
    connection.own.receive.claim("test", None)
    assert transport.bufferSize == BULK


def test_time_of_held_reading_is_counted() -> None:
    """
    From the pause to the end of it, also if the limit is lifted meanwhile.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.receive.claim("test", 1000)
    connection.dataReceived(bytes(1000))
    assert transport.producerState == "paused"
    run(clock, 2.0)
    assert connection.held == pytest.approx(1.0, abs=0.02)
    connection.dataReceived(bytes(1000))
    run(clock, 0.5)
    connection.own.receive.claim("test", None)
    assert transport.producerState == "producing"
    assert connection.held == pytest.approx(1.5, abs=0.03)


def test_tolerance_of_a_limit() -> None:
    """
    Reading goes on as long as no more than that is too much, and is held for the rest.
    """
    clock = Clock()
    service = Shared(clock, tolerance=0.5)
    connection, transport = connect(clock, service)
    service.receive.claim("test", 1000)
    connection.dataReceived(bytes(500))
    assert transport.producerState == "producing"
    connection.dataReceived(bytes(200))
    assert transport.producerState == "paused"
    run(clock, 0.28)
    assert transport.producerState == "paused"
    run(clock, 0.05)
    assert transport.producerState == "producing"


def test_owner_hears_of_changes() -> None:
    """
    Of either direction and any scope, once limits hold.
    """
    clock = Clock()
    service = Shared(clock)
    connection, _transport = connect(clock, service)
    heard: list[tuple[int | None, int | None]] = []
    connection.limits_changed = lambda: heard.append(
        (connection.send_rate, connection.receive_rate)
    )
    service.send.claim("test", 1000)
    connection.own.receive.claim("test", 2000)
    assert heard == [(1000, None), (1000, 2000)]


def test_found_below_other_layers() -> None:
    """
    TLS is one; a transport without any limiter is a mistake.
    """
    connection, transport = connect(Clock())
    above = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
    above.transport = connection
    assert throttled_below(above) is connection
    with pytest.raises(TypeError, match="nothing limits"):
        throttled_below(transport)


def test_what_a_peer_does_not_read_is_bounded() -> None:
    """
    Not everything that is written comes from a producer: TLS answers by itself.
    """
    clock = Clock()
    connection, transport = connect(clock)
    connection.own.send.claim("test", 1024)
    for _ in range(MOST_BYTES // (1 << 20)):
        connection.write(bytes(1 << 20))
    assert not transport.aborted
    connection.write(bytes(1 << 20))
    assert transport.aborted


def test_nothing_was_held_back_for_less_than_no_time() -> None:
    """
    Also if the clock is set back meanwhile.
    """
    clock = Clock()
    clock.advance(100)
    connection, _transport = connect(clock)
    connection.own.send.claim("test", 10_000)
    connection.own.receive.claim("test", 10_000)
    connection.write(bytes(60_000))
    connection.dataReceived(bytes(60_000))
    run(clock, 0.1)
    clock.rightNow -= 50
    connection.own.send.claim("test", 9000)
    connection.own.receive.claim("test", 9000)
    assert connection.waited >= 0
    assert connection.held >= 0
