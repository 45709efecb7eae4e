"""
A move that is told to end, whatever it waits for.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from realize.cli.running import CLOSING_AT_ONCE, Attempts, _Running
from realize.move.retry import Retry


class Stuck:
    """
    Retries that don't end, not even when they are cancelled.
    """

    async def run(self) -> None:
        """
        Closing waits for an answer that never comes.
        """
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    def abort(self) -> None:
        """
        Does not help.
        """


def test_a_move_that_does_not_end_is_given_up() -> None:
    """
    So that there is time to sum up before the program has to end.
    """
    clock = Clock()
    running = _Running(cast(Retry, Stuck()), cast(Attempts, None), cast(Any, clock))
    ended = Deferred.fromCoroutine(running.run())
    failures: list[object] = []
    ended.addErrback(lambda failure: failures.append(failure.type))
    running.abort()
    clock.advance(CLOSING_AT_ONCE - 0.1)
    assert failures == []
    clock.advance(0.2)
    assert failures == [CancelledError]
