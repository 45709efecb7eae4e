"""
A move from its first connection to its summary.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectingCancelledError
from twisted.python.failure import Failure
from txaio.tx import make_logger

from realize.cli.exits import Exit, exit_after, exit_for
from realize.cli.hook import HookChoice, MovedHook
from realize.cli.listening import Listening
from realize.cli.local_control import LocalControl
from realize.cli.move_log import MoveLog
from realize.cli.opening import Opener
from realize.cli.outputs import LoggedOutput, Output
from realize.cli.report import Result
from realize.cli.stopping import Stopper
from realize.cli.throttling import Throttling
from realize.errors import PeerGone, RealizeError
from realize.move.mover import Mover
from realize.move.observers import Observers
from realize.move.outcome import MoveObserver, MoveSettings
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.retry import Retry
from realize.observe.events import CONNECTION_LOST, MOVE_FAILED, RECONNECTED
from realize.units import format_duration

if TYPE_CHECKING:
    from realize.cli.metering import Metering

#: Seconds after which the ends of a move are not waited for when they are closed; and
#: the same for one that was told to end at once.
CLOSING: Final = 10.0
CLOSING_AT_ONCE: Final = 1.0


@define(eq=False)
class Attempts:
    """
    Tells the user about lost connections.

    :ivar lost_count: how often one was lost, or could not be made again.
    :ivar open: whether both ends are, or were, reached.
    """

    _output: Output
    _move_log: MoveLog | None
    _metering: Metering | None = None
    lost_count: int = 0
    open: bool = False

    log = make_logger()

    def lost(self, error: PeerGone, delay: float) -> None:
        """
        Say so, and when it will be tried again.
        """
        self.lost_count += 1
        self.open = False
        if self._metering is not None:
            self._metering.retried()
        CONNECTION_LOST.log(
            self.log, reason=str(error), seconds=delay, attempt=self.lost_count
        )
        self._output.retrying(
            f"{error}; trying again in {format_duration(round(delay))}"
        )

    def reached(self, retries: int) -> None:
        """
        Say so, if it was lost before.
        """
        self.open = True
        if self.lost_count:
            RECONNECTED.log(self.log, attempt=self.lost_count)
            self._output.retrying("connected again; going on")
        elif self._move_log is not None:
            self._move_log.began_move()


@define(eq=False)
class _Running:
    """
    What :class:`Stopper` stops: the retries, or a connection that is being made.
    """

    _retry: Retry
    _attempts: Attempts
    _reactor: Any
    _task: Deferred[None] | None = None
    _over: Deferred[None] = field(factory=Deferred)

    async def run(self) -> None:
        """
        Move, until the end or until stopped.
        """
        self._task = Deferred.fromCoroutine(self._retry.run())
        self._task.addBoth(self._end)
        await self._over

    def stop(self) -> bool:
        """
        Begin nothing new; without a connection there is nothing to wait for.
        """
        connected = self._attempts.open
        self._retry.stop()
        if not connected and self._task is not None:
            self._task.cancel()
        return connected

    def abort(self) -> None:
        """
        Give up what is in progress, and if that takes too long, waiting for it.
        """
        self._retry.abort()
        if self._task is not None:
            self._reactor.callLater(CLOSING_AT_ONCE, self._give_up, self._task)

    def _give_up(self, task: Deferred[None]) -> None:
        """
        Wait no longer, not even for what a cancelled move has to close.
        """
        task.cancel()
        self._end(Failure(CancelledError()))

    def _end(self, result: Failure | None) -> None:
        if not self._over.called:
            self._over.callback(result)


async def _let_go(opener: Opener, reactor: Any, output: Output, seconds: float) -> None:
    """
    Close the two ends; a disk that hangs is not waited for longer than *seconds*.
    """
    closing = Deferred.fromCoroutine(opener.close())
    try:
        await closing.addTimeout(seconds, reactor)
    except TimeoutError:
        output.say("a disk does not answer; not waiting for it any longer")


async def run_move(
    reactor: Any,
    opener: Opener,
    settings: MoveSettings,
    output: Output,
    max_duration: float,
    throttling: Throttling,
    metering: Metering | None = None,
    receipts: Receipts = NO_RECEIPTS,
    hook_choice: HookChoice | None = None,
) -> Exit:
    """
    Move, tell *output* how it goes, and return the exit status.

    :param max_duration: seconds.
    :param throttling: the limits of the move, which can be changed from outside.
    :param metering: keeps and delivers metrics of this run, if they are wanted.
    :param receipts: writes down what is safe before its source goes.
    :param hook_choice: what to run with the files that were moved.
    """
    move_log = MoveLog(opener.ends, opener.peer, opener.session)
    attempts = Attempts(output, None if settings.dry_run else move_log, metering)
    observers: list[MoveObserver] = [output]
    if not settings.dry_run:
        observers.append(move_log)
    if metering is not None:
        observers.append(metering.observer)
    hook = None
    if hook_choice is not None and hook_choice.words and not settings.dry_run:
        ends = opener.ends
        hook = MovedHook(reactor, hook_choice, ends.source, ends.destination)
        observers.append(hook)
    mover = Mover(settings, reactor, Observers(observers), receipts, throttling.take)
    running = _Running(
        Retry(mover, opener.open, reactor, random.random, attempts), attempts, reactor
    )
    began = reactor.seconds()
    status: Exit | None = None
    error = ""
    output.started(opener.ends)
    throttling.begin(output.say, mover.limit)
    control = LocalControl(reactor, opener.ends, throttling, mover)
    if trouble := control.start():
        output.say(trouble)
    listening = Listening(opener.silences, output.say, reactor)
    listening.start()
    with Stopper(running, reactor, output.stopping, max_duration) as stopper:
        try:
            await running.run()
        except (CancelledError, ConnectingCancelledError):
            status = stopper.status or Exit.FAILED
        except RealizeError as problem:
            # A connection that is given up is lost in its own eyes.
            if stopper.status and isinstance(problem, PeerGone):
                status = stopper.status
            else:
                status, error = exit_for(problem), str(problem)
        finally:
            listening.stop()
            patience = CLOSING if stopper.status is None else CLOSING_AT_ONCE
            await _let_go(opener, reactor, output, patience)
            await control.stop()
            throttling.stop()
    totals = mover.totals
    if status is None:
        # Told to stop when everything was done already is not having been stopped.
        early = totals.left or not totals.complete
        status = (stopper.status if early else None) or exit_after(
            failed=totals.failed, deferred=totals.deferred
        )
    if error:
        MOVE_FAILED.log(Attempts.log, reason=error)
        if not isinstance(output, LoggedOutput):
            output.say(error)
    if hook is not None and (unhooked := await hook.finish()):
        output.say(unhooked)
        status = Exit.HOOK_FAILED if status == Exit.MOVED else status
    seconds = reactor.seconds() - began
    if metering is not None:
        status, undelivered = await metering.finish(status, seconds)
        if undelivered:
            output.say(undelivered)
    result = Result(
        ends=opener.ends,
        totals=totals,
        status=status,
        seconds=seconds,
        dry_run=settings.dry_run,
        error=error,
        reconnects=attempts.lost_count,
        compressed=opener.compressed,
    )
    if not settings.dry_run:
        move_log.ended_move(result)
    output.finished(result)
    return status
