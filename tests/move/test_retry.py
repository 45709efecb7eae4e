"""
Lost connections are tried again, more and more patiently.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from realize.errors import PeerGone, PeerRefused
from realize.move.retry import DELAYS, JITTER, Retry
from realize.store.interface import Destination, Source
from tests.support.moving import Scene, drive


@define
class Attempts:
    """
    Opens the stores of a scene, or fails to, as scripted.

    :ivar script: what each opening does: raises, or breaks at an event, or works.
    """

    scene: Scene
    script: list[BaseException | int | None]
    opened: int = 0
    closed: int = 0
    lost_after: list[float] = field(factory=list)
    reached_after: list[int] = field(factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Source, Destination]]:
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        self.scene.open()
        if step is not None:
            self.scene.destination.link.lose_at(step)
        self.opened += 1
        try:
            yield self.scene.source, self.scene.destination
        finally:
            self.closed += 1

    def lost(self, error: PeerGone, delay: float) -> None:
        self.lost_after.append(delay)

    def reached(self, retries: int) -> None:
        self.reached_after.append(retries)


def retrying(
    script: list[BaseException | int | None], random: Callable[[], float] = lambda: 0.0
) -> tuple[Attempts, Retry]:
    """
    A move of twenty files over connections as scripted.
    """
    scene = Scene()
    for number in range(20):
        scene.here.put(b"%d" % number, b"x" * 600 * 1024)
    attempts = Attempts(scene, script)
    retry = Retry(scene.mover, attempts.open, scene.clock, random, attempts)
    return attempts, retry


def test_first_failure_is_final() -> None:
    """
    Who could not be reached at the start is not tried again.
    """
    for error in (PeerGone("no route"), PeerRefused("unknown key")):
        attempts, retry = retrying([error])
        with pytest.raises(type(error)):
            drive(attempts.scene.clock, retry.run())
        assert attempts.lost_after == []


def test_delays() -> None:
    """
    5 s, 15 s, 30 s, 1 min, 2 min, and then every 5 min.
    """
    gone = PeerGone("gone")
    attempts, retry = retrying([1, *([gone] * 7), None])
    drive(attempts.scene.clock, retry.run())
    assert attempts.lost_after == [5, 15, 30, 60, 120, 300, 300, 300]
    assert attempts.reached_after == [0, 8]
    assert attempts.scene.mover.totals.files["moved"] == 20
    assert attempts.opened == attempts.closed == 2


def test_progress_begins_the_row_anew() -> None:
    """
    A connection over which something was moved was a good one; others are not.
    """
    attempts, retry = retrying([1, 2, 30, 2, None])
    drive(attempts.scene.clock, retry.run())
    assert attempts.lost_after == [5, 15, 5, 15]


def test_jitter() -> None:
    """
    Delays are lengthened by up to a fifth.
    """
    attempts, retry = retrying([1, None], random=lambda: 1.0)
    drive(attempts.scene.clock, retry.run())
    assert attempts.lost_after == [DELAYS[0] * (1 + JITTER)]


def test_refused_later_is_final() -> None:
    """
    A peer that has been reconfigured meanwhile says so.
    """
    attempts, retry = retrying([1, PeerRefused("unknown key")])
    with pytest.raises(PeerRefused):
        drive(attempts.scene.clock, retry.run())


@pytest.mark.parametrize("how", ["stop", "abort"])
def test_stopped_while_waiting(how: str) -> None:
    """
    Nobody is waited for then.
    """
    attempts, retry = retrying([1])
    results: list[object] = []
    Deferred.fromCoroutine(retry.run()).addBoth(results.append)
    while not attempts.lost_after:
        attempts.scene.clock.advance(0.01)
    getattr(retry, how)()
    assert results == [None]
    assert attempts.scene.clock.getDelayedCalls() == []


def test_lost_while_stopping() -> None:
    """
    A connection that breaks after a stop is not replaced.
    """
    attempts, retry = retrying([None])
    results: list[object] = []
    Deferred.fromCoroutine(retry.run()).addBoth(results.append)
    while not attempts.scene.destination.link.asked["write"]:
        attempts.scene.clock.advance(0.001)
    retry.stop()
    attempts.scene.destination.link.lose()
    assert results == [None]
    assert attempts.lost_after == []
    assert attempts.closed == 1


def test_stopped_before_the_start() -> None:
    """
    Nothing is opened then.
    """
    attempts, retry = retrying([])
    retry.stop()
    drive(attempts.scene.clock, retry.run())
    assert attempts.opened == 0


def test_cancelled_while_waiting() -> None:
    """
    The timer goes with it.
    """
    attempts, retry = retrying([1])
    results: list[object] = []
    run = Deferred.fromCoroutine(retry.run())
    run.addBoth(results.append)
    while not attempts.lost_after:
        attempts.scene.clock.advance(0.01)
    run.cancel()
    (failure,) = results
    assert failure.check(CancelledError)  # type: ignore[attr-defined]  # a Failure
    assert attempts.scene.clock.getDelayedCalls() == []
