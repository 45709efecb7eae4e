"""
How a limit on what is received is divided among those who send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from realize.units import MIN_RATE

#: Who uses this part of its share would use more, if it could.
HUNGRY: Final = 0.8

#: Who uses less is given so much more than that, to grow.
ROOM: Final = 1.5

#: Shares that differ by less than this part are not worth a message.
NOTICEABLE: Final = 0.01


@frozen
class Want:
    """
    What one sender can make use of.

    :ivar rate: bytes per second that it sent lately.
    :ivar share: what it was allowed meanwhile; None for no limit.
    :ivar cap: what it may have at most for other reasons; None for no limit.
    """

    rate: float
    share: int | None
    cap: int | None = None

    @property
    def is_hungry(self) -> bool:
        """
        Whether it uses what it has.
        """
        return self.rate > 0 and (
            self.share is None or self.rate >= HUNGRY * self.share
        )

    @property
    def most(self) -> float:
        """
        What it can use of a limit, in bytes per second.
        """
        cap = float("inf") if self.cap is None else self.cap
        return cap if self.is_hungry else min(cap, ROOM * self.rate)


def divide(total: int, wants: Sequence[Want]) -> list[int]:
    """
    The share of each, in bytes per second.

    Those who want less than an equal part get that, and the others equal parts of
    what is left.  The shares of those who are sending add up to *total* at most.
    Whoever sends little may have as much as if it began in earnest now: until that
    is seen, the limit itself holds the sum.
    """
    shares: dict[int, float] = {}
    left = float(total)
    order = sorted(range(len(wants)), key=lambda at: wants[at].most)
    for done, at in enumerate(order):
        equal = left / (len(order) - done)
        shares[at] = min(wants[at].most, equal)
        left -= shares[at]
    hungry = sum(want.is_hungry for want in wants)
    begin = total / (hungry + 1)
    for at, want in enumerate(wants):
        if not want.is_hungry:
            shares[at] = max(shares[at], begin)
        if want.cap is not None:
            shares[at] = min(shares[at], want.cap)
    return [max(MIN_RATE, int(shares[at])) for at in range(len(wants))]


def worth_telling(old: int | None, new: int | None) -> bool:
    """
    Whether a share has changed so much that the sender should know.
    """
    if old is None or new is None:
        return old is not new
    return abs(new - old) > NOTICEABLE * old
