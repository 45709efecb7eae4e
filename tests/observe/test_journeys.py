"""
What is remembered of files on their way, and how many lines they may cause.
"""

from __future__ import annotations

from twisted.internet.task import Clock

from realize.observe.journeys import (
    LINES_AT_ONCE,
    LINES_PER_SECOND,
    MAX_FILES,
    Journeys,
    LineBudget,
)


def test_seconds_and_bytes() -> None:
    """
    From the first byte to the end, over all parts; forgotten then.
    """
    clock = Clock()
    journeys = Journeys(clock.seconds)
    journeys.add(b"a", 5)
    clock.advance(2)
    journeys.add(b"a", 6)
    journeys.add(b"b", 1)
    clock.advance(1)
    assert journeys.end(b"a") == (3.0, 11)
    assert journeys.end(b"a") == (0.0, 0)
    assert journeys.end(b"b") == (1.0, 1)


def test_bounded() -> None:
    """
    Files that never come to an end do not fill the memory.
    """
    journeys = Journeys(Clock().seconds)
    for number in range(MAX_FILES + 1):
        journeys.add(b"%d" % number, 1)
    assert journeys.end(b"0") == (0.0, 0)
    assert journeys.end(b"1") == (0.0, 1)


def test_lines_are_earned() -> None:
    """
    So many at once, and from then on so many a second; what is refused costs nothing.
    """
    clock = Clock()
    budget = LineBudget(clock.seconds)
    assert budget.take(LINES_AT_ONCE)
    assert not budget.take(1)
    clock.advance(1)
    assert not budget.take(LINES_PER_SECOND + 1)
    assert budget.take(LINES_PER_SECOND)
    assert not budget.take(1)
    clock.advance(3600)
    assert budget.take(LINES_AT_ONCE)
    assert not budget.take(1)
