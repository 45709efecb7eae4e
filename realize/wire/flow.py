"""
How much a connection may have in progress, in each direction.

AMP by itself queues answers without bound and dispatches requests without limit.  Here
:class:`Outbox` holds back what the transport does not take, and :class:`Intake` stops
reading while there is too much to do.  These are two objects because on a transport
``pauseProducing`` means "stop reading" and on a producer "stop writing": one object
for both would stop reading when the peer is slow to read, and two such peers would
wait for each other for ever.

Only the requests of the peer count for stopping to read, and the answers to them; not
the requests of this side, nor the answers that it gets.  So the side that asks always
reads, and what the other side has to send always gets through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from realize.net.throttled import BULK

#: Reading stops at this many requests, or bytes that belong to them, in progress, or
#: bytes of answers that the peer has not read.
MAX_REQUESTS: Final = 64
MAX_IN_PROGRESS: Final = 16 * 1024 * 1024
MAX_UNREAD: Final = 8 * 1024 * 1024

#: The same for all connections of a process together, in bytes.
MAX_TOTAL: Final = 32 * 1024 * 1024

#: Requests of one connection, however small, before the others have their turn.
MAX_IN_TURN: Final = 64

#: What is written to the transport at once, in bytes.
SLICE: Final = BULK


@define(eq=False)
class Budget:
    """
    Bytes in progress or unread on all connections together.

    Once it is used up, only connections that use none of it go on reading.  So one
    peer cannot bring the others to a stop.
    """

    limit: int = MAX_TOTAL
    used: int = 0
    _waiting: set[Callable[[], None]] = field(factory=set)

    @property
    def exhausted(self) -> bool:
        """
        Whether all of it is in use.
        """
        return self.used >= self.limit

    def change(self, nbytes: int) -> None:
        """
        Use up *nbytes*, or give them back if negative.
        """
        self.used += nbytes
        if nbytes < 0 and not self.exhausted:
            waiting, self._waiting = self._waiting, set()
            for resume in waiting:
                resume()

    def when_free(self, resume: Callable[[], None]) -> None:
        """
        Call *resume*, once, when it is no longer exhausted.
        """
        self._waiting.add(resume)

    def forget(self, resume: Callable[[], None]) -> None:
        """
        Undo :meth:`when_free`.
        """
        self._waiting.discard(resume)


@implementer(IPushProducer)
class Outbox:
    """
    What waits to be written because the transport has enough.

    It is the producer that the transport sees, and covers this direction only.

    :param transport: where everything is written, in order.
    :param changed: called when bytes of answers were added to or taken from what
        waits, with how many.
    :ivar paused: whether the transport wants no more.
    """

    def __init__(self, transport: Any, changed: Callable[[int], None]) -> None:
        self._transport = transport
        self._changed = changed
        self._queue: deque[tuple[bytes, memoryview, bool]] = deque()
        self.paused = False

    def send(self, box: bytes, data: bytes | memoryview, is_answer: bool) -> None:
        """
        Write *box* and then *data*, now or as soon as the transport takes it.
        """
        room = max(0, SLICE - len(box))
        view = memoryview(data)
        self._queue.append((box, view[:room], is_answer))
        for at in range(room, len(view), SLICE):
            self._queue.append((b"", view[at : at + SLICE], is_answer))
        if is_answer:
            self._changed(len(box) + len(view))
        self._pump()

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._pump()

    def stopProducing(self) -> None:
        """
        The connection is gone: drop what waits.
        """
        self.paused = True
        self._changed(
            -sum(
                len(box) + len(data)
                for box, data, is_answer in self._queue
                if is_answer
            )
        )
        self._queue.clear()

    def release(self) -> None:
        """
        Write the answers that wait, and short requests behind them, whatever the
        transport wants: the connection is about to be closed.

        The payloads of requests are not worth waiting for.
        """
        count = 0
        for number, (_box, data, is_answer) in enumerate(self._queue, 1):
            if data and not is_answer:
                break
            count = number
        for _ in range(count):
            self._write()

    def _pump(self) -> None:
        while self._queue and not self.paused:
            self._write()

    def _write(self) -> None:
        box, data, is_answer = self._queue.popleft()
        if data:
            # Views: neither joined nor copied before they are encrypted.
            self._transport.writeSequence((box, data))
        else:
            self._transport.write(box)
        if is_answer:
            self._changed(-len(box) - len(data))


class Intake:
    """
    Decides whether to read on.

    :param transport: whose reading is stopped.
    :param budget: shared with other connections.
    :param resume: called once reading goes on, never from inside a request: what had
        arrived is looked at again then.
    :ivar paused: whether nothing more is to be looked at; bytes that arrive all the
        same, because TLS had decrypted them, are kept for later.
    """

    def __init__(
        self,
        transport: Any,
        clock: IReactorTime,
        budget: Budget,
        resume: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._budget = budget
        self._resume = resume
        self._requests = 0
        self._in_turn = 0
        self._in_progress = 0
        self._unread = 0
        self._check_soon: IDelayedCall | None = None
        self._stopped = False
        self.paused = False

    def arrived(self) -> None:
        """
        Something came from the network, so the others have had their turn.
        """
        self._in_turn = 0

    def begin(self, nbytes: int) -> None:
        """
        A request came, with a payload of *nbytes* bytes.
        """
        self._requests += 1
        self._in_turn += 1
        self._hold(nbytes)

    def end(self, nbytes: int) -> None:
        """
        A request was answered.
        """
        self._requests -= 1
        self._hold(-nbytes)

    @contextmanager
    def holding(self, nbytes: int) -> Iterator[None]:
        """
        Count *nbytes* that an answer is going to have, while it is made.
        """
        self._hold(nbytes)
        try:
            yield
        finally:
            self._hold(-nbytes)

    def unread_changed(self, nbytes: int) -> None:
        """
        Answers of *nbytes* bytes began to wait for the peer to read, or ended if
        negative.
        """
        self._unread += nbytes
        self._change(nbytes)

    def stop(self) -> None:
        """
        The connection is gone.
        """
        self._stopped = True
        self._budget.forget(self._look_soon)
        if self._check_soon is not None:
            self._check_soon.cancel()
            self._check_soon = None

    def _hold(self, nbytes: int) -> None:
        self._in_progress += nbytes
        self._change(nbytes)

    def _change(self, nbytes: int) -> None:
        self._budget.change(nbytes)
        if self.paused:
            self._look_soon()
        elif self._too_much():
            self.paused = True
            self._transport.pauseProducing()
            self._look_soon()

    def _too_much(self) -> bool:
        return (
            self._requests >= MAX_REQUESTS
            or self._in_turn >= MAX_IN_TURN
            or self._in_progress >= MAX_IN_PROGRESS
            or self._unread >= MAX_UNREAD
            or (self._budget.exhausted and self._in_progress + self._unread > 0)
        )

    def _look_soon(self) -> None:
        if self._check_soon is None and not self._stopped:
            self._check_soon = self._clock.callLater(0, self._look)

    def _look(self) -> None:
        self._check_soon = None
        self._in_turn = 0
        if self._too_much():
            if self._budget.exhausted:
                self._budget.when_free(self._look_soon)
            return
        self.paused = False
        self._transport.resumeProducing()
        self._resume()
