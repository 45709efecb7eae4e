"""
A limit that follows the clock: ``Mon-Fri 08:00-18:00 1M, else off``.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from attrs import frozen

from realize.units import parse_rate

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})\Z")
_MINUTES_A_DAY: Final = 24 * 60

_HINT: Final = 'expected "Mon-Fri 08:00-18:00 1M, else off"'


@frozen
class Span:
    """
    A time of day on certain days, and the limit that holds then.

    :ivar days: on which it begins; Monday is 0.
    :ivar start: minutes after midnight.
    :ivar end: minutes after midnight; not after *start* means on the next day.
    :ivar rate: bytes per second; None for no limit.
    """

    days: frozenset[int]
    start: int
    end: int
    rate: int | None

    def covers(self, day: int, minute: int) -> bool:
        """
        Whether it is this span's time.
        """
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        today = day in self.days and minute >= self.start
        yesterday = (day - 1) % 7 in self.days and minute < self.end
        return today or yesterday


@frozen
class Schedule:
    """
    Spans, of which the first that covers the time counts, and what holds otherwise.

    :ivar otherwise: bytes per second; None for no limit.
    """

    spans: tuple[Span, ...]
    otherwise: int | None

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """
        Read a limit as the configuration has it: a plain rate, or spans and ``else``.

        Times are local.  A span may reach past midnight; days or times may be left
        out, which means all.

        :raises ValueError: something is unclear, or there is no last word on the rest
            of the time.
        """
        *words, last = (part.strip() for part in text.split(","))
        if not words and " " not in last:
            return cls((), parse_rate(last))
        word, _, rate = last.partition(" ")
        if word != "else":
            raise ValueError(f"no limit given for other times: {_HINT}, got {text!r}")
        return cls(tuple(map(_parse_span, words)), parse_rate(rate.strip()))

    def rate_at(self, moment: datetime) -> int | None:
        """
        The limit in bytes per second at a local time; None for none.
        """
        day, minute = moment.weekday(), moment.hour * 60 + moment.minute
        for span in self.spans:
            if span.covers(day, minute):
                return span.rate
        return self.otherwise


def seconds_to_next_minute(moment: datetime) -> float:
    """
    How long no schedule changes, in seconds: at most 60.
    """
    return 60 - moment.second - moment.microsecond / 1e6


def _parse_span(text: str) -> Span:
    *when, rate = text.split()
    days, start, end = frozenset(range(7)), 0, _MINUTES_A_DAY
    times = when.pop() if when and ":" in when[-1] else None
    if times is not None:
        start, end = _parse_times(times)
    if when:
        days = _parse_days(when.pop())
    elif times is None:
        raise ValueError(f"neither days nor times in {text!r}: {_HINT}")
    if when:
        raise ValueError(f"cannot read {text!r}: {_HINT}")
    return Span(days, start, end, parse_rate(rate))


def _parse_times(text: str) -> tuple[int, int]:
    match = _SPAN.match(text)
    if match is None:
        raise ValueError(f"cannot read the times {text!r}: {_HINT}")
    numbers = [int(number) for number in match.groups()]
    start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if max(numbers[1], numbers[3]) > 59 or max(start, end) > _MINUTES_A_DAY:
        raise ValueError(f"no such time of day in {text!r}")
    if start == end:
        raise ValueError(f"{text!r} has no length")
    return start, end


def _parse_days(text: str) -> frozenset[int]:
    first, dash, last = text.lower().partition("-")
    for day in (first, last or first):
        if day not in _DAYS:
            raise ValueError(f"unknown day in {text!r}: {', '.join(_DAYS).title()}")
    begin, end = _DAYS.index(first), _DAYS.index(last if dash else first)
    return frozenset((begin + n) % 7 for n in range((end - begin) % 7 + 1))
