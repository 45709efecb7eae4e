"""
Disk work in threads, in order.
"""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from realize.errors import BadRequest
from realize.store.work import (
    LONG_POOL_SIZE,
    POOL_SIZE,
    QUICK,
    TURN,
    DiskThreads,
    Turns,
    Turnstile,
    WorkPool,
    WorkQueue,
)
from tests.support.threads import InlineThreads, QueueReactor, result_of


class HeldThreads(InlineThreads):
    """
    Keeps what it is to do until told which to do next.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting = []

    def callInThreadWithCallback(self, *call) -> None:  # noqa: N802
        """
        Keep it.
        """
        self.waiting.append(call)

    def do(self, index: int = 0) -> None:
        """
        Do one of those that wait.
        """
        super().callInThreadWithCallback(*self.waiting.pop(index))


class Journal:
    """
    Notes what was done, in the order in which it was done.
    """

    def __init__(self) -> None:
        self.done = []

    def note(self, what):
        """
        The work.
        """
        self.done.append(what)
        return what


class OneThread:
    """
    A reactor for tests that have one thread.
    """

    def callFromThread(self, function, *args):  # noqa: N802
        """
        Call it now.
        """
        function(*args)


@pytest.fixture
def threads():
    """
    Threads that reorder as the test says.
    """
    return HeldThreads()


@pytest.fixture
def queue(threads):
    """
    A queue over them.
    """
    return WorkQueue(WorkPool(OneThread(), threads))


@pytest.fixture
def journal():
    """
    An empty one.
    """
    return Journal()


def test_same_key_in_order(queue, threads, journal):
    """
    What shares a key is begun only when what came before has ended.
    """
    first = queue.run([b"a", b"b"], journal.note, 1)
    second = queue.run([b"b", b"c"], journal.note, 2)
    third = queue.run([b"c"], journal.note, 3)
    assert len(threads.waiting) == 1
    threads.do()
    assert len(threads.waiting) == 1
    threads.do()
    threads.do()
    assert journal.done == [1, 2, 3]
    assert [result_of(each) for each in (first, second, third)] == [1, 2, 3]


def test_other_keys_at_the_same_time(queue, threads, journal):
    """
    What shares no key waits for nothing.
    """
    queue.run([b"a"], journal.note, 1)
    queue.run([b"b"], journal.note, 2)
    queue.run([], journal.note, 3)
    assert len(threads.waiting) == 3


def test_waits_for_all_before_it(queue, threads, journal):
    """
    An operation with two keys waits for both of its predecessors, once each.
    """
    queue.run([b"a"], journal.note, 1)
    queue.run([b"b"], journal.note, 2)
    queue.run([b"a", b"b", b"a"], journal.note, 3)
    threads.do(1)
    assert len(threads.waiting) == 1
    threads.do()
    threads.do()
    assert journal.done == [2, 1, 3]


def test_a_key_twice_is_no_deadlock(queue, threads, journal):
    """
    An operation does not wait for itself.
    """
    queue.run([b"a", b"a"], journal.note, 1)
    threads.do()
    assert journal.done == [1]


def test_failure_is_the_answer_and_the_next_goes_on(queue, threads, journal):
    """
    The exception arrives where it was asked for; followers are not held up.
    """
    first = queue.run([b"a"], int, "x")
    queue.run([b"a"], journal.note, 2)
    threads.do()
    with pytest.raises(ValueError, match="invalid literal"):
        result_of(first)
    threads.do()
    assert journal.done == [2]


def test_cancel_gives_up_the_answer_only(queue, threads, journal):
    """
    Cancelled work is done all the same, in its turn.
    """
    first = queue.run([b"a"], journal.note, 1)
    second = queue.run([b"a"], journal.note, 2)
    queue.run([b"a"], journal.note, 3)
    first.cancel()
    second.cancel()
    for given_up in (first, second):
        with pytest.raises(CancelledError):
            result_of(given_up)
    for _ in range(3):
        threads.do()
    assert journal.done == [1, 2, 3]


def test_forgets_keys(queue, threads, journal):
    """
    Nothing is remembered of a key when its work is done.
    """
    for number in range(3):
        queue.run([b"a", b"b"], journal.note, number)
    for _ in range(3):
        threads.do()
    assert not queue._last_of
    assert not queue._operations


def test_close_cancels_what_has_not_begun(queue, threads, journal):
    """
    Closing waits for what runs, cancels the rest, and does the last thing last.
    """
    running = queue.run([b"a"], journal.note, 1)
    queued = queue.run([b"a"], journal.note, 2)
    begun = threads.waiting.pop()  # it has its thread
    closed = queue.close(lambda: journal.note("last"))
    again = queue.close(lambda: journal.note("never"))
    with pytest.raises(CancelledError):
        result_of(queued)
    assert not closed.called
    begun[0](True, "done")
    assert result_of(running) == "done"
    assert not closed.called
    threads.do()
    assert journal.done == ["last"]
    assert result_of(closed) is None
    assert result_of(again) is None
    assert result_of(queue.close(lambda: journal.note("never"))) is None


def test_close_stops_what_waits_for_a_thread(queue, threads, journal):
    """
    What was given to the pool, but has no thread yet, is not begun either.
    """
    waiting = queue.run([b"a"], journal.note, 1)
    queue.close(lambda: None)
    threads.do()
    with pytest.raises(CancelledError):
        result_of(waiting)
    assert journal.done == []


def test_closed_refuses(queue, threads):
    """
    Nothing new after closing.
    """
    queue.close(lambda: None)
    with pytest.raises(BadRequest, match="closed"):
        result_of(queue.run([b"a"], int))


def test_close_tells_that_the_last_thing_failed(queue, threads):
    """
    An exception while closing is not swallowed.
    """
    closed = queue.close(lambda: int("x"))
    threads.do()
    with pytest.raises(ValueError, match="invalid literal"):
        result_of(closed)


def test_closing_one_queue_leaves_others_alone(threads, journal):
    """
    Stores of one directory share threads, not fates.
    """
    pool = WorkPool(OneThread(), threads)
    one, other = WorkQueue(pool), WorkQueue(pool)
    kept = other.run([b"a"], journal.note, 1)
    one.close(lambda: None)
    threads.do()
    threads.do()
    assert result_of(kept) == 1


@given(
    batches=st.lists(st.lists(st.sampled_from("abcd"), max_size=3), max_size=20),
    seed=st.integers(0, 2**32),
)
def test_any_order_of_threads(batches, seed):
    """
    However threads reorder, each key sees its operations in the order of submission.
    """
    choose = random.Random(seed)  # noqa: S311 - not for secrets
    threads, journal = HeldThreads(), Journal()
    queue = WorkQueue(WorkPool(OneThread(), threads))
    for number, keys in enumerate(batches):
        queue.run([key.encode() for key in keys], journal.note, number)
    while threads.waiting:
        threads.do(choose.randrange(len(threads.waiting)))
    assert sorted(journal.done) == list(range(len(batches)))
    for key in "abcd":
        mine = [number for number in journal.done if key in batches[number]]
        assert mine == sorted(mine)


def test_real_threads():
    """
    With real threads: order for each key, answers in the reactor's thread, and threads
    that end when they are told to.
    """
    reactor = QueueReactor()
    pool = WorkPool(reactor, DiskThreads(0, 4, "test"))
    queue = WorkQueue(pool)
    order = {b"a": [], b"b": [], b"c": []}
    threads_seen, answered_in = set(), set()

    def work(key, number):
        threads_seen.add(threading.current_thread())
        order[key].append(number)
        return number

    answers = []
    for number in range(300):
        key = (b"a", b"b", b"c")[number % 3]
        answer = queue.run([key], work, key, number)
        answer.addCallback(
            lambda result: answered_in.add(threading.current_thread()) or result
        )
        answers.append(answer)
    assert [reactor.wait_for(each) for each in answers] == list(range(300))
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert answered_in == {threading.current_thread()}
    assert threading.current_thread() not in threads_seen
    assert all(thread.daemon for thread in threads_seen)
    reactor.wait_for(queue.close(lambda: None))
    pool.close()
    assert not any(thread.is_alive() for thread in threads_seen)


def test_unordered_work_and_words_from_threads(journal):
    """
    The pool also runs what needs no order, and passes calls on from a thread.
    """
    reactor = QueueReactor()
    pool = WorkPool(reactor)
    here = threading.current_thread()

    def work():
        pool.tell(lambda: journal.note(threading.current_thread() is here))
        return 1

    assert reactor.wait_for(pool.run(work)) == 1
    reactor.run_until(lambda: bool(journal.done))
    assert journal.done == [True]
    pool.close()


class TestTurns:
    """
    Who is next.
    """

    def test_of_peers_and_sessions(self):
        """
        A peer with many sessions, or a session with much to do, delays nobody else by
        more than a turn.
        """
        turns = Turns()
        for number in range(3):
            turns.put(("a", "1"), f"a1-{number}")
        turns.put(("a", "2"), "a2")
        turns.put(("b", "1"), "b1")
        order = []
        while (turn := turns.take(lambda peer: True)) is not None:
            order.append(turn[1])
        assert order == ["a1-0", "b1", "a2", "a1-1", "a1-2"]

    def test_not_everybody_may(self):
        """
        Whose turn it is not waits without holding up others.
        """
        turns = Turns()
        turns.put(("a", "1"), 1)
        turns.put(("b", "1"), 2)
        assert turns.take(lambda peer: peer == "b") == ("b", 2)
        assert turns.take(lambda peer: peer == "b") is None
        assert turns.take(lambda peer: True) == ("a", 1)

    def test_drop(self):
        """
        What is over is taken out wherever it waits; the others keep their order.
        """
        turns = Turns()
        for number in range(6):
            turns.put(("ab"[number % 2], "1"), number)
        assert sorted(turns.drop(lambda number: number < 3)) == [0, 1, 2]
        left = []
        while (turn := turns.take(lambda peer: True)) is not None:
            left.append(turn)
        assert left == [("a", 4), ("b", 3), ("b", 5)]


class TestLong:
    """
    What may take long, and what does not.
    """

    def test_quick_work_does_not_wait(self, threads, journal):
        """
        However much long work of others there is.
        """
        pool = WorkPool(OneThread(), threads)
        greedy, other = WorkQueue(pool, ("a", "1")), WorkQueue(pool, ("b", "1"))
        for number in range(40):
            greedy.run_sized(QUICK + 1, [], journal.note, number)
        assert len(threads.waiting) == LONG_POOL_SIZE // 2
        quick = other.run([], journal.note, "quick")
        long = other.run_sized(QUICK + 1, [], journal.note, "long")
        threads.do(-2)
        threads.do(-1)
        assert journal.done == ["quick", "long"]
        assert (result_of(quick), result_of(long)) == ("quick", "long")

    def test_quick_work_takes_turns(self, threads, journal):
        """
        Among sessions, whoever came first: one more of the greedy, and then the other.
        """
        pool = WorkPool(OneThread(), threads)
        greedy, other = WorkQueue(pool, ("a", "1")), WorkQueue(pool, ("b", "1"))
        for number in range(40):
            greedy.run([], journal.note, number)
        other.run([], journal.note, "other")
        assert len(threads.waiting) == POOL_SIZE
        threads.do()
        threads.do(-1)
        threads.do(-1)
        assert journal.done == [0, POOL_SIZE, "other"]

    def test_closing_ends_what_waits(self, threads, journal):
        """
        A queue does not wait for its turn in order to close.
        """
        pool = WorkPool(OneThread(), threads)
        other, queue = WorkQueue(pool, ("a", "1")), WorkQueue(pool, ("b", "1"))
        for _ in range(20):
            other.run_sized(QUICK + 1, [], journal.note, "other")
        answers = [
            queue.run_sized(QUICK + 1, [], journal.note, "mine") for _ in range(20)
        ]
        begun = len(threads.waiting) - LONG_POOL_SIZE // 2
        closed = queue.close(lambda: journal.note("closed"))
        for answer in answers[begun:]:
            with pytest.raises(CancelledError):
                result_of(answer)
        for _ in range(begun):
            threads.do(LONG_POOL_SIZE // 2)
        threads.do(-1)
        assert result_of(closed) is None
        assert journal.done == ["closed"]

    def test_running_work_ends_when_its_queue_is_closed(self, threads):
        """
        At its next pause.
        """
        queue = WorkQueue(WorkPool(OneThread(), threads), ("a", "1"))

        def work():
            queue.pause()
            queue.close(lambda: None)
            queue.pause()

        answer = queue.run_sized(QUICK + 1, [], work)
        threads.do()
        with pytest.raises(CancelledError):
            result_of(answer)


class TestTurnstile:
    """
    Threads that take turns.
    """

    def test_passes_on(self):
        """
        Two works at a time of one thread's room: they alternate.
        """
        now = [0.0]
        turnstile = Turnstile(1, lambda: now[0])
        order, second_waits = [], threading.Event()

        def work(name):
            for _ in range(3):
                order.append(name)
                if name == "first":
                    second_waits.wait(10)
                now[0] += TURN
                turnstile.pass_on()

        def start_second():
            while not turnstile.waits:
                pass
            second_waits.set()

        first = threading.Thread(
            target=turnstile.call, args=(lambda: False, lambda: work("first"))
        )
        first.start()
        while not order:
            pass
        second = threading.Thread(
            target=turnstile.call, args=(lambda: False, lambda: work("second"))
        )
        second.start()
        start_second()
        first.join(10)
        second.join(10)
        assert order == ["first", "second"] * 3

    def test_is_left_when_it_is_over(self):
        """
        By one that waits, without a turn.
        """
        turnstile = Turnstile(1)
        over, held = threading.Event(), threading.Event()
        ended = []

        def wait():
            try:
                turnstile.call(over.is_set, lambda: ended.append("ran"))
            except CancelledError:
                ended.append("cancelled")

        holder = threading.Thread(
            target=turnstile.call, args=(lambda: False, lambda: held.wait(10))
        )
        holder.start()
        waiting = threading.Thread(target=wait)
        while turnstile.has_room:
            pass
        waiting.start()
        while not turnstile.waits:
            pass
        over.set()
        turnstile.look()
        waiting.join(10)
        assert ended == ["cancelled"]
        held.set()
        holder.join(10)
