"""
What is asked for next of a large file, with what is known of its holes.
"""

from __future__ import annotations

import pytest

from realize.model import MAX_RUNS, File
from realize.move.sending import Large
from realize.move.tally import Item

HUGE = 2**63 - 1


@pytest.fixture
def large() -> Large:
    """
    One of 8 EiB, of which nothing is known.
    """
    return Large(Item(File(b"x", HUGE, 0, 0o644, b"", HUGE - 100), 0.0))


def test_nothing_is_known(large: Large) -> None:
    """
    So it may all be data.
    """
    assert [large.take(10), large.take(10)] == [(10, 0), (10, 0)]
    assert large.asked == 20


def test_a_slice_has_so_much_data_and_all_holes_between(large: Large) -> None:
    """
    Data that is known and has no room in it comes with the next.
    """
    large.take(10)
    large.learn(10, [0, 1000, 4, 2000, 9, HUGE - 3023])
    assert large.take(10) == (1000 + 4 + 2000 + 6, 3000)
    assert large.take(10) == (HUGE - 3020, HUGE - 3023)
    assert large.asked == HUGE


def test_what_was_asked_for_or_known_is_not_learnt_again(large: Large) -> None:
    """
    Nor what comes after something unknown.
    """
    large.take(50)
    large.learn(10, [0, 20, 5])
    large.learn(60, [0, 20, 5])
    assert not large.known
    large.learn(10, [0, 20, 5, 100])
    large.learn(40, [0, 95, 5])
    assert large.take(10) == (90, 85)


def test_runs_in_a_slice_are_bounded(large: Large) -> None:
    """
    By what one answer can tell.
    """
    large.learn(0, [0] + [1] * (3 * MAX_RUNS))
    length, _holes = large.take(HUGE)
    assert length < MAX_RUNS
