"""
The window follows bandwidth times round trip.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realize.move.window import (
    FIRST,
    LARGEST,
    PROBE,
    SMALLEST,
    SMALLEST_SLICE,
    Flight,
    Window,
)

MIB = 1024 * 1024


def transfer(
    window: Window, rate: float, delay: float, seconds: float, start: float = 0.0
) -> float:
    """
    Keep a window full over a simulated line.

    :param rate: bytes per second that the line carries.
    :param delay: seconds that an answer takes at least.
    :returns: bytes per second that were reached in the second half.
    """
    now = free_at = start
    flights = deque[tuple[float, Flight]]()
    landed = 0
    while now < start + seconds:
        while window.has_room():
            flight = window.begin(window.slice, now)
            free_at = max(now, free_at) + flight.size / rate
            flights.append((free_at + delay, flight))
        now, flight = flights.popleft()
        window.land(flight, now)
        if now > start + seconds / 2:
            landed += flight.size
    for _, flight in flights:
        window.drop(flight)
    return landed / (seconds / 2)


@pytest.mark.parametrize("delay", [0.001, 0.05, 0.2])
@pytest.mark.parametrize("rate", [1e6, 1e7, 1e8])
def test_fills_the_line(rate: float, delay: float) -> None:
    """
    The line is used to the full, whatever its round trip.
    """
    assert transfer(Window(), rate, delay, 20.0) > 0.95 * rate


def test_stays_small_where_that_is_enough() -> None:
    """
    A line that holds little gets a small window; one that holds a lot, a large one.
    """
    short, long = Window(), Window()
    transfer(short, 1e6, 0.01, 60.0)
    transfer(long, 1e9, 0.2, 20.0)
    assert short.size <= 2 * MIB
    assert long.size == LARGEST


def test_shrinks_when_the_line_gets_slow() -> None:
    """
    What the line could do is forgotten after some seconds.
    """
    window = Window()
    transfer(window, 1e8, 0.1, 5.0)
    before = window.size
    transfer(window, 1e6, 0.1, 60.0, start=5.0)
    assert window.size < before / 4


def test_its_own_queue_does_not_lengthen_the_round_trip() -> None:
    """
    The window does not grow on account of the waiting that it causes itself.
    """
    window = Window()
    sizes = []
    for minute in range(10):
        transfer(window, 1e8, 0.02, 60.0, start=60.0 * minute)
        sizes.append(window.size)
    assert max(sizes) < 5 * 1e8 * 0.02 + 0.1 * 1e8


def test_first_bytes_need_no_probe() -> None:
    """
    They find the line empty: the window grows from then on, without a pause.
    """
    window = Window()
    flights = [window.begin(MIB, 1000.0) for _ in range(4)]
    assert not window.has_room()
    for flight in flights:
        window.land(flight, 1000.1)
        assert window.size > 2 * MIB


def test_idle_does_not_look_like_slow() -> None:
    """
    A flight through a window that was not full does not lower the estimate.
    """
    window = Window()
    transfer(window, 1e8, 0.1, 5.0)
    before = window.size
    # Each probe finds as short a round trip as before.
    for now in (6.0, 17.0, 18.0, 28.0, 29.0, 39.0, 40.0):
        flight = window.begin(1000, now)
        window.land(flight, now + 0.11)
    assert window.size > before / 2


@pytest.mark.parametrize(("limit", "size"), [(64 * 1024, 64 * 1024), (10, 4 * 1024)])
def test_one_second_of_a_limit(limit: int, size: int) -> None:
    """
    No more than a second's worth of a limit is in flight, in slices of a quarter.
    """
    window = Window()
    window.limit = limit
    assert window.size == size
    assert window.slice == max(SMALLEST_SLICE, size // 4)
    window.limit = None
    assert window.size == FIRST


def test_one_flight_is_always_possible() -> None:
    """
    Something larger than the window may fly alone.
    """
    window = Window(limit=1)
    assert window.has_room()
    flight = window.begin(MIB, 0.0)
    assert not window.has_room()
    window.drop(flight)
    assert window.has_room()
    assert window.in_flight == 0


def test_clear_forgets_what_was_in_flight() -> None:
    """
    After a lost connection the window is empty.
    """
    window = Window()
    window.begin(100 * MIB, 0.0)
    window.clear()
    assert window.has_room()


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * MIB), st.floats(0, 10), st.sampled_from(["land", "drop"])
        )
    ),
    st.none() | st.integers(1, 10**9),
)
def test_bounds(flights: list[tuple[int, float, str]], limit: int | None) -> None:
    """
    Whatever is measured, the window stays within its bounds and counts rightly.
    """
    window = Window(limit=limit)
    now = 0.0
    for size, seconds, end in flights:
        flight = window.begin(size, now)
        now += seconds
        if end == "land":
            window.land(flight, now)
        else:
            window.drop(flight)
        assert window.in_flight == 0
        assert window.size <= LARGEST
        if limit is None:
            assert window.size >= SMALLEST // PROBE
        else:
            assert window.size <= max(SMALLEST_SLICE, limit)


def test_holes_are_not_on_the_line():
    """
    What turned out to be a hole makes room for more, and is not measured.
    """
    window = Window()
    flight = window.begin(MIB, 0.0)
    flight = window.lighten(flight, 1000)
    assert (flight.size, window.in_flight) == (1000, 1000)
    window.land(flight, 1.0)
    assert window.in_flight == 0
