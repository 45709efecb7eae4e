"""
Lines in the log that others cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from realize.wire.complaints import (
    BURST,
    LINES_PER_SECOND,
    MAX_PEERS,
    QUIET,
    STEADY,
    TOTAL_BURST,
    TOTAL_STEADY,
    Complaints,
)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """
    What is logged.
    """
    with capturedLogs() as captured:
        yield captured


def test_so_many_a_second(events):
    """
    What is left out is counted, and said when the second is over; the next second has
    its own lines.
    """
    clock = Clock()
    complaints = Complaints(clock)
    for _ in range(25):
        complaints.refused("laptop", "it is odd")
    assert len(events) == LINES_PER_SECOND
    clock.advance(1)
    assert events[-1]["count"] == 25 - LINES_PER_SECOND
    assert len(events) == LINES_PER_SECOND + 1
    complaints.refused("laptop", "it is odd")
    assert events[-1]["reason"] == "it is odd"
    assert clock.getDelayedCalls() == []


def test_each_peer_for_itself(events):
    """
    One that causes many lines does not hide others.
    """
    complaints = Complaints(Clock())
    for _ in range(100):
        complaints.refused("laptop", "it is odd")
    complaints.refused("archive", "it is odd")
    assert events[-1]["peer"] == "archive"


def test_bounded():
    """
    Strangers from everywhere do not fill the memory.
    """
    complaints = Complaints(Clock())
    for number in range(2 * MAX_PEERS):
        complaints.refused(f"stranger {number}", "unknown key")
    assert len(complaints._counts) == MAX_PEERS


def test_one_line(events):
    """
    Names and texts are data: nothing in them is a format or a new line.
    """
    complaints = Complaints(Clock())
    complaints.refused("laptop", "{x}")
    assert events[0]["log_format"] == "Refused {peer}: {reason}."


def test_in_the_long_run(events):
    """
    A peer that never stops, and all strangers wherever they come from, fill no disk;
    others are still heard.
    """
    clock = Clock()
    complaints = Complaints(clock)
    for number in range(36_000):
        complaints.refused("laptop", "it is odd")
        complaints.refused(f"2001:db8::{number % 9999:x}", "it is odd")
        clock.advance(0.1)
    assert len(events) < 2 * (BURST + 3600 * STEADY + 3600 / QUIET + 1)
    del events[:]
    complaints.refused("archive", "it is odd")
    assert events[-1]["peer"] == "archive"


def test_in_all(events):
    """
    However many peers there are.
    """
    clock = Clock()
    complaints = Complaints(clock)
    for _ in range(600):
        for number in range(200):
            complaints.refused(f"peer {number}", "it is odd")
        clock.advance(1)
    complained = [event for event in events if "count" not in event]
    assert len(complained) <= TOTAL_BURST + 600 * TOTAL_STEADY + 1
