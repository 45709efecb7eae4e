"""
A session, its limits, and what its connection did lately.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from realize.net.scopes import Direction, Scope
from realize.net.throttled import ThrottledConnection

#: Tells the other end of a connection what it may send, and what it will be sent at
#: most, in bytes per second; None for no limit.
Tell = Callable[[int | None, int | None], None]


@define(eq=False)
class Session:
    """
    A session and its limits; it may have lost its connection.

    :ivar number: names it, among all sessions of this process.
    :ivar connection: None once it is lost.
    :ivar tell: tells the other end.
    :ivar rates: bytes per second lately, by direction.
    :ivar expires: when to forget it, by the clock.
    :ivar share: what it may receive; None for no limit.
    :ivar told: what *tell* was last called with.
    :ivar counted_bytes: sent and received by the connection when last looked at.
    :ivar counted_waits: seconds for which it was held back in sending and receiving.
    :ivar counted_at: when that was, by the clock.
    :ivar passed: bytes sent and received by the connection that were reported.
    """

    number: int
    peer: str
    key: tuple[bytes, bytes]
    scope: Scope
    connection: ThrottledConnection | None = None
    tell: Tell | None = None
    rates: dict[Direction, float] = field(factory=lambda: {"send": 0.0, "receive": 0.0})
    expires: float = 0.0
    share: int | None = None
    told: tuple[int | None, int | None] = (None, None)
    counted_bytes: tuple[int, int] = (0, 0)
    counted_waits: tuple[float, float] = (0.0, 0.0)
    counted_at: float = 0.0
    passed: tuple[int, int] = (0, 0)
