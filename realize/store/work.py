"""
Disk work in threads, in order for each file.

Everything that may wait for a disk runs in the threads of a :class:`WorkPool`, one
for each directory, so that a slow disk delays only its own users.  Each open store
has a :class:`WorkQueue` in front of it.  What holds:

- Operations of one queue that share a key run one after another, in the order in
  which they were submitted.  Others run in any order, at the same time.
- An operation that was submitted either runs to its end or never begins.
- Everything but the functions themselves runs in the reactor's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from realize.delta.exchange import Sign
from realize.errors import BadRequest

T = TypeVar("T")
P = ParamSpec("P")

#: Threads for one directory.
POOL_SIZE: Final = 4


def signing_keys(wanted: Sign) -> list[bytes]:
    """
    Orders the pages of a file's signature, and nothing else: they change nothing.

    What is asked for beside pages does not wait for them.  No path begins so.
    """
    return [] if wanted.spans else [b"/" + wanted.path]


class DiskThreads(ThreadPool):
    """
    Threads that do not keep the process alive: a disk may hang for ever, and being
    killed between any two steps is something that every step is made for.
    """

    threadFactory = staticmethod(partial(threading.Thread, daemon=True))  # type: ignore[assignment]  # noqa: N815


class WorkPool:
    """
    The threads of one directory.

    :param reactor: where answers are delivered.
    :param threads: does the work; started here, stopped by :meth:`close`.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        threads: ThreadPool | None = None,
        name: str = "disk",
    ) -> None:
        self.reactor = reactor
        self.threads = threads or DiskThreads(0, POOL_SIZE, name)
        self.threads.start()

    def run(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """
        Call a function in a thread, in no particular order.

        Cancelling gives up the answer, not the work.
        """
        return deferToThreadPool(self.reactor, self.threads, function, *args, **kwargs)

    def tell(
        self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """
        From a thread: have a function called in the reactor's thread, without
        waiting for it.  Logging is done this way.
        """
        self.reactor.callFromThread(function, *args, **kwargs)

    def close(self) -> None:
        """
        Stop the threads.  Waits for what runs: close the queues first.
        """
        self.threads.stop()


@define(eq=False)
class _Operation(Generic[T]):
    """
    :ivar waiting_for: operations that have to end before this begins.
    :ivar followers: operations that wait for this one.
    """

    keys: list[bytes]
    function: Callable[[], T]
    # No canceller: giving up the answer must not stop work that others wait for.
    answer: Deferred[T] = field(factory=Deferred)
    waiting_for: int = 0
    followers: list[_Operation[Any]] = field(factory=list)


class WorkQueue:
    """
    The operations of one open store, ordered by key.

    :param pool: whose threads do the work; it serves other queues too.
    """

    def __init__(self, pool: WorkPool) -> None:
        self.pool = pool
        self._last_of: dict[bytes, _Operation[Any]] = {}
        self._operations: set[_Operation[Any]] = set()
        self._closed = False
        self._last: Callable[[], object] | None = None
        self._closers: list[Deferred[None]] | None = []

    def run(
        self,
        keys: Iterable[bytes],
        function: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Deferred[T]:
        """
        Call a function in a thread once all earlier operations that share one of
        *keys* have ended.

        Cancelling gives up the answer, not the work.

        :raises BadRequest: (as the answer) the queue is closed.
        :raises CancelledError: (as the answer) it was closed before the work began.
        """
        operation = _Operation(list(keys), partial(function, *args, **kwargs))
        if self._closed:
            operation.answer.errback(BadRequest("the store is closed"))
            return operation.answer
        self._operations.add(operation)
        before = set()
        for key in operation.keys:
            earlier = self._last_of.get(key)
            if earlier is not None and earlier is not operation:
                before.add(earlier)
            self._last_of[key] = operation
        for earlier in before:
            earlier.followers.append(operation)
        operation.waiting_for = len(before)
        if not before:
            self._begin(operation)
        return operation.answer

    @property
    def closed(self) -> bool:
        """
        Whether :meth:`close` was called.
        """
        return self._closed

    def close(self, last: Callable[[], object]) -> Deferred[None]:
        """
        Refuse what is new, cancel what has not begun, wait for what runs, and then
        call *last* in a thread.

        Closing again waits for the first close; its *last* is not called.
        """
        # No canceller: others may wait for the same end.
        closer: Deferred[None] = Deferred()
        if self._closers is None:
            closer.callback(None)
            return closer
        self._closers.append(closer)
        if not self._closed:
            self._closed = True
            self._last = last
            for operation in [each for each in self._operations if each.waiting_for]:
                self._operations.discard(operation)
                operation.answer.errback(CancelledError())
            self._check_end()
        return closer

    def _begin(self, operation: _Operation[Any]) -> None:
        self.pool.run(self._call, operation).addBoth(self._ended, operation)

    def _call(self, operation: _Operation[T]) -> T:
        # In a thread, where it may have waited for its turn.
        if self._closed:
            raise CancelledError
        return operation.function()

    def _ended(self, result: Any, operation: _Operation[Any]) -> None:
        self._operations.discard(operation)
        for key in operation.keys:
            if self._last_of.get(key) is operation:
                del self._last_of[key]
        for follower in operation.followers:
            follower.waiting_for -= 1
            if not follower.waiting_for and not self._closed:
                self._begin(follower)
        operation.answer.callback(result)
        if self._closed:
            self._check_end()

    def _check_end(self) -> None:
        if not self._operations and self._last is not None:
            last, self._last = self._last, None
            self.pool.run(last).addBoth(self._tell_closers)

    def _tell_closers(self, result: Any) -> None:
        closers, self._closers = self._closers or [], None
        for closer in closers:
            closer.callback(result if isinstance(result, Failure) else None)
