"""
How far, how fast, how long.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.cli.pace import FILE_WORK, WINDOW, Pace
from realize.model import File
from realize.move.outcome import Outcome


def file(name: bytes, size: int) -> File:
    """
    A file as listed.
    """
    return File(name, size, 0, 0o644, b"i")


def moved(name: bytes, size: int) -> Outcome:
    """
    A file that has arrived.
    """
    return Outcome(name, size, 0, "moved")


def test_a_large_file_counts_while_it_is_sent() -> None:
    """
    With what was kept of it, and once only.
    """
    pace = Pace()
    pace.add_listed([file(b"l", 1000), file(b"s", 10)])
    pace.begin(b"l", 1000, kept=300)
    pace.advance(200, b"l")
    pace.advance(10, b"")
    assert pace.done_bytes == 500
    assert pace.written == 210
    pace.end([moved(b"l", 1000), moved(b"s", 10)])
    assert pace.done_bytes == 1010
    assert pace.work_done == pace.work == 1010 + 2 * FILE_WORK
    assert not pace.large


def test_a_file_that_failed_is_not_waited_for() -> None:
    """
    The work is done when all have ended, however they did.
    """
    pace = Pace()
    pace.add_listed([file(b"l", 1000)])
    pace.begin(b"l", 1000, kept=0)
    pace.advance(200, b"l")
    pace.end([Outcome(b"l", 1000, 0, "failed", "destination", "NO_SPACE", "full")])
    assert pace.work_done == pace.work


def test_a_walk_that_begins_again_is_not_counted_twice() -> None:
    """
    Only what has not ended is listed once more.
    """
    pace = Pace()
    pace.add_listed([file(b"a", 10), file(b"b", 20)])
    pace.end([moved(b"a", 10)])
    pace.restart()
    pace.add_listed([file(b"b", 20)])
    assert (pace.listed, pace.listed_bytes) == (2, 30)


def test_rate_and_time_left() -> None:
    """
    Of the last seconds, not of the whole move.
    """
    pace = Pace()
    pace.add_listed([file(b"l", 10_000_000)])
    pace.begin(b"l", 10_000_000, kept=0)
    assert pace.rate == 0
    assert pace.seconds_left is None
    for second in range(100):
        pace.sample(float(second))
        pace.advance(1000 if second < 50 else 50_000, b"l")
    assert pace.rate == pytest.approx(50_000, rel=0.1)
    left = pace.seconds_left
    assert left == pytest.approx((pace.work - pace.work_done) / 50_000, rel=0.1)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**9)), max_size=50))
def test_few_samples_are_remembered(steps: list[tuple[float, int]]) -> None:
    """
    A window's worth and one before it; rates are never negative, whatever the clock.
    """
    pace = Pace()
    now = 0.0
    for seconds, nbytes in steps:
        now += seconds
        pace.advance(nbytes, b"")
        pace.sample(now)
        first, last = pace._samples[min(1, len(pace._samples) - 1)], pace._samples[-1]
        assert last[0] - first[0] < WINDOW or len(pace._samples) <= 2
        assert pace.rate >= 0
