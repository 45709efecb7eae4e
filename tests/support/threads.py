"""
Threads for tests of disk work: none at all, or real ones without a reactor.
"""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class InlineThreads(ThreadPool):
    """
    Does the work at once, where it is asked for; every answer is there on return.
    """

    def start(self) -> None:
        """
        Nothing to start.
        """

    def stop(self) -> None:
        """
        Nothing to stop.
        """

    def callInThreadWithCallback(  # noqa: N802
        self,
        on_result: Callable[[bool, Any], object] | None,
        func: Any,
        *args: Any,
        **kw: Any,
    ) -> None:
        """
        Call it now.
        """
        try:
            result, success = func(*args, **kw), True
        except BaseException:  # noqa: BLE001 - it is the answer
            result, success = Failure(), False
        if on_result is not None:
            on_result(success, result)


class InlineReactor:
    """
    Stands for the reactor where there is one thread only.
    """

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        """
        Call it now.
        """
        function(*args, **kwargs)


class QueueReactor:
    """
    Stands for the reactor where threads are real: the test is its thread.
    """

    def __init__(self) -> None:
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        """
        Have it called by :meth:`run_until`.
        """
        self._calls.put(lambda: function(*args, **kwargs))

    def run_until(self, condition: Callable[[], bool], timeout: float = 30.0) -> None:
        """
        Make the calls that threads ask for until *condition* holds.

        :param timeout: seconds without any call after which the test has failed.
        """
        while not condition():
            self._calls.get(timeout=timeout)()

    def wait_for(self, awaitable: Awaitable[T]) -> T:
        """
        What *awaitable* comes to.
        """
        results: list[Any] = []
        _fired(awaitable).addBoth(results.append)
        self.run_until(lambda: bool(results))
        return _unwrap(results[0])


def result_of(awaitable: Awaitable[T]) -> T:
    """
    What an operation that needs no waiting comes to, or the exception it raises.
    """
    results: list[Any] = []
    _fired(awaitable).addBoth(results.append)
    assert results, "has to wait for something"
    return _unwrap(results[0])


def _fired(awaitable: Awaitable[T]) -> Deferred[T]:
    if isinstance(awaitable, Deferred):
        return awaitable
    return Deferred.fromCoroutine(awaitable)  # type: ignore[arg-type]


def _unwrap(result: Any) -> Any:
    if isinstance(result, Failure):
        result.raiseException()
    return result
