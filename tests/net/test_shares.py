"""
How a limit on what is received is divided.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.net.shares import Want, divide, worth_telling
from realize.units import MIN_RATE

wants = st.lists(
    st.builds(
        Want,
        st.floats(0, 1e9),
        st.none() | st.integers(MIN_RATE, 10**9),
        st.none() | st.integers(MIN_RATE, 10**9),
    ),
    max_size=20,
)


def hungry(share: int, cap: int | None = None) -> Want:
    """
    Somebody who uses all of a share.
    """
    return Want(float(share), share, cap)


def test_equal_parts_for_those_who_want_more() -> None:
    """
    Who uses its share gets as much as the others who do.
    """
    assert divide(9000, [hungry(1000), hungry(6000), hungry(3000)]) == [3000] * 3


def test_first_comer_gets_all() -> None:
    """
    Whoever has just come may begin with the whole, if nobody else sends.
    """
    assert divide(9000, [Want(0.0, None)]) == [9000]


def test_newcomer_begins_with_an_equal_part() -> None:
    """
    Nobody has to wait for a division to begin, nor takes from others before.
    """
    assert divide(9000, [hungry(9000), Want(0.0, None)]) == [9000, 4500]


def test_what_one_does_not_use_goes_to_the_others() -> None:
    """
    A slow sender is left room to grow, and the rest is divided.
    """
    slow = Want(1000.0, 3000)
    assert divide(9000, [hungry(3000), slow, hungry(3000)]) == [3750, 3000, 3750]


def test_narrower_limit_leaves_the_rest_to_others() -> None:
    """
    A cap is kept, and what it leaves is used.
    """
    shares = divide(9000, [hungry(1000, cap=1000), hungry(3000)])
    assert shares == [1000, 8000]


@given(st.integers(MIN_RATE * 20, 10**9), wants)
def test_limit_is_kept_and_used(total: int, wants: list[Want]) -> None:
    """
    Those who send all they may get no more than the limit, and all of it unless caps
    forbid; nobody gets nothing.
    """
    shares = divide(total, wants)
    assert len(shares) == len(wants)
    given_out = sum(
        share for share, want in zip(shares, wants, strict=True) if want.is_hungry
    )
    assert given_out <= total + MIN_RATE * len(wants)
    for share, want in zip(shares, wants, strict=True):
        assert share >= MIN_RATE
        assert want.cap is None or share <= want.cap
    if wants and all(want.is_hungry and want.cap is None for want in wants):
        assert sum(shares) == pytest.approx(total, abs=len(wants))
        assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("old", "new", "worth"),
    [
        (None, None, False),
        (None, 1000, True),
        (1000, None, True),
        (1000, 1005, False),
        (1000, 1011, True),
        (1000, 989, True),
    ],
)
def test_small_changes_are_not_told(
    old: int | None, new: int | None, worth: bool
) -> None:
    """
    Messages take of the limit themselves.
    """
    assert worth_telling(old, new) is worth
