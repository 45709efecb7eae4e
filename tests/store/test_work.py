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
from realize.store.work import DiskThreads, WorkPool, WorkQueue
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
