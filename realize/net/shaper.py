"""
The way out of a connection: a queue, the limits, and the producer above.

Three things may hold writes back, and each is remembered separately: the transport's
buffer is full, a limit has to be waited for, or nothing is queued because nothing was
written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from realize.net.throttle import MAX_SLICE, Passage

#: The producer above is paused while more bytes than this are queued.
QUEUE_BYTES: Final = 64 * 1024

#: More than this is never queued for a producer that obeys.  A peer that has TLS itself
#: answer it, and reads nothing, would have it grow without end.
MOST_BYTES: Final = 16 * 1024 * 1024

#: As many bytes are worth sending at once, without waiting for the reactor's turn.
LARGE: Final = 64 * 1024


@implementer(IPushProducer)
class WriteShaper:
    """
    Towards the transport its producer; towards the producer above its consumer.

    :param idle: called when nothing is queued any more.
    :param changed: called after every change of a limit that holds here.
    :ivar exempt: bytes are counted, but not held back.
    :ivar passage: the limits.
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
        """
        Send bytes, now or when the limits allow; a view is not used after the return.
        """
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
            if self._queued > MOST_BYTES:
                self._transport.abortConnection()

    def register(self, producer: IPushProducer) -> None:
        """
        Pause and resume a producer by how much is queued.

        :raises RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer = producer
        self._producer_paused = False
        self._tell_producer()

    def unregister(self) -> None:
        """
        The producer has no more to write.
        """
        self._producer = None

    @property
    def empty(self) -> bool:
        """
        Whether the transport has been given everything.
        """
        return not self._queue

    @property
    def queued(self) -> int:
        """
        Bytes held back at the moment.
        """
        return self._queued

    # -- called by the transport

    def pauseProducing(self) -> None:
        """
        The transport's buffer is full.
        """
        self._full = True
        self._tell_producer()

    def resumeProducing(self) -> None:
        """
        The transport has sent all that it had.
        """
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
        # A clock may be set back.
        self.waited += max(0.0, self._clock.seconds() - self._timer_since)

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
