"""
The way between a mover and a store: it delays, reorders answers, breaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from realize.errors import PeerError, PeerGone

T = TypeVar("T")


class Link:
    """
    The way between the mover and a store.

    Requests arrive in the order in which they were sent; answers may overtake each
    other.  Without a delay, everything happens at once.

    :param delay: seconds for a round trip.
    :param jitter: seconds added to the way back of each answer.
    """

    def __init__(
        self,
        clock: Clock,
        delay: float = 0.0,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.asked = Counter[str]()
        self.most_in_progress = 0
        self.lost = False
        self._clock = clock
        self._delay = delay
        self._jitter = jitter
        self._last_arrival = 0.0
        self._waiting: dict[Deferred[None], IDelayedCall] = {}
        self._lose_at: int | None = None
        self._events = 0

    def lose_at(self, event: int) -> None:
        """
        Break at the so-many-th event from now: a request that arrives, or an answer.
        """
        self._lose_at = self._events + event

    def lose(self) -> None:
        """
        Break now: what has not arrived does not happen, no answer comes any more.
        """
        self.lost = True
        waiting, self._waiting = self._waiting, {}
        for call in waiting.values():
            call.cancel()
        for turn in waiting:
            if not turn.called:  # cancelled on account of one before
                turn.errback(PeerGone("connection lost"))

    async def carry(self, operation: str, effect: Callable[[], T]) -> T:
        """
        Let a request arrive, take effect, and its answer come back.
        """
        self._check()
        self.asked[operation] += 1
        if self._delay:
            arrival = max(self._clock.seconds() + self._delay / 2, self._last_arrival)
            self._last_arrival = arrival
            await self._wait(arrival - self._clock.seconds())
        self._count()
        answer: T | PeerError
        try:
            answer = effect()
        except PeerError as error:
            answer = error
        if self._delay:
            await self._wait(self._delay / 2 + self._jitter())
        self._count()
        if isinstance(answer, PeerError):
            raise answer
        return answer

    def _check(self) -> None:
        if self.lost:
            raise PeerGone("connection lost")

    def _count(self) -> None:
        self._check()
        self._events += 1
        if self._events == self._lose_at:
            self.lose()
            self._check()

    async def _wait(self, seconds: float) -> None:
        turn: Deferred[None] = Deferred(self._forget)
        self._waiting[turn] = self._clock.callLater(seconds, self._arrive, turn)
        self.most_in_progress = max(self.most_in_progress, len(self._waiting))
        await turn

    def _arrive(self, turn: Deferred[None]) -> None:
        del self._waiting[turn]
        turn.callback(None)

    def _forget(self, turn: Deferred[None]) -> None:
        call = self._waiting.pop(turn, None)
        if call is not None:
            call.cancel()
