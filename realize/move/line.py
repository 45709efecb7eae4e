"""
The assembly line: steps that each do their part for batches of files.

Nothing waits for one file.  Each step has a queue; whenever anything has happened,
every step begins what it can, those nearest the end of the line first, so that work
in progress is finished before new work is begun.  What a step begins is one
coroutine for a whole batch, which awaits the stores and puts the files into the
queue of the step that follows.

The run ends when nothing is in progress and no step begins anything more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure as TwistedFailure

from realize.model import MAX_BATCH
from realize.move.tally import Item

#: Most bytes of paths in one batch: with what goes with each, they must fit beside
#: :data:`~realize.model.MAX_BATCH_BYTES` into one payload.
MAX_NAMES: Final = 512 * 1024

#: Files that are worth a group of their own: what is committed or removed together
#: shares the work on its directories.
GROUP: Final = 256

_Result = TypeVar("_Result")

#: Work for one batch.
Work = Callable[[list[Item]], Coroutine[Deferred[Any], Any, None]]


class Step(Protocol):
    """
    A part of the line.
    """

    @property
    def load(self) -> int:
        """
        Files that wait here or are being worked on.
        """

    def begin(self) -> None:
        """
        Begin what can be begun now.
        """


@define(eq=False)
class Line:
    """
    Steps, the coroutines they began, and how the run ends.

    :ivar steps: set by the first coroutine, those nearest the end first.
    :ivar stopping: nothing new is to be begun; what is in progress goes on.
    :ivar error: why the run cannot go on, if so: only removals are begun then, of
        files that are safe already.
    """

    steps: tuple[Step, ...] = ()
    stopping: bool = False
    error: BaseException | None = None
    _running: set[Deferred[None]] = field(factory=set)
    #: Counts those too that have not yet come back from their first step.
    _active: int = 0
    _over: Deferred[None] | None = None
    _beginning: bool = False
    _again: bool = False
    _abandoned: bool = False

    async def run(self, first: Coroutine[Deferred[Any], Any, None]) -> None:
        """
        Work until nothing is left to do, or :meth:`abandon`.

        :param first: sets the steps.
        :raises RealizeError: what was given to :meth:`fail` or :meth:`abandon`.
        """
        self._over = Deferred(self._cancel)
        try:
            self.start(first)
            await self._over
        finally:
            self._give_up()
        if self.error is not None:
            raise self.error

    def start(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        """
        Let a coroutine run.  What it raises ends the run.
        """
        self._active += 1
        running = Deferred.fromCoroutine(coroutine)
        self._running.add(running)
        running.addBoth(self._leave, running)
        running.addCallbacks(self._ended, self._broke)
        if self._abandoned:
            running.cancel()

    def fail(self, error: BaseException) -> None:
        """
        The run cannot go on: begin nothing more, and raise this in the end.
        """
        if self.error is None:
            self.error = error

    def abandon(self, error: BaseException | None = None) -> None:
        """
        End the run at once, giving up the answers of everything in progress.
        """
        if error is not None:
            self.fail(error)
        self._give_up()
        self._end_if_idle()

    def wake(self) -> None:
        """
        Something has changed: let every step begin what it can.
        """
        self._again = True
        if self._beginning:
            return
        self._beginning = True
        try:
            while self._again and not self._abandoned:
                self._again = False
                for step in self.steps:
                    step.begin()
        finally:
            self._beginning = False
        self._end_if_idle()

    def _leave(self, result: _Result, running: Deferred[None]) -> _Result:
        self._running.discard(running)
        self._active -= 1
        return result

    def _ended(self, _: None) -> None:
        if self._abandoned:
            self._end_if_idle()
        else:
            self.wake()

    def _broke(self, failure: TwistedFailure) -> None:
        if self._abandoned and failure.check(CancelledError):
            self._end_if_idle()
        else:
            self.abandon(failure.value)

    def _cancel(self, _: Deferred[None]) -> None:
        # Whoever cancels is to hear of that, not that everything is over.
        self._over = None
        self._give_up()

    def _give_up(self) -> None:
        self._abandoned = True
        for running in list(self._running):
            running.cancel()

    def _end_if_idle(self) -> None:
        over = self._over
        if over is not None and not self._active and not over.called:
            over.callback(None)


@define(eq=False)
class Stage:
    """
    A step with a queue of files.

    :ivar width: most batches in progress at once.
    :ivar full: files that make a batch worth beginning while another is in progress;
        fewer wait for that one, so that those that come meanwhile join them.
    :ivar most_bytes: most bytes of files in a batch of more than one.
    :ivar may_begin: whether it begins new batches in the state the line is in.
    """

    _line: Line
    _work: Work
    _may_begin: Callable[[], bool]
    _width: int = 4
    _full: int = 1
    _most_bytes: int | None = None
    _queue: deque[Item] = field(factory=deque)
    _batches: int = 0
    _in_work: int = 0

    @property
    def load(self) -> int:
        """
        Files that wait here or are being worked on.
        """
        return len(self._queue) + self._in_work

    def put(self, items: Iterable[Item]) -> None:
        """
        Queue files; the caller's coroutine ends soon, and the line wakes then.
        """
        self._queue.extend(items)

    def begin(self) -> None:
        """
        Begin batches while there are files and fewer in progress than the width.
        """
        while (
            self._queue
            and (not self._batches or len(self._queue) >= self._full)
            and self._batches < self._width
            and self._may_begin()
        ):
            self._batches += 1
            self._line.start(self._do(self._take()))

    def _take(self) -> list[Item]:
        queue, batch, names, nbytes = self._queue, list[Item](), 0, 0
        paths = set[bytes]()
        while queue and len(batch) < MAX_BATCH:
            file = queue[0].file
            if file.path in paths:
                break  # a request names a file once; a listing may name it twice
            paths.add(file.path)
            names += len(file.path)
            nbytes += file.size
            if batch and (
                names > MAX_NAMES
                or (self._most_bytes is not None and nbytes > self._most_bytes)
            ):
                break
            batch.append(queue.popleft())
        return batch

    async def _do(self, batch: list[Item]) -> None:
        self._in_work += len(batch)
        try:
            await self._work(batch)
        finally:
            self._in_work -= len(batch)
            self._batches -= 1
