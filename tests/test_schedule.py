"""
Limits that follow the clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.schedule import Schedule, seconds_to_next_minute

MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001  # local time is what it is about


def at(text: str, day: int, hour: int, minute: int = 0) -> int | None:
    """
    What a schedule says on a day of the week (Monday is 0) at a time.
    """
    moment = MONDAY + timedelta(days=day, hours=hour, minutes=minute)
    return Schedule.parse(text).rate_at(moment)


@pytest.mark.parametrize(
    ("day", "hour", "minute", "rate"),
    [
        (0, 7, 59, None),
        (0, 8, 0, 1 << 20),
        (4, 17, 59, 1 << 20),
        (4, 18, 0, None),
        (5, 12, 0, None),
    ],
)
def test_working_hours(day: int, hour: int, minute: int, rate: int | None) -> None:
    """
    The beginning belongs to a span, its end does not.
    """
    assert at("Mon-Fri 08:00-18:00 1M, else off", day, hour, minute) == rate


def test_past_midnight() -> None:
    """
    A night belongs to the day on which it begins.
    """
    text = "Fri 22:00-06:00 off, else 1k"
    assert at(text, 4, 21, 59) == 1024
    assert at(text, 4, 23) is None
    assert at(text, 5, 5, 59) is None
    assert at(text, 5, 6) == 1024
    assert at(text, 4, 5) == 1024


def test_first_span_counts() -> None:
    """
    Exceptions are written before the rule.
    """
    text = "Wed 12:00-13:00 off, 08:00-18:00 1M, Sat-Sun 2M, else 3M"
    assert at(text, 2, 12) is None
    assert at(text, 1, 12) == 1 << 20
    assert at(text, 5, 20) == 2 << 20
    assert at(text, 1, 20) == 3 << 20


def test_days_around_the_weekend() -> None:
    """
    A range of days may pass Sunday.
    """
    text = "Sat-Mon 1M, else off"
    days = [at(text, day, 12) for day in range(7)]
    assert days == [1 << 20, None, None, None, None, 1 << 20, 1 << 20]


def test_plain_rate() -> None:
    """
    A limit without times holds always.
    """
    assert at("10M", 3, 3) == 10 << 20
    assert at("off", 3, 3) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 24 * 60), st.integers(0, 24 * 60)).filter(
            lambda span: span[0] != span[1]
        ),
        max_size=4,
    ),
    st.datetimes(max_value=datetime(2100, 1, 1)),  # noqa: DTZ001
)
def test_changes_when_minutes_begin(
    spans: list[tuple[int, int]], moment: datetime
) -> None:
    """
    And at no other time.
    """
    texts = [
        f"{start // 60}:{start % 60:02}-{end // 60}:{end % 60:02} {1000 + number}, "
        for number, (start, end) in enumerate(spans)
    ]
    schedule = Schedule.parse("".join(texts) + "else off")
    wait = seconds_to_next_minute(moment)
    assert 0 < wait <= 60
    before = moment + timedelta(seconds=wait - 1e-6)
    assert schedule.rate_at(before) == schedule.rate_at(moment)
    after = before + timedelta(microseconds=1)
    assert (after.second, after.microsecond) == (0, 0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Mon-Fri 08:00-18:00 1M", "no limit given for other times"),
        ("Mon-Fri 08:00-18:00 1M, off", "no limit given for other times"),
        ("1M, else off", "neither days nor times"),
        ("Mon-Fry 08:00-18:00 1M, else off", "unknown day"),
        ("Mon-Fri 8-18 1M, else off", "unknown day|cannot read"),
        ("Mon-Fri 08:00-25:00 1M, else off", "no such time"),
        ("Mon-Fri 08:61-09:00 1M, else off", "no such time"),
        ("Mon-Fri 08:00-08:00 1M, else off", "no length"),
        ("on Mon-Fri 08:00-18:00 1M, else off", "cannot read"),
        ("Mon 1mbit, else off", "."),
        ("Mon 0, else off", "."),
        ("", "."),
        ("else", "."),
        (", else off", "."),
    ],
)
def test_unclear_schedules_are_refused(text: str, complaint: str) -> None:
    """
    Never read as "no limit".
    """
    with pytest.raises(ValueError, match=complaint):
        Schedule.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """
    With no other error than ValueError.
    """
    try:
        Schedule.parse(text)
    except ValueError:
        return
