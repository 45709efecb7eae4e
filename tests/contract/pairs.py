"""
What the contract suite runs over: kinds of stores, each a :class:`Pair`.

A new kind of store takes one class with the methods of :class:`Pair` and one line in
:data:`PAIRS`; every rule in ``tests/contract`` is then tested over it.  For a store
that is reached through a connection that means: both ends of a connection in
``__init__``, a service whose directories are :class:`LocalDirectory` objects, and in
``wait`` whatever makes bytes move until the answer is there (for a real reactor,
``pytest_twisted.blockon``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from realize.config import DirectorySettings
from realize.store.directory import LocalDirectory
from realize.store.interface import Destination, Source
from tests.contract.remote import MemoryPair, TlsPair
from tests.support.threads import QueueReactor

T = TypeVar("T")


class Pair(Protocol):
    """
    A kind of source and destination, and what their answers wait for.

    Stores are on directories of this host, where the tests look at what they did.
    """

    def open_source(self, path: Path) -> Source:
        """
        A source at *path*, which does not wait for files to settle.
        """

    def open_destination(
        self, path: Path, replace: bool = True, **settings: Any
    ) -> Destination:
        """
        A destination at *path*.

        :param settings: of :class:`~realize.config.DirectorySettings`.
        """

    def wait(self, answer: Deferred[T]) -> T:
        """
        What it fires with, or raises.
        """

    def close(self) -> None:
        """
        Close the stores that were opened, and whatever they were reached through.
        """


class ReorderingThreads(ThreadPool):
    """
    Threads that begin and end their work in an order nobody can rely on.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(8, 8)
        self._random = random.Random(seed)  # noqa: S311

    def callInThreadWithCallback(  # noqa: N802
        self,
        onResult: Callable[[bool, Any], object] | None,  # noqa: N803
        func: Callable[..., Any],
        *args: Any,
        **kw: Any,
    ) -> None:
        """
        Call it in a thread, a little before or after its neighbours.
        """
        before, after = self._random.random() / 500, self._random.random() / 500

        def late() -> Any:
            time.sleep(before)
            try:
                return func(*args, **kw)
            finally:
                time.sleep(after)

        super().callInThreadWithCallback(onResult, late)


class LocalPair:
    """
    Both stores on this host, with threads that reorder.
    """

    def __init__(self) -> None:
        self._reactor = QueueReactor()
        self._directories: list[LocalDirectory] = []

    def open_source(self, path: Path) -> Source:
        """
        See :class:`Pair`.
        """
        directory = self._directory(DirectorySettings(path))
        return run(self, directory.open_source(settle_ns=0))

    def open_destination(
        self, path: Path, replace: bool = True, **settings: Any
    ) -> Destination:
        """
        See :class:`Pair`.
        """
        directory = self._directory(DirectorySettings(path, **settings))
        return run(self, directory.open_destination(replace=replace))

    def wait(self, answer: Deferred[T]) -> T:
        """
        See :class:`Pair`.
        """
        return self._reactor.wait_for(answer)

    def close(self) -> None:
        """
        See :class:`Pair`.
        """
        for directory in self._directories:
            run(self, directory.close())

    def _directory(self, settings: DirectorySettings) -> LocalDirectory:
        threads = ReorderingThreads(seed=len(self._directories))
        directory = LocalDirectory(
            settings.path.name,
            settings,
            self._reactor,  # type: ignore[arg-type]
            threads,
        )
        self._directories.append(directory)
        return directory


#: How each kind is made.
PAIRS: dict[str, Callable[[], Pair]] = {
    "local": LocalPair,
    "memory": lambda: MemoryPair(ReorderingThreads),
    "tls": lambda: TlsPair(ReorderingThreads),
}


def run(pair: Pair, asked: Coroutine[Any, Any, T]) -> T:
    """
    Begin an operation and wait for its answer.
    """
    return pair.wait(Deferred.fromCoroutine(asked))


def run_all(pair: Pair, *asked: Coroutine[Any, Any, Any]) -> Sequence[Any]:
    """
    Begin operations in this order, all before the first answer, and wait for all.
    """
    begun = [Deferred.fromCoroutine(each) for each in asked]
    return [pair.wait(each) for each in begun]
