"""
Whether content is compressed, and in which order boxes leave.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.protocols import amp
from twisted.python.failure import Failure

from realize.observe.metrics import CompressionMetrics
from realize.wire.compression import (
    LEVELS,
    ZSTD,
    Compression,
    LineRate,
    Outgoing,
)
from realize.wire.payload import Packed, pack
from realize.wire.zstd import Codec

TEXT = b"never lost, " * 1000
MB = 1_000_000


@define
class Later:
    """
    Workers whose work is done when a test says so, in the order that it says.
    """

    waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = field(factory=list)

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """
        Keep it for later.
        """
        answer: Deferred[Any] = Deferred()
        self.waiting.append((lambda: function(*args), answer))
        return answer

    def finish(self, index: int = 0) -> None:
        """
        Do some of the work.
        """
        work, answer = self.waiting.pop(index)
        answer.callback(work())

    def fail(self) -> None:
        """
        Let the next work fail.
        """
        self.waiting.pop(0)[1].errback(Failure(MemoryError()))


@define
class Line:
    """
    What :class:`Outgoing` sees of a connection.
    """

    paused: bool = False
    sent: int = 0
    send_rate: int | None = None


@define
class End:
    """
    One end of a connection, and what left it.
    """

    workers: Later = field(factory=Later)
    line: Line = field(factory=Line)
    clock: Clock = field(factory=Clock)
    left: list[tuple[bytes, Packed | None, bytes | None]] = field(factory=list)
    held: list[int] = field(factory=list)
    shared: Compression = field(init=False)
    outgoing: Outgoing = field(init=False)

    def __attrs_post_init__(self) -> None:
        metrics = CompressionMetrics.create(CollectorRegistry())
        self.shared = Compression(self.workers, metrics=metrics)
        line: Any = self.line
        self.outgoing = Outgoing(
            self.shared,
            line,
            line,
            self._write,
            self.held.append,
            LineRate(self.clock),
            "always",
        )

    def _write(self, box: amp.AmpBox, packed: Packed | None, is_answer: bool) -> None:
        self.left.append((box[b"n"], packed, box.get(ZSTD)))

    def send(self, name: bytes, data: bytes | None, is_answer: bool = False) -> None:
        """
        Send a box, with or without a payload.
        """
        packed = None if data is None else pack([], data)
        self.outgoing.send(amp.AmpBox({b"n": name}), packed, is_answer)

    @property
    def names(self) -> bytes:
        """
        What left, in order.
        """
        return b"".join(name for name, _, _ in self.left)


def test_order_is_kept():
    """
    However long threads take: what was sent later leaves later, compressed or not.
    """
    end = End()
    end.send(b"a", None)
    end.send(b"b", TEXT)
    end.send(b"c", TEXT)
    end.send(b"d", None)
    end.send(b"e", b"small")
    assert end.names == b"a"
    end.workers.finish(1)
    assert end.names == b"a"
    assert end.outgoing.waiting
    end.workers.finish()
    assert end.names == b"abcde"
    assert not end.outgoing.waiting
    assert [length for _, _, length in end.left] == [
        None,
        b"%d" % len(TEXT),
        b"%d" % len(TEXT),
        None,
        None,
    ]
    packed = end.left[1][1]
    assert packed is not None
    whole = Codec().decompress(packed.head + bytes(packed.data), len(TEXT))
    assert whole == packed.head + TEXT
    end.send(b"f", b"small")
    assert end.names == b"abcdef"


def test_what_does_not_shrink_leaves_as_it_is():
    """
    So does what could not be compressed for any reason.
    """
    end = End()
    noise = os.urandom(5000)
    end.send(b"a", noise)
    end.send(b"b", TEXT)
    end.workers.finish()
    end.workers.fail()
    assert [(n, p.data, z) for n, p, z in end.left if p] == [
        (b"a", noise, None),
        (b"b", TEXT, None),
    ]
    assert end.shared.content == end.shared.crossed == 0


def test_counted():
    """
    What was compressed, and to how much.
    """
    end = End()
    end.send(b"a", TEXT)
    end.workers.finish()
    packed = end.left[0][1]
    assert packed is not None
    assert end.shared.content == len(TEXT)
    assert end.shared.crossed == len(packed.data) < len(TEXT) // 10
    metrics = end.shared.metrics
    assert metrics is not None
    assert metrics.content.labels("sent")._value.get() == len(TEXT)
    assert metrics.crossed.labels("sent")._value.get() == len(packed.data)


def test_answers_that_wait_are_held_against_the_reader():
    """
    A peer that asks faster than this end compresses is read no more at some time; in
    the end nothing is held, however it ended.
    """
    end = End()
    for _ in range(3):
        end.send(b"a", TEXT, is_answer=True)
    end.send(b"r", TEXT)
    assert sum(end.held) > 3 * len(TEXT)
    end.workers.finish()
    end.outgoing.clear()
    assert sum(end.held) == 0
    end.workers.finish()
    assert end.names == b"a"


def test_release():
    """
    When the connection is about to be closed, what waits leaves at once.
    """
    end = End()
    end.send(b"a", TEXT)
    end.send(b"b", None)
    end.outgoing.release()
    assert end.names == b"ab"
    end.workers.finish()
    assert end.names == b"ab"
    assert end.left[0][2] is None


@pytest.mark.parametrize(
    ("mode", "limit", "compressed"),
    [
        ("never", 1 * MB, False),
        ("auto", None, False),
        ("auto", 1 * MB, True),
        ("auto", 500 * MB, False),
        ("always", None, True),
        ("always", 500 * MB, True),
    ],
)
def test_modes(mode, limit, compressed):
    """
    ``auto`` compresses under a limit that is low beside the processor.
    """
    end = End()
    end.outgoing.mode = mode
    end.line.send_rate = limit
    end.send(b"a", TEXT)
    assert bool(end.workers.waiting) == compressed


@pytest.mark.parametrize(
    ("rate", "compressed"), [(1 * MB, True), (50 * MB, True), (300 * MB, False)]
)
def test_measured_line(rate, compressed):
    """
    A line that is full is measured; a slow one is found out, and forgotten when it is
    idle.
    """
    end = End()
    end.outgoing.mode = "auto"
    end.line.paused = True
    for _ in range(10):
        end.send(b"a", TEXT)
        end.clock.advance(0.03)
        end.line.sent += rate * 3 // 100
    assert bool(end.workers.waiting) == compressed
    end.line.paused = False
    for _ in range(10):
        end.send(b"a", TEXT)
    end.workers.waiting.clear()
    end.send(b"a", TEXT)
    assert not end.workers.waiting


def test_time_in_which_nothing_waited_is_not_measured():
    """
    A line with nothing to do, as while a disk is busy, is not slow.
    """
    end = End()
    end.outgoing.mode = "auto"
    for n in range(20):
        end.line.paused = bool(n % 2)
        end.send(b"a", TEXT)
        end.clock.advance(1)
        end.line.sent += 10_000
    assert not end.workers.waiting


def test_slow_processor():
    """
    Where compressing takes long, it is done for slower lines only, and less.
    """
    fast, slow = End().shared, End().shared
    for _ in range(50):
        fast.took(110 * MB, 6, 0.5)
        slow.took(11 * MB, 6, 1.0)
    assert (fast.pace, round(slow.pace, 2)) == (1.0, 0.1)
    for most, level in LEVELS:
        assert fast.level("auto", most) == level
        assert slow.level("auto", most / 10.1) == level
    assert slow.level("auto", LEVELS[-1][0]) == 0


def test_small_payloads_do_not_make_a_processor_slow():
    """
    What a thread needs to begin is no measure of how fast it compresses.
    """
    shared = End().shared
    for _ in range(50):
        shared.took(1024, 1, 0.005)
    assert shared.pace > 0.9


def test_processor_that_was_busy():
    """
    One that was slow for a while is tried again, but not with every payload.
    """
    shared = End().shared
    for _ in range(50):
        shared.took(1 * MB, 6, 1.0)
    assert shared.pace < 0.02
    rate = LEVELS[-1][0] / 2
    tries = 0
    for _ in range(1000):
        if level := shared.level("auto", rate):
            tries += 1
            shared.took(1 * MB, level, 1.0)
    assert 0 < tries < 100
    for _ in range(100):
        if level := shared.level("auto", rate):
            shared.took(1 * MB, level, 0.001)
    assert shared.pace == pytest.approx(1.0, abs=0.1)
    before = shared.pace
    shared.level("auto", LEVELS[-1][0] * 2)
    shared.level("auto", None)
    assert shared.pace == before


def test_clock_that_steps_backwards():
    """
    Counts as one that stood still.
    """
    clock = Clock()
    line = LineRate(clock)
    for second, sent in ((3600, 0), (3601, 10), (0, 20), (1, 30)):
        clock.rightNow = float(second)
        line.see(sent, full=True)
    assert line.rate == 15
