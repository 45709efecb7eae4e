"""
Transports in memory that behave as TCP's do where it matters to a protocol.

Unlike ``twisted.internet.testing``'s and ``iosim``'s they have a send buffer that
fills, they pause the producer when it has and resume it when it is empty, and they stop
reading when told to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer


@frozen
class Stranger:
    """
    An address of somebody in memory.
    """

    host: str = "192.0.2.1"


@implementer(ITransport, IConsumer, IPushProducer)
class BoundedTransport:
    """
    One end of a connection in memory.

    :param size: bytes in the send buffer above which the producer is paused.
    :ivar protocol: who is told what arrives; set by :class:`Connected`.
    :ivar sent: what was written and not delivered.
    :ivar written: bytes written in all.
    :ivar reading: False while reading is paused.
    :ivar pauses: how often reading was paused.
    :ivar most: the most bytes that were ever in the send buffer.
    """

    protocol: IProtocol

    def __init__(self, size: int = 64 * 1024) -> None:
        self._size = size
        self._producer: Any = None
        self._producer_paused = False
        self.sent = bytearray()
        self.written = 0
        self.most = 0
        self.reading = True
        self.pauses = 0
        self.disconnecting = False
        self.aborted = False
        self.lost = False

    # -- called by the protocol

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes), type(data)
        if self.lost or self.aborted or (self.disconnecting and not self._producer):
            return
        self.sent += data
        self.written += len(data)
        self.most = max(self.most, len(self.sent))
        if len(self.sent) > self._size and self._producer and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.sent.clear()

    def pauseProducing(self) -> None:
        if self.reading:
            self.pauses += 1
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 40000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.2", 9771)

    # -- called by whoever moves the bytes

    def take(self, nbytes: int) -> bytes:
        """
        Bytes for the other end; resumes the producer once the buffer is empty.
        """
        data = bytes(self.sent[:nbytes])
        del self.sent[:nbytes]
        if not self.sent and self._producer and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        return data

    @property
    def closed(self) -> bool:
        """
        Whether this end has closed the connection and everything is delivered.
        """
        drained = self.disconnecting and not self.sent and self._producer is None
        return self.aborted or drained


class Connected:
    """
    Two protocols, connected in memory.

    :param clock: what the protocols wait by; moved on by no time at all, for calls
        that are due.
    :param segment: gives the size of each delivery, in bytes.
    """

    def __init__(
        self,
        client: IProtocol,
        server: IProtocol,
        clock: Clock,
        segment: Callable[[], int] = lambda: 16 * 1024,
        size: int = 64 * 1024,
    ) -> None:
        self.clock = clock
        self._segment = segment
        self.client_end = BoundedTransport(size)
        self.server_end = BoundedTransport(size)
        self.client_end.protocol = client
        self.server_end.protocol = server
        client.makeConnection(self.client_end)
        server.makeConnection(self.server_end)

    def pump(self) -> None:
        """
        Deliver until nothing moves any more.
        """
        moved = True
        while moved:
            self.clock.advance(0)
            moved = self._deliver(self.client_end, self.server_end)
            moved = self._deliver(self.server_end, self.client_end) or moved
            moved = self._end() or moved

    def cut(self) -> None:
        """
        Lose the connection, and what is under way.
        """
        self.client_end.aborted = self.server_end.aborted = True
        self.pump()

    def _deliver(self, source: BoundedTransport, target: BoundedTransport) -> bool:
        if not target.reading or target.lost or not source.sent:
            return False
        data = source.take(self._segment())
        if not target.aborted:
            target.protocol.dataReceived(data)
        return True

    def _end(self) -> bool:
        client, server = self.client_end, self.server_end
        if client.lost or not (client.closed or server.closed):
            return False
        for end, other in ((client, server), (server, client)):
            end.lost = True
            clean = not (end.aborted or other.aborted)
            reason = ConnectionDone() if clean else ConnectionLost()
            end.protocol.connectionLost(Failure(reason))
        return True
