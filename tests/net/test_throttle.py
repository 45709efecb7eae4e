"""
Token buckets and limits, by a clock that only the tests move.
"""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from realize.net.throttle import (
    MAX_SLICE,
    MIN_SLICE,
    Limit,
    Passage,
    TokenBucket,
)
from realize.units import MAX_RATE, MIN_RATE

takes = st.lists(
    st.tuples(st.floats(0, 100, allow_nan=False), st.integers(1, 4 * 1024 * 1024)),
    max_size=50,
)


@given(rate=st.integers(MIN_RATE, 10**9), burst=st.integers(1, 10**7), takes=takes)
def test_long_run_rate(rate: int, burst: int, takes: list[tuple[float, int]]) -> None:
    """
    Who sends only once out of debt never exceeds burst + rate x time, ...
    """
    bucket = TokenBucket(rate, burst, 0.0)
    now = 0.0
    sent = 0
    for idle, nbytes in takes:
        now += idle
        now += bucket.take(nbytes, now)
        sent += nbytes
        assert sent <= (burst + rate * now) * (1 + 1e-9) + 1


@given(rate=st.integers(MIN_RATE, 10**9), sizes=st.lists(st.integers(1, 10**6)))
def test_work_conserving(rate: int, sizes: list[int]) -> None:
    """
    ... and who always has something to send is never slower than the rate.
    """
    bucket = TokenBucket(rate, 1.0, 0.0)
    now = 0.0
    for nbytes in sizes:
        now += bucket.take(nbytes, now)
    assert now == pytest.approx(sum(sizes) / rate)


def test_empty_at_the_start() -> None:
    """
    The first second does not exceed the limit.
    """
    assert TokenBucket(1000, 1000, 50.0).take(1000, 50.0) == 1.0


def test_burst_bounds_what_idle_time_saves() -> None:
    """
    After any idle time no more than the burst passes without a wait.
    """
    bucket = TokenBucket(1000, 100, 0.0)
    assert bucket.take(100, 3600.0) == 0
    assert bucket.take(1, 3600.0) == pytest.approx(0.001)


def test_clock_that_steps_backwards_stands_still() -> None:
    """
    Neither a debt nor a credit comes from a clock that was set back.
    """
    bucket = TokenBucket(1000, 100, 100.0)
    assert bucket.take(1000, 100.0) == 1.0
    assert bucket.wait(5.0) == 1.0
    assert bucket.wait(100.5) == pytest.approx(0.5)


def test_lower_rate_does_not_lengthen_a_debt_in_time() -> None:
    """
    What was admitted under the old rate is paid for at the old rate.
    """
    bucket = TokenBucket(1_000_000, 1, 0.0)
    bucket.take(500_000, 0.0)
    bucket.change(1000, 1, 0.0)
    assert bucket.wait(0.0) == pytest.approx(0.5)


def test_higher_rate_shortens_a_debt() -> None:
    """
    A debt is in bytes, which a higher rate pays off sooner.
    """
    bucket = TokenBucket(1000, 1, 0.0)
    bucket.take(1000, 0.0)
    bucket.change(10_000, 1, 0.0)
    assert bucket.wait(0.0) == pytest.approx(0.1)


def test_refund_is_bounded_by_the_burst() -> None:
    """
    Giving back what was taken before the burst shrank makes no extra burst.
    """
    bucket = TokenBucket(1000, 10, 0.0)
    bucket.take(500, 0.0)
    bucket.refund(5000)
    assert bucket.take(10, 0.0) == 0
    assert bucket.take(10, 0.0) == pytest.approx(0.01)


def test_smallest_claim_holds() -> None:
    """
    A party can lower a limit, never raise one that another has set.
    """
    limit = Limit(Clock())
    limit.claim("administrator", 1000)
    limit.claim("peer", 5000)
    assert limit.rate == 1000
    limit.claim("peer", 200)
    assert limit.rate == 200
    limit.claim("peer", None)
    assert limit.rate == 1000
    limit.claim("administrator", None)
    assert limit.rate is None


@pytest.mark.parametrize("rate", [0, -1, MIN_RATE - 1, MAX_RATE + 1])
def test_rate_out_of_range_keeps_the_old_limit(rate: int) -> None:
    """
    What is not a limit is an error, never "no limit".
    """
    limit = Limit(Clock())
    limit.claim("administrator", 1000)
    with pytest.raises(ValueError, match="a limit is 128 to"):
        limit.claim("administrator", rate)
    assert limit.rate == 1000


def test_watchers_hear_changes_only() -> None:
    """
    Setting what holds already wakes nobody.
    """
    heard: list[int | None] = []
    limit = Limit(Clock())

    def changed() -> None:
        heard.append(limit.rate)

    limit.watch(changed)
    limit.claim("a", 1000)
    limit.claim("a", 1000)
    limit.claim("b", 2000)
    limit.claim("a", None)
    limit.claim("b", None)
    limit.unwatch(changed)
    limit.claim("a", 1000)
    assert heard == [1000, 2000, None]


def test_passage_waits_for_the_slowest() -> None:
    """
    A send passes every limit, and a refund reaches every limit.
    """
    clock = Clock()
    fast, slow = Limit(clock), Limit(clock)
    fast.claim("a", 10_000)
    slow.claim("a", 1000)
    passage = Passage((fast, slow), lambda: None)
    assert passage.rate == 1000
    assert passage.take(1000) == 1.0
    passage.refund(1000)
    assert passage.wait() == 0
    passage.leave()
    assert passage.rate is None
    assert passage.take(10**9) == 0


@given(rate=st.integers(MIN_RATE, MAX_RATE), members=st.integers(1, 20))
def test_slices_are_short_in_time(rate: int, members: int) -> None:
    """
    A turn of all under a limit is short, as far as the smallest slice allows.
    """
    limit = Limit(Clock())
    limit.claim("test", rate)
    for member in range(members):
        limit.watch(partial(hash, member))
    size = limit.slice_size()
    assert size is not None
    assert MIN_SLICE <= size <= MAX_SLICE
    assert size == MIN_SLICE or members * size / rate <= 0.05 * (1 + 1e-9)


def test_slices_without_a_limit() -> None:
    """
    Nothing is cut up where nothing is limited.
    """
    clock = Clock()
    assert Limit(clock).slice_size() is None
    assert Passage((Limit(clock),), lambda: None).slice_size() is None
