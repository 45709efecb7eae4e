"""
Compressing what is sent: whether, how much, and in which order it leaves.

``auto`` compresses a payload if the line is slow beside the processor: the limit on
what is sent is known, and otherwise the line is measured while it is full.  What does
not shrink is sent as it is.

Compressing takes place in threads, several payloads at a time; boxes leave in the
order in which they were to be sent all the same, because stores see operations on a
file in that order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeVar, get_args

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.protocols import amp
from twisted.python.failure import Failure

from realize.net.throttled import ThrottledConnection
from realize.observe.metrics import CompressionMetrics
from realize.wire.flow import Outbox
from realize.wire.payload import Packed
from realize.wire.zstd import Codec

Mode = Literal["auto", "always", "never"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

#: The key in a box whose payload has compressed data: how many bytes that was.
ZSTD: Final = b"zstd"

#: Payloads with less data than this many bytes are left alone.
SMALLEST: Final = 1024

#: Up to how many bytes per second of the line, which level.  Measured on text, one
#: core of 2025: level 6 to 1/4.7 at 110 MB/s, level 3 to 1/4.2 at 290 MB/s, level 1
#: to 1/3.8 at 400 MB/s.  Above the last, the processor would soon be the slower part.
LEVELS: Final = ((8_000_000, 6), (32_000_000, 3), (64_000_000, 1))
_SPEEDS: Final = {6: 110e6, 3: 290e6, 1: 400e6}

#: Seconds for which a line must have been full to be judged, and after which what was
#: seen before counts half.
EVIDENCE: Final = 0.2
MEMORY: Final = 2.0

#: Bytes that tell how fast this processor is.  Of fewer, most of the time may be that
#: of waking up a thread.
TELLING: Final = 256 * 1024

#: With each payload that only a slow processor kept from being compressed, it is
#: believed to be this much faster, until one shows how fast it is now.
HOPE: Final = 1.01

T = TypeVar("T")


class Workers(Protocol):
    """
    Threads, such as :class:`realize.store.work.WorkPool`.
    """

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """
        Call a function in a thread; the answer does not come before this returns.
        """


@define(eq=False)
class Compression:
    """
    What all connections of a process share.

    :ivar mode: what this process wants; a client tells the server.
    :ivar content: bytes of content that crossed compressed, in both directions.
    :ivar crossed: what they had become.
    :ivar smallest: payloads with less data than so many bytes are left alone.
    :ivar pace: how fast this processor compresses, beside the one of :data:`LEVELS`;
        at most 1.
    """

    workers: Workers
    mode: Mode = "auto"
    metrics: CompressionMetrics | None = None
    codec: Codec = field(factory=Codec)
    smallest: int = SMALLEST
    content: int = 0
    crossed: int = 0
    pace: float = 1.0

    def count(self, direction: str, content: int, crossed: int) -> None:
        """
        A payload was sent or received compressed.
        """
        self.content += content
        self.crossed += crossed
        if self.metrics is not None:
            self.metrics.content.labels(direction).inc(content)
            self.metrics.crossed.labels(direction).inc(crossed)

    def took(self, nbytes: int, level: int, seconds: float) -> None:
        """
        Learn from what was compressed how fast it goes here.
        """
        speed = min(1.0, nbytes / max(seconds, 1e-6) / _SPEEDS[level])
        self.pace += (speed - self.pace) * min(1.0, nbytes / TELLING) / 8

    def level(self, mode: Mode, rate: float | None) -> int:
        """
        How to compress for a line of so many bytes per second; 0 for not at all.

        :param rate: None if it is not known to be slow.
        """
        if mode == "never":
            return 0
        if rate is not None:
            for most, level in LEVELS:
                if rate <= most * self.pace:
                    return level
            if rate <= LEVELS[-1][0]:
                self.pace = min(1.0, self.pace * HOPE)
        return LEVELS[-1][1] if mode == "always" else 0


@define(eq=False)
class LineRate:
    """
    How fast a line takes bytes that wait for it.

    Looked at whenever a payload is about to be sent: if bytes wait then, and waited
    the time before, the line was full all the while.
    """

    _clock: IReactorTime
    _full: bool = False
    _since: float = 0.0
    _sent: int = 0
    _bytes: float = 0.0
    _seconds: float = 0.0

    def see(self, sent: int, full: bool) -> None:
        """
        :param sent: bytes that were sent in all.
        :param full: whether bytes wait to be sent.
        """
        now = self._clock.seconds()
        if full and self._full:
            self._bytes += sent - self._sent
            self._seconds += max(0.0, now - self._since)
        if not full or self._seconds > MEMORY:
            # Idle, it may have become faster than it was.
            self._bytes /= 2
            self._seconds /= 2
        self._full, self._since, self._sent = full, now, sent

    @property
    def rate(self) -> float | None:
        """
        Bytes per second; None if too little was seen.
        """
        return self._bytes / self._seconds if self._seconds >= EVIDENCE else None


@define(eq=False)
class _Departure:
    """
    :ivar ready: whether nothing has to be done with it any more.
    """

    box: amp.AmpBox
    packed: Packed | None
    is_answer: bool
    ready: bool = True

    @property
    def nbytes(self) -> int:
        return len(self.packed) if self.packed is not None and self.is_answer else 0


@define(eq=False)
class Outgoing:
    """
    The boxes of one connection that wait for their turn.

    :ivar mode: what was agreed on with the other end.
    """

    _shared: Compression | None
    _outbox: Outbox
    _throttled: ThrottledConnection
    #: Sends a box, with its payload as it is.
    _write: Callable[[amp.AmpBox, Packed | None, bool], None]
    #: Told of bytes of answers that begin to wait here, or end.
    _waits: Callable[[int], None]
    _line: LineRate
    mode: Mode = "never"
    _queue: deque[_Departure] = field(factory=deque)

    @property
    def waiting(self) -> bool:
        """
        Whether something has not been sent.
        """
        return bool(self._queue)

    def send(self, box: amp.AmpBox, packed: Packed | None, is_answer: bool) -> None:
        """
        Send a box, compressed if that is worth it, after all that were sent before.
        """
        shared, level = self._shared, 0
        if (
            self.mode != "never"
            and packed is not None
            and shared is not None
            and len(packed.data) >= shared.smallest
        ):
            level = shared.level(self.mode, self._rate())
        if not level and not self._queue:
            self._write(box, packed, is_answer)
            return
        departure = _Departure(box, packed, is_answer, ready=not level)
        self._queue.append(departure)
        self._waits(departure.nbytes)
        if level and packed is not None and shared is not None:
            shared.workers.run(shared.codec.compress, packed.data, level).addBoth(
                self._compressed, departure, level
            )

    def release(self) -> None:
        """
        Send what waits as it is, now.
        """
        for departure in self._queue:
            departure.ready = True
        self._flush()

    def clear(self) -> None:
        """
        The connection is gone: drop what waits.
        """
        while self._queue:
            self._waits(-self._queue.popleft().nbytes)

    def _rate(self) -> float | None:
        """
        Bytes per second that the line takes, as far as that is known.
        """
        self._line.see(self._throttled.sent, self._outbox.paused)
        rate: float | None = self._throttled.send_rate
        seen = self._line.rate
        if seen is not None:
            rate = seen if rate is None else min(rate, seen)
        return rate

    def _compressed(
        self,
        result: tuple[bytes | None, float] | Failure,
        departure: _Departure,
        level: int,
    ) -> None:
        packed, shared = departure.packed, self._shared
        if departure.ready or departure not in self._queue:
            return  # released, or the connection is gone
        # Should it have failed, it is sent as it is.
        frame, seconds = (None, 0.0) if isinstance(result, Failure) else result
        if frame is not None and packed is not None and shared is not None:
            nbytes = len(packed.data)
            shared.took(nbytes, level, seconds)
            shared.count("sent", nbytes, len(frame))
            self._waits(-departure.nbytes)
            departure.box[ZSTD] = b"%d" % nbytes
            departure.packed = Packed(packed.head, frame)
            self._waits(departure.nbytes)
        departure.ready = True
        self._flush()

    def _flush(self) -> None:
        while self._queue and self._queue[0].ready:
            departure = self._queue.popleft()
            self._waits(-departure.nbytes)
            self._write(departure.box, departure.packed, departure.is_answer)
