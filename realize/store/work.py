"""
Disk work in threads, in order for each file, and in turns for all who want some.

Everything that may wait for a disk runs in the threads of a :class:`WorkPool`, one
for each directory, so that a slow disk delays only its own users.  Each open store
has a :class:`WorkQueue` in front of it.  What holds:

- Operations of one queue that share a key run one after another, in the order in
  which they were submitted.  Others run in any order, at the same time.
- An operation that was submitted either runs to its end or never begins; a long one
  ends early, too, once its queue is closed.
- Peers take turns, and in the turns of a peer its sessions.
- What digests much has threads of its own.  However long that takes, nothing quick
  waits for it.  A few of those threads run at a time; they pass on their turn to the
  others, so that a large file does not hold up the next.
- Everything but the functions themselves runs in the reactor's thread.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from realize.delta.exchange import Sign
from realize.errors import BadRequest
from realize.store.silence import Silence

T = TypeVar("T")
P = ParamSpec("P")

#: Threads for one directory, and those of them that run at a time of those that have
#: more to digest than :data:`QUICK`.
POOL_SIZE: Final = 4
LONG_POOL_SIZE: Final = 16
LONG_AT_ONCE: Final = 4

#: Most bytes that an operation digests which is to take no more than a moment.
QUICK: Final = 64 * 1024 * 1024

#: Seconds after which a long operation lets another have its turn.
TURN: Final = 0.5

#: A peer and its session.
Who = tuple[str, str]


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


class Turns(Generic[T]):
    """
    What waits, in turns of those for whom it waits: peers, and sessions of a peer.
    """

    def __init__(self) -> None:
        self._peers: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()

    def put(self, who: Who, thing: T) -> None:
        """
        Let it wait, behind what waits for the same session.
        """
        peer, session = who
        sessions = self._peers.setdefault(peer, OrderedDict())
        sessions.setdefault(session, deque()).append(thing)

    def take(self, may: Callable[[str], bool]) -> tuple[str, T] | None:
        """
        What is due now, and the peer for whom; None if nothing is.

        :param may: whether it may be a peer's turn.
        """
        peer = next(filter(may, self._peers), None)
        if peer is None:
            return None
        sessions = self._peers[peer]
        session, things = next(iter(sessions.items()))
        thing = things.popleft()
        sessions.move_to_end(session)
        if not things:
            del sessions[session]
        self._peers.move_to_end(peer)
        if not sessions:
            del self._peers[peer]
        return peer, thing

    def drop(self, is_over: Callable[[T], bool]) -> list[T]:
        """
        Take out, whoever's turn it is, what is not to be done any more.
        """
        dropped: list[T] = []
        for peer, sessions in list(self._peers.items()):
            for session, things in list(sessions.items()):
                dropped += filter(is_over, things)
                left = deque(thing for thing in things if not is_over(thing))
                if left:
                    sessions[session] = left
                else:
                    del sessions[session]
            if not sessions:
                del self._peers[peer]
        return dropped


def _never() -> bool:
    return False


@frozen(eq=False)
class _Job:
    """
    :ivar is_over: whether nobody waits for it any more.
    """

    function: Callable[[], Any]
    is_over: Callable[[], bool] = _never
    answer: Deferred[Any] = field(factory=Deferred)


class Lane:
    """
    Threads, and what waits for them.

    :param width: most of them that work at once.
    :param shared: whether no peer may have more of them than it leaves free.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        threads: ThreadPool,
        width: int,
        shared: bool = False,
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._width = width
        self._shared = shared
        self._running: Counter[str] = Counter()
        self._turns: Turns[_Job] = Turns()

    def run(
        self,
        who: Who,
        function: Callable[[], T],
        is_over: Callable[[], bool] = _never,
    ) -> Deferred[T]:
        """
        Call a function in a thread when it is the turn of *who*.

        Cancelling gives up the answer, not the work.

        :param is_over: whether nobody waits for it any more; see :meth:`look`.
        """
        job = _Job(function, is_over)
        self._turns.put(who, job)
        self._begin()
        return job.answer

    def look(self) -> None:
        """
        Some of what waits is not to be done any more; it ends now, as cancelled.
        """
        for job in self._turns.drop(lambda job: job.is_over()):
            job.answer.errback(CancelledError())

    def _may(self, peer: str) -> bool:
        left = self._width - self._running.total()
        return left > 0 and (not self._shared or self._running[peer] < left)

    def _begin(self) -> None:
        while (turn := self._turns.take(self._may)) is not None:
            peer, job = turn
            self._running[peer] += 1
            running = deferToThreadPool(self._reactor, self._threads, job.function)
            running.addBoth(self._ended, peer, job.answer)

    def _ended(self, result: Any, peer: str, answer: Deferred[Any]) -> None:
        self._running[peer] -= 1
        if not self._running[peer]:
            del self._running[peer]
        self._begin()
        answer.callback(result)


@define(eq=False)
class _Turn:
    """
    A thread in :class:`Turnstile`.

    :ivar is_over: whether it waits for nothing any more.
    :ivar since: when it was let in, in seconds.
    """

    is_over: Callable[[], bool]
    woken: threading.Event = field(factory=threading.Event)
    since: float = 0.0


class Turnstile:
    """
    Lets so many threads work at a time, one after the other.

    :param seconds: a clock that never steps.
    """

    def __init__(
        self, width: int, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._room = width
        self._seconds = seconds
        self._inside: dict[int, _Turn] = {}
        self._waiting: deque[_Turn] = deque()
        self._lock = threading.Lock()

    @property
    def has_room(self) -> bool:
        """
        Whether a thread would be let in at once.
        """
        return self._room > 0

    @property
    def waits(self) -> bool:
        """
        Whether any thread waits for its turn.
        """
        return bool(self._waiting)

    def call(self, is_over: Callable[[], bool], function: Callable[[], T]) -> T:
        """
        Call a function once there is room.

        :param is_over: whether nobody waits for it any more; see :meth:`look`.
        :raises CancelledError: it was over before there was.
        """
        me = threading.get_ident()
        self._enter(me, _Turn(is_over))
        try:
            return function()
        finally:
            self._leave(me)

    def pass_on(self) -> None:
        """
        From time to time, in such a function: let others have a turn, if any wait.

        :raises CancelledError: nobody waits for it any more.
        """
        me = threading.get_ident()
        turn = self._inside.get(me)
        if turn is not None and self._waiting and self._seconds() - turn.since >= TURN:
            self._leave(me)
            self._enter(me, turn)

    def look(self) -> None:
        """
        It is over for some: do not let them wait.
        """
        with self._lock:
            for turn in self._waiting:
                if turn.is_over():
                    turn.woken.set()

    def _enter(self, me: int, turn: _Turn) -> None:
        with self._lock:
            turn.woken.clear()
            self._waiting.append(turn)
            self._let_in()
        turn.woken.wait()
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                raise CancelledError
            turn.since = self._seconds()
            self._inside[me] = turn

    def _leave(self, me: int) -> None:
        with self._lock:
            if self._inside.pop(me, None) is not None:
                self._room += 1
            self._let_in()

    def _let_in(self) -> None:
        while self._room and self._waiting:
            self._room -= 1
            self._waiting.popleft().woken.set()


class WorkPool:
    """
    The threads of one directory.

    :param reactor: where answers are delivered.
    :param threads: does all the work; by default, small pools of its own.  Started
        here, stopped by :meth:`close`.
    :ivar silence: for how long its disk has not answered.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        threads: ThreadPool | None = None,
        name: str = "disk",
    ) -> None:
        self.reactor = reactor
        quick = threads or DiskThreads(0, POOL_SIZE, name)
        long = threads or DiskThreads(0, LONG_POOL_SIZE, f"{name} long")
        self._threads = [quick] if quick is long else [quick, long]
        for each in self._threads:
            each.start()
        self._quick = Lane(reactor, quick, POOL_SIZE)
        self._long = Lane(reactor, long, LONG_POOL_SIZE, shared=True)
        self.turnstile = Turnstile(LONG_AT_ONCE)
        self.silence = Silence()

    def run(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """
        Call a function in a thread, for this host, in no particular order.

        Cancelling gives up the answer, not the work.
        """
        return self.run_for(("", ""), partial(function, *args, **kwargs))

    def run_for(self, who: Who, function: Callable[[], T]) -> Deferred[T]:
        """
        The same, in the turns of *who*.
        """
        return self._quick.run(who, partial(self._work, function))

    def run_long(
        self, who: Who, is_over: Callable[[], bool], function: Callable[[], T]
    ) -> Deferred[T]:
        """
        The same, of what may take long.

        :param is_over: whether nobody waits for it any more.
        """
        work = partial(self._work, function)
        turn = partial(self.turnstile.call, is_over, work)
        return self._long.run(who, turn, is_over)

    def look(self) -> None:
        """
        A queue was closed: what waits for it and would be long is not waited for.
        """
        self.turnstile.look()
        self._long.look()

    def _work(self, function: Callable[[], T]) -> T:
        with self.silence.working():
            return function()

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
        for each in self._threads:
            each.stop()


@define(eq=False)
class _Operation(Generic[T]):
    """
    :ivar waiting_for: operations that have to end before this begins.
    :ivar followers: operations that wait for this one.
    """

    keys: list[bytes]
    function: Callable[[], T]
    long: bool = False
    # No canceller: giving up the answer must not stop work that others wait for.
    answer: Deferred[T] = field(factory=Deferred)
    waiting_for: int = 0
    followers: list[_Operation[Any]] = field(factory=list)


class WorkQueue:
    """
    The operations of one open store, ordered by key.

    :param pool: whose threads do the work; it serves other queues too.
    :param who: for whom.
    """

    def __init__(self, pool: WorkPool, who: Who = ("", "")) -> None:
        self.pool = pool
        self._who = who
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
        return self._submit(_Operation(list(keys), partial(function, *args, **kwargs)))

    def run_sized(
        self,
        nbytes: int,
        keys: Iterable[bytes],
        function: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Deferred[T]:
        """
        As :meth:`run`, of what digests *nbytes*, and calls :meth:`pause` on the way.
        """
        work = partial(function, *args, **kwargs)
        return self._submit(_Operation(list(keys), work, nbytes > QUICK))

    def pause(self) -> None:
        """
        Called from threads, every few milliseconds of what may take long.

        :raises CancelledError: the queue is closed: nobody waits for the answer.
        """
        if self._closed:
            raise CancelledError
        self.pool.turnstile.pass_on()

    def _submit(self, operation: _Operation[T]) -> Deferred[T]:
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
            self.pool.look()
            self._check_end()
        return closer

    def _begin(self, operation: _Operation[Any]) -> None:
        call = partial(self._call, operation)
        if operation.long:
            running = self.pool.run_long(self._who, lambda: self._closed, call)
        else:
            running = self.pool.run_for(self._who, call)
        running.addBoth(self._ended, operation)

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
