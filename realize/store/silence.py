"""
Threads that do not get on: for how long they have been inside one call of the kernel.

A disk that is slow has a thread that reads or writes now and then, a long digest one
that computes.  Behind a disk that hangs it does neither, for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field


def progress_of(thread: int) -> tuple[str, ...]:
    """
    What changes while a thread of this process gets on: its processor time, and how
    often it has called the kernel to read or write, and with what.

    :param thread: its number.
    """
    task = Path("/proc/self/task") / str(thread)
    try:
        times = tuple((task / "stat").read_text().rpartition(")")[2].split()[11:13])
    except OSError:
        return ()
    try:
        # Not there in every kernel, nor readable for a process that gave up rights.
        return times + tuple((task / "io").read_text().split())
    except OSError:
        return times


@define
class _Look:
    """
    :ivar since: when it was first seen so, monotonic seconds.
    """

    progress: tuple[str, ...]
    since: float


@define(eq=False)
class Silence:
    """
    The threads of one directory that are at work.

    :ivar _progress: as :func:`progress_of`.
    :ivar _now: monotonic seconds.
    """

    _progress: Callable[[int], tuple[str, ...]] = progress_of
    _now: Callable[[], float] = time.monotonic
    _working: dict[int, object] = field(factory=dict)
    _seen: dict[object, _Look] = field(factory=dict)

    @contextmanager
    def working(self) -> Iterator[None]:
        """
        In a thread: while the block runs, it is at work; blocks may be nested.
        """
        thread = threading.get_native_id()
        before = self._working.get(thread)
        self._working[thread] = object()
        try:
            yield
        finally:
            if before is None:
                del self._working[thread]
            else:
                self._working[thread] = before

    def seconds(self) -> float:
        """
        For how long one of them has not got on, 0 if all do: as far as is known from
        the times this was called before.
        """
        now = self._now()
        seen = {}
        for thread, work in list(self._working.items()):
            progress = self._progress(thread)
            before = self._seen.get(work)
            if before is None or before.progress != progress:
                before = _Look(progress, now)
            seen[work] = before
        self._seen = seen
        return max((now - each.since for each in seen.values()), default=0.0)
