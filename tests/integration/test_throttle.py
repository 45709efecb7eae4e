"""
Limits over real sockets: how exact they are, and how soon a change is felt.

The whole table, with higher rates and longer times, is
``python -m benchmarks.throttle_accuracy``; ``CONTRIBUTING.md`` says when to run it.
"""

from __future__ import annotations

from typing import Literal

import pytest

from tests.support.flood import Plan, measure

K, M = 1024, 1024 * 1024

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("at", ["sender", "receiver"])
@pytest.mark.parametrize("limit", [10 * K, M, 20 * M])
def test_rate_is_held(limit: int, at: Literal["sender", "receiver"]) -> None:
    """
    Within 3%, kept by the one who sends, or by the one who receives from somebody who
    does not care.
    """
    # The first second pays for the handshake.
    arrived = measure(Plan(limit=limit, at=at, seconds=5))
    assert arrived.between(1, 5) == pytest.approx(limit, rel=0.03, abs=M // 100)


def test_change_is_felt_at_once() -> None:
    """
    Ten times faster and back, each within 200 ms on the wire.
    """
    changes = [(2.0, 10 * M), (4.0, M)]
    arrived = measure(Plan(limit=M, seconds=6, changes=changes))
    # The changes are timed from the start of the process that sends, which comes
    # first: find them, and look at what is 200 ms away from them.
    rates = [
        (when, arrived.between(when, when + 0.1)) for when in arrived.times[:-11:2]
    ]
    first = next(when for when, rate in rates if rate > 3 * M)
    last = max(when for when, rate in rates if rate > 3 * M)
    assert last - first == pytest.approx(2.0, abs=0.3)
    assert arrived.between(0.2, first) == pytest.approx(M, rel=0.2)
    assert arrived.between(first + 0.2, last - 0.1) == pytest.approx(10 * M, rel=0.1)
    assert arrived.between(last + 0.2, 6) == pytest.approx(M, rel=0.1)


def test_ten_connections_get_the_same() -> None:
    """
    Under one limit, within 10% of each other.
    """
    arrived = measure(Plan(limit=4 * M, connections=10, seconds=6))
    shares = arrived.shares_after(1)
    assert max(shares) <= 1.1 * min(shares)
    assert sum(shares) / 5 == pytest.approx(4 * M, rel=0.03)
