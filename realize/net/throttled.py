"""
The throttled transport: every byte of every connection passes here, below TLS.

Towards the transport it is a protocol and the transport's producer; towards TLS it is
the transport and a consumer.  Writes go through a
:class:`~realize.net.shaper.WriteShaper`, which is an object of its own since on a
transport ``pauseProducing`` means "stop reading" and on a producer "stop writing".
Two things may hold reading back, and each is remembered separately: the protocol above
asked for it, or a limit on what is received was exceeded.

Without a limit a write goes straight through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from realize.net.shaper import WriteShaper
from realize.net.throttle import RECEIVE_TOLERANCE, Limit, Passage

#: Most that is read and sent at once, in bytes: each time costs as much as encrypting
#: 64 KiB, and more than this would not stay in the processor's cache.
BULK: Final = 256 * 1024

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
        self._out = WriteShaper(
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
        return self._out.queued

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
            # A clock may be set back.
            self.held += max(0.0, self._clock.seconds() - self._read_timer_since)

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
