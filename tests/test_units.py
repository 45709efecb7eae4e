"""
Sizes, rates and durations: what is read, what is refused and with which words.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.units import (
    MAX_DURATION,
    MAX_SIZE,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)

PARSERS = [parse_size, parse_rate]


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("1", 1),
        ("1500", 1500),
        ("7B", 7),
        ("8k", 8 * 1024),
        ("8K", 8 * 1024),
        ("8M", 8 * 1024**2),
        ("8G", 8 * 1024**3),
        ("8T", 8 * 1024**4),
        ("8KiB", 8 * 1024),
        ("8 MiB", 8 * 1024**2),
        ("8GiB", 8 * 1024**3),
        ("8TiB", 8 * 1024**4),
        ("8kB", 8_000),
        ("8MB", 8_000_000),
        ("8 GB", 8_000_000_000),
        ("8TB", 8_000_000_000_000),
        ("1.5M", 1536 * 1024),
        ("  2k ", 2048),
        (str(MAX_SIZE), MAX_SIZE),
    ],
)
@pytest.mark.parametrize("parse", PARSERS)
def test_sizes_and_rates(
    parse: Callable[[str], int | None], text: str, nbytes: int
) -> None:
    """
    Every unit of the documentation, with and without a space.
    """
    assert parse(text) == nbytes


def test_zero_is_a_size_but_no_rate() -> None:
    """
    A rate of zero could be read as "stop" or as "no limit", so it is refused.
    """
    assert parse_size("0") == 0
    for text in ("0", "0k", "0.0001k"):
        with pytest.raises(ValueError, match="must be more than zero") as raised:
            parse_rate(text)
        assert str(raised.value) == (
            f'must be more than zero (to lift the limit: "off"), got {text}'
        )


def test_only_rates_can_be_off_or_per_second() -> None:
    """
    ``off`` lifts a limit, and a size is nothing per second.
    """
    assert parse_rate("off") is None
    assert parse_rate("8M/s") == parse_rate("8M")
    for text in ("off", "8M/s"):
        with pytest.raises(ValueError, match="expected a size such as"):
            parse_size(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("8 potatoes", 'expected a rate such as "8M" or "8 MiB", got \'8 potatoes\''),
        ("", 'expected a rate such as "8M" or "8 MiB", got \'\''),
        ("1e400", 'expected a rate such as "8M" or "8 MiB", got \'1e400\''),
        ("nan", 'expected a rate such as "8M" or "8 MiB", got \'nan\''),
        ("inf", 'expected a rate such as "8M" or "8 MiB", got \'inf\''),
        ("1_000", 'expected a rate such as "8M" or "8 MiB", got \'1_000\''),
        ("\u0663", 'expected a rate such as "8M" or "8 MiB", got \'\u0663\''),
        ("-5M", "must not be negative, got -5M"),
        ("-0", "must not be negative, got -0"),
        (
            "9223372036854775808",
            "must be less than 8388608 TiB, got 9223372036854775808",
        ),
        ("8388608T", "must be less than 8388608 TiB, got 8388608T"),
        ("8m", '"m" is not clear: write "8M"'),
        ("8KB", '"KB" is not clear: write "8KiB" or "8kB"'),
        (
            "1.5",
            'expected a rate such as "8M" or "8 MiB", got \'1.5\' '
            '("1.5" is a fraction of a byte)',
        ),
        (
            "1mbit",
            '"mbit" reads as bits, and bytes are wanted: write "0.125MB", '
            'or "1MB" if bytes were meant',
        ),
        (
            "1Mb",
            '"Mb" reads as bits, and bytes are wanted: write "0.125MB", '
            'or "1MB" if bytes were meant',
        ),
        (
            "16 Kib",
            '"Kib" reads as bits, and bytes are wanted: write "2KiB", '
            'or "16KiB" if bytes were meant',
        ),
        (
            "100b",
            '"b" reads as bits, and bytes are wanted: write "12B", '
            'or "100B" if bytes were meant',
        ),
    ],
)
def test_refusals(text: str, complaint: str) -> None:
    """
    What is not clear is refused with a hint, for sizes and rates alike.
    """
    for parse, kind in ((parse_rate, "rate"), (parse_size, "size")):
        with pytest.raises(ValueError) as raised:  # noqa: PT011  the text is below
            parse(text)
        assert str(raised.value) == complaint.replace("a rate", f"a {kind}")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """
    No text makes a parser fail in another way, or gives a number out of range.
    """
    for parse, most in (
        (parse_size, MAX_SIZE),
        (parse_rate, MAX_SIZE),
        (parse_duration, MAX_DURATION),
    ):
        try:
            number = parse(text)
        except ValueError:
            continue
        assert number is None or 0 <= number <= most


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172_800),
        ("1d1h1m1s", 90_061),
        ("0.5s", 0.5),
        ("36500d", MAX_DURATION),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """
    Units from days to seconds, largest first.
    """
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "30", "-5s", "5M", "30m1h", "1.5h", "1w", "s"]
)
def test_unclear_durations(text: str) -> None:
    """
    A bare number has no unit, so it is no duration.
    """
    with pytest.raises(ValueError, match="expected a duration") as raised:
        parse_duration(text)
    assert str(raised.value) == (
        f'expected a duration such as "30s", "5m", "1h30m" or "2d", got {text!r}'
    )


def test_too_long_a_duration() -> None:
    """
    Nothing that would overflow a clock is let through.
    """
    with pytest.raises(ValueError, match="must be a hundred years at most"):
        parse_duration("36500d1s")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (8 * 1024**2, "8 MiB"),
        (3_000_000, "2.9 MiB"),
        (1024**4, "1 TiB"),
        (5000 * 1024**4, "5000 TiB"),
        (5000 * 1024**4 + 2**39, "5000.5 TiB"),
    ],
)
def test_shown_sizes(nbytes: int, text: str) -> None:
    """
    People see powers of 1024, whole multiples without a decimal.
    """
    assert format_size(nbytes) == text


def test_shown_rates() -> None:
    """
    No limit is shown the way it is written.
    """
    assert format_rate(None) == "off"
    assert format_rate(1024) == "1 KiB/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "0.2s"), (9.96, "10s"), (59.6, "1m"), (5400, "1h30m")],
)
def test_shown_durations(seconds: float, text: str) -> None:
    """
    Tenths matter only to short durations.
    """
    assert format_duration(seconds) == text


@given(st.integers(0, MAX_SIZE // 2))
def test_shown_sizes_can_be_read(nbytes: int) -> None:
    """
    What is shown is within a twentieth of a unit of the truth: 5% at worst.
    """
    assert abs(parse_size(format_size(nbytes)) - nbytes) <= 0.05 * nbytes


@given(st.integers(1, 1023), st.integers(0, 4))
def test_whole_multiples_survive_a_round_trip(number: int, power: int) -> None:
    """
    A limit that was given in whole units is shown exactly.
    """
    nbytes = number * 1024**power
    assert parse_size(format_size(nbytes)) == nbytes
    assert parse_rate(format_rate(nbytes)) == nbytes


@given(st.integers(10, MAX_DURATION))
def test_whole_seconds_survive_a_round_trip(seconds: int) -> None:
    """
    A duration of whole seconds is shown exactly.
    """
    assert parse_duration(format_duration(seconds)) == seconds
