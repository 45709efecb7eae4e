"""
Going on after a lost connection.

Once the other end has been reached, a lost connection is tried again after 5 s,
15 s, 30 s, 1 min, 2 min and from then on every 5 min, each up to a fifth more so that
many clients do not come back at once.  A connection over which something was moved
begins that row anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from realize.errors import PeerGone
from realize.move.mover import Mover
from realize.store.interface import Destination, Source

#: Seconds before each further try; the last goes for all that follow.
DELAYS: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0)

#: Most that a delay is lengthened by, as a part of it.
JITTER: Final = 0.2

#: Opens both ends; leaving the context closes them, and their connections.
#: Entering raises :class:`~realize.errors.PeerGone` if one cannot be reached.
OpenStores = Callable[[], AbstractAsyncContextManager[tuple[Source, Destination]]]


class RetryObserver(Protocol):
    """
    Whoever wants to know that a move waits for its peer.
    """

    def lost(self, error: PeerGone, delay: float) -> None:
        """
        The connection is gone, or could not be made again.

        :param delay: seconds until the next try.
        """

    def reached(self, retries: int) -> None:
        """
        Both ends are open.

        :param retries: tries that it took since the connection was lost; 0 at first.
        """


@define(eq=False)
class Retry:
    """
    Runs a mover over as many connections as it takes.

    :ivar random: a number from 0 to 1, differing from call to call.
    """

    _mover: Mover
    _open_stores: OpenStores
    _clock: IReactorTime
    _random: Callable[[], float]
    _observer: RetryObserver
    _waiting: Deferred[None] | None = None

    async def run(self) -> None:
        """
        Move until nothing is left, or until the mover is stopped.

        :raises PeerGone: an end could not be reached at the very start.
        :raises RealizeError: as :meth:`Mover.run`, and what opening the stores
            raises, :class:`~realize.errors.PeerRefused` for one.
        """
        reached = False
        tries = 0
        while not self._is_over():
            before = self._progress()
            try:
                async with self._open_stores() as (source, destination):
                    reached = True
                    self._observer.reached(tries)
                    await self._mover.run(source, destination)
                    return
            except PeerGone as error:
                if not reached:
                    raise
                if self._is_over():
                    return
                if self._progress() > before:
                    tries = 0
                delay = DELAYS[min(tries, len(DELAYS) - 1)]
                delay *= 1 + JITTER * self._random()
                tries += 1
                self._observer.lost(error, delay)
            await self._sleep(delay)

    def stop(self) -> None:
        """
        Begin no further file, and wait for no peer.
        """
        self._mover.stop()
        self._wake()

    def abort(self) -> None:
        """
        Let :meth:`run` return as soon as the stores are closed.
        """
        self._mover.abort()
        self._wake()

    def _is_over(self) -> bool:
        return self._mover.stopped

    def _progress(self) -> tuple[int, int]:
        return self._mover.totals.succeeded, self._mover.totals.sent

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.callback(None)

    async def _sleep(self, seconds: float) -> None:
        self._waiting = Deferred()
        call: IDelayedCall = self._clock.callLater(seconds, self._wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if call.active():
                call.cancel()
