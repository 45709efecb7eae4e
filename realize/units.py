"""
Sizes, rates and durations as people write them, and back.

A bare number is bytes.  ``k K M G T`` and ``KiB MiB GiB TiB`` are powers of 1024,
``kB MB GB TB`` powers of 1000.  What could be meant in two ways is refused with what
to write instead.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

#: Largest size or rate: what fits a signed 64-bit number.
MAX_SIZE: Final = 2**63 - 1

#: Slowest and fastest limit that can be set, in bytes per second.
MIN_RATE: Final = 128
MAX_RATE: Final = 1 << 50

#: Longest duration, in seconds: a hundred years of 365 days.
MAX_DURATION: Final = 100 * 365 * 86400

_BINARY: Final = ("KiB", "MiB", "GiB", "TiB")

_MULTIPLES: Final = {
    "": 1,
    "B": 1,
    "k": 2**10,
    **{name[0]: 2 ** (10 * power) for power, name in enumerate(_BINARY, 1)},
    **{name: 2 ** (10 * power) for power, name in enumerate(_BINARY, 1)},
    **{name: 1000**power for power, name in enumerate(("kB", "MB", "GB", "TB"), 1)},
}

# ASCII digits only; a number too long to be in range is cut off by the pattern.
_QUANTITY = re.compile(r"(-?)([0-9]{1,40}(?:\.[0-9]{1,40})?) ?([A-Za-z]*)(/s)?\Z", re.A)

# "mbit", "Mb", "kbps" and the like: bits, or at least not clearly bytes.
_BITS = re.compile(r"([kmgt]?)(bits?|ib|ibits?|bps|b)\Z", re.I | re.A)

_DURATION = re.compile(
    r"(?:([0-9]{1,9})d ?)?(?:([0-9]{1,9})h ?)?(?:([0-9]{1,9})m ?)?"
    r"(?:([0-9]{1,12}(?:\.[0-9]{1,9})?)s)?\Z",
    re.A,
)


def parse_size(text: str) -> int:
    """
    Bytes from text such as ``8M``.

    :returns: 0 to :data:`MAX_SIZE`; a fraction of a byte is dropped.
    :raises ValueError: not clear, negative or too large; says what to write.
    """
    return _quantity(text, "size", rate=False)


def parse_rate(text: str) -> int | None:
    """
    Bytes per second from text such as ``8M``, also ``8M/s``.

    :returns: 1 to :data:`MAX_SIZE`, or None for ``off``: no limit.
    :raises ValueError: not clear, zero, negative or too large; says what to write.
    """
    if text.strip().lower() == "off":
        return None
    rate = _quantity(text, "rate", rate=True)
    if rate == 0:
        raise ValueError(
            f'must be more than zero (to lift the limit: "off"), got {text.strip()}'
        )
    return rate


def check_rate(rate: int | None) -> None:
    """
    Whether *rate*, in bytes per second, can be a limit; None for none.

    :raises ValueError: it cannot; says what can.
    """
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(
            f"a limit is {MIN_RATE} to {MAX_RATE} bytes per second, or off; got {rate}"
        )


def parse_duration(text: str) -> float:
    """
    Seconds from text such as ``30s``, ``5m``, ``1h30m`` or ``2d``.

    :returns: 0 to :data:`MAX_DURATION`.
    :raises ValueError: anything else; a bare number too, unless it is 0.
    """
    stripped = text.strip()
    if stripped == "0":
        return 0.0
    found = _DURATION.match(stripped)
    if not found or not stripped:
        raise ValueError(
            f'expected a duration such as "30s", "5m", "1h30m" or "2d", got {text!r}'
        )
    days, hours, minutes, seconds = found.groups()
    whole = int(days or 0) * 86400 + int(hours or 0) * 3600 + int(minutes or 0) * 60
    total = whole + float(seconds or 0)
    if total > MAX_DURATION:
        raise ValueError(f"must be a hundred years at most, got {text!r}")
    return total


def format_size(nbytes: int) -> str:
    """
    A size for people, in powers of 1024; :func:`parse_size` reads it again.

    Exact below 1 KiB and for whole multiples, otherwise with one decimal.

    >>> format_size(1536), format_size(8 * 1024**2), format_size(3_000_000)
    ('1.5 KiB', '8 MiB', '2.9 MiB')
    """
    if nbytes < 1024:
        return f"{nbytes} B"
    power = 1
    # 1023.96 KiB would round to a misleading 1024.0.
    while nbytes >= 1023.95 * 1024**power and power < len(_BINARY):
        power += 1
    whole, rest = divmod(nbytes, 1024**power)
    shown = f"{nbytes / 1024**power:.1f}" if rest else str(whole)
    return f"{shown} {_BINARY[power - 1]}"


def format_rate(rate: int | None) -> str:
    """
    A rate in bytes per second for people; ``off`` for None.
    """
    return "off" if rate is None else f"{format_size(rate)}/s"


def format_duration(seconds: float) -> str:
    """
    A duration for people: ``1h30m``; below ten seconds with one decimal.
    """
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def _quantity(text: str, kind: str, *, rate: bool) -> int:
    expected = f'expected a {kind} such as "8M" or "8 MiB", got {text!r}'
    found = _QUANTITY.match(text.strip())
    if not found:
        raise ValueError(expected)
    sign, number, unit, per_second = found.groups()
    if per_second and not rate:
        raise ValueError(expected)
    if unit not in _MULTIPLES:
        raise ValueError(_unclear_unit(number, unit) or expected)
    if sign:
        raise ValueError(f"must not be negative, got {text.strip()}")
    exact = Fraction(number) * _MULTIPLES[unit]
    if unit in ("", "B") and exact.denominator != 1:
        raise ValueError(f'{expected} ("{number}" is a fraction of a byte)')
    if exact > MAX_SIZE:
        raise ValueError(f"must be less than 8388608 TiB, got {text.strip()}")
    return int(exact)


def _unclear_unit(number: str, unit: str) -> str | None:
    """
    What to write instead of a unit that has more than one meaning, if it is one.
    """
    if unit == "KB":
        return f'"{unit}" is not clear: write "{number}KiB" or "{number}kB"'
    if unit in ("m", "g", "t"):
        return f'"{unit}" is not clear: write "{number}{unit.upper()}"'
    if bits := _BITS.match(unit):
        prefix, binary = (
            bits[1].upper(),
            "i" if bits[2].lower().startswith("ib") else "",
        )
        byte_unit = f"{prefix if binary else prefix.replace('K', 'k')}{binary}B"
        eighth = Fraction(number) / 8
        shown = f"{float(eighth):g}" if prefix else str(int(eighth))
        return (
            f'"{unit}" reads as bits, and bytes are wanted: '
            f'write "{shown}{byte_unit}", or "{number}{byte_unit}" if bytes were meant'
        )
    return None
