"""
The throttled transport: every byte of every connection passes here, below TLS.

Towards the transport it is a protocol and the transport's producer; towards TLS it is
the transport and a consumer.  Three things may hold writes back, and each is
remembered separately: the transport's buffer is full, a limit has to be waited for,
or nothing is queued because nothing was written.  Two things may hold reading back:
the protocol above asked for it, or a limit on what is received was exceeded.  On a
transport ``pauseProducing`` means "stop reading" and on a producer "stop writing",
so :class:`_WriteShaper` is an object of its own.

Without a limit a write goes straight through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from realize.net.throttle import MAX_SLICE, RECEIVE_TOLERANCE, Limit, Passage

#: The producer above is paused while more bytes than this are queued.
QUEUE_BYTES: Final = 64 * 1024

#: Most that is read and sent at once, in bytes: each time costs as much as encrypting
#: 64 KiB, and more than this would not stay in the processor's cache.
BULK: Final = 256 * 1024

#: As many bytes are worth sending at once, without waiting for the reactor's turn.
LARGE: Final = 64 * 1024

#: Least that is read at once under a limit, in bytes.
SMALLEST_READ: Final = 256


def _nobody_listens() -> None:
    """
    For connections whose owner does not want to know of changes.
    """


def throttled_below(transport: Any) -> ThrottledConnection:
    """
    The throttled connection below a TLS transport.

    :raises TypeError: there is none.
    """
    while isinstance(transport, ProtocolWrapper):
        if isinstance(transport, ThrottledConnection):
            return transport
        transport = transport.transport
    raise TypeError("nothing limits this transport: there is no ThrottledConnection")


class Shared:
    """
    The limits of one scope that connections can share, one a direction.

    :param tolerance: as of :class:`~realize.net.throttle.Limit`.
    """

    def __init__(
        self, clock: IReactorTime, tolerance: float = RECEIVE_TOLERANCE
    ) -> None:
        self.send = Limit(clock)
        self.receive = Limit(clock, tolerance)


@implementer(IPushProducer)
class _WriteShaper:
    """
    The way out: a queue, the limits, and the producer above.

    :ivar sent: bytes given to the transport so far.
    :ivar waited: seconds for which bytes were held back by a limit.
    """

    def __init__(
        self,
        transport: Any,
        clock: IReactorTime,
        idle: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._idle = idle
        self._changed = changed
        self._queue: deque[bytes | memoryview] = deque()
        self._queued = 0
        self._reserved = 0
        self._timer: IDelayedCall | None = None
        self._timer_since = 0.0
        self._full = False
        #: Whether bytes can be sent without waiting for the reactor's turn, and whether
        #: there are some that have to go before.
        self._at_once = hasattr(transport, "writeSomeData")
        self._behind = False
        self._producer: IPushProducer | None = None
        self._producer_paused = False
        self.exempt = True
        self.passage = Passage((), self.limits_changed)
        self.sent = 0
        self.waited = 0.0

    # -- called from above

    def write(self, data: bytes | memoryview) -> None:
        if self.exempt:
            self.passage.take(len(data))
            self._give(data)
        elif not (self._queue or self._full) and (
            not self.passage.limited
            or self.passage.take_saved(len(data), self._clock.seconds())
        ):
            self._give(data)
        elif data:
            self._queue.append(bytes(data))
            self._queued += len(data)
            self._pump()

    def register(self, producer: IPushProducer) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer = producer
        self._producer_paused = False
        self._tell_producer()

    def unregister(self) -> None:
        self._producer = None

    @property
    def empty(self) -> bool:
        return not self._queue

    def queued(self) -> int:
        return self._queued

    # -- called by the transport

    def pauseProducing(self) -> None:
        self._full = True
        self._tell_producer()

    def resumeProducing(self) -> None:
        self._full = self._behind = False
        self._pump()

    def stopProducing(self) -> None:
        """
        The connection is gone: drop what is queued and stop the timer.
        """
        self._release()
        self._queue.clear()
        self._queued = 0
        self.passage.leave()
        if self._producer is not None:
            self._producer.stopProducing()

    # -- the pump

    def limits_changed(self) -> None:
        """
        What waits was reserved under other limits: give it back and ask again.
        """
        self._release()
        self._pump()
        self._changed()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._stop_timer()
            self.passage.refund(self._reserved)
            self._reserved = 0

    def _stop_timer(self) -> None:
        self._timer = None
        self.waited += self._clock.seconds() - self._timer_since

    def _pump(self) -> None:
        while self._queue and self._timer is None and not self._full:
            head = self._queue[0]
            nbytes = len(head)
            if nbytes <= MAX_SLICE and self.passage.take_saved(
                nbytes, self._clock.seconds()
            ):
                self._send(nbytes)
                continue
            if self.passage.limited:
                nbytes = min(nbytes, self.passage.slice_size() or nbytes)
            wait = self.passage.take(nbytes)
            if wait > 0:
                self._reserved = nbytes
                self._timer_since = self._clock.seconds()
                self._timer = self._clock.callLater(wait, self._wake)
            else:
                self._send(nbytes)
        self._tell_producer()
        if not self._queue:
            self._idle()

    def _wake(self) -> None:
        self._stop_timer()
        nbytes, self._reserved = self._reserved, 0
        self._send(nbytes)
        self._pump()

    def _send(self, nbytes: int) -> None:
        head = self._queue.popleft()
        if nbytes < len(head):
            view = memoryview(head)
            self._queue.appendleft(view[nbytes:])
            head = view[:nbytes]
        self._queued -= nbytes
        self._give(head)

    def _give(self, data: bytes | memoryview) -> None:
        """
        Hand bytes to the transport: what it takes at once, at once.
        """
        self.sent += len(data)
        below = self._transport
        if not self._at_once:
            below.write(bytes(data))
            return
        full = False
        if len(data) >= LARGE and not self._behind and below.connected:
            count = below.writeSomeData(data)
            if isinstance(count, int):
                full = count < len(data)
                if not full:
                    return
                data = data[count:]
        below.write(bytes(data))
        # So it says when it has sent all that it has.
        self._behind = below.producerPaused = True
        if full:
            self._full = True
            self._tell_producer()

    def _tell_producer(self) -> None:
        if self._producer is None:
            return
        # Resumed only when the queue has run low, not at each slice.
        most = QUEUE_BYTES // 2 if self._producer_paused else QUEUE_BYTES
        pause = self._full or self._queued > most
        if pause != self._producer_paused:
            self._producer_paused = pause
            if pause:
                self._producer.pauseProducing()
            else:
                self._producer.resumeProducing()


class ThrottledConnection(ProtocolWrapper):
    """
    One connection, seen from both sides; made by :class:`ThrottledFactory`.

    :ivar own: the limits of this connection alone.
    :ivar received: bytes that have arrived so far.
    :ivar held: seconds for which a limit has held back reading.
    :ivar limits_changed: called after every change of a limit that holds here.
    """

    factory: ThrottledFactory

    def __init__(self, factory: ThrottledFactory, wrapped: IProtocol) -> None:
        super().__init__(factory, wrapped)
        self._clock = factory.clock
        self.own = Shared(self._clock)
        self.received = 0
        self.held = 0.0
        self.limits_changed: Callable[[], None] = _nobody_listens
        self._closing = False
        self._paused_above = False
        self._read_timer: IDelayedCall | None = None
        self._read_timer_since = 0.0

    def makeConnection(self, transport: ITransport) -> None:
        # ITransport alone says nothing of producers; what TCP gives is both.
        self._below = cast(Any, transport)
        if hasattr(transport, "SEND_LIMIT"):
            self._below.SEND_LIMIT = 2 * BULK
        self._out = _WriteShaper(
            transport, self._clock, self._drained, self._send_limits_changed
        )
        self._in = Passage((), self._receive_limits_changed)
        self._below.registerProducer(self._out, True)
        for shared in (self.own, *self.factory.shared):
            self.join(shared)
        super().makeConnection(transport)

    # -- limits

    def join(self, shared: Shared) -> None:
        """
        Obey limits shared with other connections, beside those obeyed already.
        """
        self._out.passage.join(shared.send)
        self._in.join(shared.receive)

    def begin_holding(self) -> None:
        """
        From now on bytes wait for the limits.

        Until this is called they are counted, and may put the buckets into debt, but
        are not held back: a handshake is short and has a deadline.
        """
        self._out.exempt = False

    @property
    def sent(self) -> int:
        """
        Bytes given to the network so far.
        """
        return self._out.sent

    @property
    def waited(self) -> float:
        """
        Seconds for which a limit has held back bytes to be sent.
        """
        return self._out.waited

    @property
    def queued(self) -> int:
        """
        Bytes held back at the moment.
        """
        return self._out.queued()

    @property
    def send_rate(self) -> int | None:
        """
        The smallest limit on what is sent, in bytes per second; None without one.
        """
        return self._out.passage.rate

    @property
    def receive_rate(self) -> int | None:
        """
        The smallest limit on what is received, in bytes per second; None without one.
        """
        return self._in.rate

    # -- the transport that the protocol above sees

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._out.write(data)

    def write_view(self, data: bytes | memoryview) -> None:
        """
        As ``write``; but nothing of *data* is used after the return.
        """
        if not self._closing:
            self._out.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            raise RuntimeError("only push producers (streaming=True) are taken")
        self._out.register(producer)

    def unregisterProducer(self) -> None:
        self._out.unregister()

    def loseConnection(self) -> None:
        """
        Close once everything queued has been sent, at the speed the limits allow.
        """
        if not self._closing:
            self._closing = True
            self.disconnecting = 1
            self._drained()

    def _drained(self) -> None:
        if self._closing and self._out.empty:
            self._below.unregisterProducer()
            self._below.loseConnection()

    def abortConnection(self) -> None:
        """
        Close at once; what is queued is dropped.
        """
        self._closing = True
        self._below.abortConnection()

    def pauseProducing(self) -> None:
        """
        The protocol above wants nothing to read.
        """
        self._paused_above = True
        self._below.pauseProducing()

    def resumeProducing(self) -> None:
        """
        The protocol above wants to read again; a limit may still hold it back.
        """
        self._paused_above = False
        if self._read_timer is None:
            self._below.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    # -- the protocol that the transport sees

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self._in.limited:
            self._in.take(len(data))
            self._hold_reading()
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._in.leave()
        self._stop_read_timer()
        self._out.stopProducing()
        super().connectionLost(reason)

    # -- holding reading back

    def _hold_reading(self) -> None:
        wait = self._in.hold()
        if not wait or self._out.exempt or self._read_timer is not None:
            return
        self._below.pauseProducing()
        self._read_timer_since = self._clock.seconds()
        self._read_timer = self._clock.callLater(wait, self._read_again)

    def _read_again(self) -> None:
        self._end_read_timer()
        if not self._paused_above:
            self._below.resumeProducing()

    def _stop_read_timer(self) -> bool:
        if self._read_timer is None:
            return False
        self._read_timer.cancel()
        self._end_read_timer()
        return True

    def _end_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer = None
            self.held += self._clock.seconds() - self._read_timer_since

    def _send_limits_changed(self) -> None:
        self.limits_changed()

    def _receive_limits_changed(self) -> None:
        self._fit_reads()
        if self._stop_read_timer():
            self._hold_reading()
            if self._read_timer is None:
                self._read_again()
        self.limits_changed()

    def _fit_reads(self) -> None:
        """
        Have so little read at once that paying for it does not take long.
        """
        if hasattr(self._below, "bufferSize"):
            rate = self._in.rate
            self._below.bufferSize = (
                BULK
                if rate is None
                else max(SMALLEST_READ, min(BULK, int(rate * RECEIVE_TOLERANCE)))
            )


class ThrottledFactory(WrappingFactory[ThrottledConnection]):
    """
    Puts a :class:`ThrottledConnection` below every protocol of *wrapped*.

    :param shared: limits that all connections of this factory share.
    :ivar clock: what waits are measured by.
    """

    protocol = ThrottledConnection
    noisy = False

    def __init__(
        self, wrapped: IProtocolFactory, clock: IReactorTime, *shared: Shared
    ) -> None:
        super().__init__(wrapped)
        self.clock = clock
        self.shared = shared

    def buildProtocol(  # type: ignore[override]  # the wrapped factory may refuse
        self, addr: IAddress | None
    ) -> ThrottledConnection | None:
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)
