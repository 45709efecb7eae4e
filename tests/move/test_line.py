"""
The assembly line: what is begun when, and how it ends.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import CancelledError, Deferred

from realize.errors import DiskError, PeerGone
from realize.model import MAX_BATCH, File
from realize.move.line import MAX_NAMES, Line, Stage
from realize.move.tally import Item


def items(count: int, size: int = 1, name: int = 10) -> list[Item]:
    """
    Files with paths of so many bytes.
    """
    return [
        Item(File(b"%0*d" % (name, n), size, 0, 0o644, b""), 0.0) for n in range(count)
    ]


class Bench:
    """
    A line with one stage whose batches end when the test says so.
    """

    def __init__(self, **options: int) -> None:
        self.line = Line()
        self.batches: list[tuple[list[Item], Deferred[None]]] = []
        self.may = True
        self.cancelled = 0
        self.stage = Stage(self.line, self.work, lambda: self.may, **options)
        self.results: list[object] = []

    async def work(self, batch: list[Item]) -> None:
        waiting: Deferred[None] = Deferred()
        self.batches.append((batch, waiting))
        try:
            await waiting
        except CancelledError:
            self.cancelled += 1
            raise

    def run(self, queue: list[Item]) -> Deferred[None]:
        async def first() -> None:
            self.line.steps = (self.stage,)
            self.stage.put(queue)

        run = Deferred.fromCoroutine(self.line.run(first()))
        run.addBoth(self.results.append)
        return run

    @property
    def sizes(self) -> list[int]:
        """
        Files in each batch that was begun.
        """
        return [len(batch) for batch, _ in self.batches]


def test_batches_and_width() -> None:
    """
    Full batches, no more at once than the width; the run ends with the last.
    """
    bench = Bench(width=2)
    bench.run(items(3 * MAX_BATCH + 5))
    assert bench.sizes == [MAX_BATCH] * 2
    assert bench.stage.load == 3 * MAX_BATCH + 5
    bench.batches[0][1].callback(None)
    assert bench.sizes == [MAX_BATCH] * 3
    assert bench.stage.load == 2 * MAX_BATCH + 5
    for index in (1, 2):
        bench.batches[index][1].callback(None)
    assert bench.results == []
    bench.batches[3][1].callback(None)
    assert bench.results == [None]
    assert bench.stage.load == 0


def test_a_batch_has_a_bound_on_names_and_bytes() -> None:
    """
    One file alone may exceed them.
    """
    bench = Bench(width=100)
    bench.run(items(300, name=4000))
    assert max(bench.sizes) == MAX_NAMES // 4000
    bench = Bench(width=100, most_bytes=100)
    bench.run(items(3, size=40) + items(2, size=200))
    assert bench.sizes == [2, 1, 1, 1]


def test_a_batch_names_a_file_once() -> None:
    """
    A listing may name it twice, and the request would be refused.
    """
    bench = Bench(width=100)
    bench.run(items(3) + items(2) + items(1))
    assert bench.sizes == [3, 2, 1]


def test_few_files_wait_for_the_batch_in_progress() -> None:
    """
    A further batch is begun beside another only if it is worth it.
    """
    bench = Bench(full=10)
    bench.run(items(3))
    bench.stage.put(items(9))
    bench.line.wake()
    assert bench.sizes == [3]
    bench.stage.put(items(10)[9:])
    bench.line.wake()
    assert bench.sizes == [3, 10]
    bench.stage.put(items(4))
    bench.line.wake()
    bench.batches[0][1].callback(None)
    assert bench.sizes == [3, 10]
    bench.batches[1][1].callback(None)
    assert bench.sizes == [3, 10, 4]


def test_nothing_is_begun_that_may_not() -> None:
    """
    The run ends with files waiting.
    """
    bench = Bench()
    bench.may = False
    bench.run(items(3))
    assert bench.results == [None]
    assert bench.batches == []


def test_an_error_abandons_everything() -> None:
    """
    The run raises it, and what was in progress is cancelled.
    """
    bench = Bench()
    bench.run(items(3 * MAX_BATCH))
    bench.batches[0][1].errback(PeerGone("gone"))
    assert bench.cancelled == 2
    assert bench.results[0].check(PeerGone)  # type: ignore[attr-defined]  # a Failure


def test_a_failed_run_finishes_what_is_in_progress() -> None:
    """
    The first reason given is what it raises in the end.
    """
    bench = Bench()
    bench.run(items(2 * MAX_BATCH))
    bench.line.fail(DiskError("first"))
    bench.line.fail(DiskError("second"))
    bench.batches[0][1].callback(None)
    assert bench.results == []
    bench.batches[1][1].callback(None)
    assert str(bench.results[0].value) == "first"  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", ["abandon", "cancel"])
def test_ended_from_outside(end: str) -> None:
    """
    At once, and nothing is begun after.
    """
    bench = Bench(width=1)
    run = bench.run(items(2 * MAX_BATCH))
    actions: dict[str, Callable[[], None]] = {
        "abandon": bench.line.abandon,
        "cancel": run.cancel,
    }
    actions[end]()
    if end == "abandon":
        assert bench.results == [None]
    else:
        assert bench.results[0].check(CancelledError)  # type: ignore[attr-defined]
    bench.line.wake()
    assert (len(bench.batches), bench.cancelled) == (1, 1)


def test_work_that_ends_at_once_does_not_end_the_run_early() -> None:
    """
    A coroutine that starts another, which is done before it is, still counts.
    """
    line = Line()
    done: list[str] = []
    results: list[object] = []

    async def inner() -> None:
        done.append("inner")

    async def first() -> None:
        line.start(inner())
        assert results == []
        done.append("first")

    Deferred.fromCoroutine(line.run(first())).addBoth(results.append)
    assert done == ["inner", "first"]
    assert results == [None]


def test_many_batches_that_end_at_once() -> None:
    """
    They do not pile up on the stack.
    """
    line = Line()
    batches = 0

    async def work(batch: list[Item]) -> None:
        nonlocal batches
        batches += 1

    stage = Stage(line, work, lambda: True, most_bytes=1)

    async def first() -> None:
        line.steps = (stage,)
        stage.put(items(5000))

    results: list[object] = []
    Deferred.fromCoroutine(line.run(first())).addBoth(results.append)
    assert (results, batches) == ([None], 5000)
