"""
When files began to move and how many of their bytes did, for one line at the end; and
how many lines there may be.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

#: Most files whose beginning is remembered; the one that is oldest is forgotten.
MAX_FILES: Final = 16_384

#: Groups of more files than this get one line for all.
LINES_PER_GROUP: Final = 8

#: Most lines about files at once, and per second from then on.
LINES_AT_ONCE: Final = 100
LINES_PER_SECOND: Final = 50


@define(eq=False)
class Journeys:
    """
    Of the files of one store; may be used from several threads.

    :ivar clock: monotonic seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _begun: OrderedDict[bytes, tuple[float, int]] = field(
        init=False, factory=OrderedDict
    )
    _lock: threading.Lock = field(init=False, factory=threading.Lock)

    def add(self, path: bytes, nbytes: int) -> None:
        """
        More bytes of a file were read or written.
        """
        with self._lock:
            began, before = self._begun.get(path) or (self.clock(), 0)
            self._begun[path] = began, before + nbytes
            if len(self._begun) > MAX_FILES:
                self._begun.popitem(last=False)

    def end(self, path: bytes) -> tuple[float, int]:
        """
        It is over: seconds since it began, and bytes; zeros if it is not remembered.
        """
        with self._lock:
            began, nbytes = self._begun.pop(path, (None, 0))
            return (0.0 if began is None else self.clock() - began), nbytes


@define(eq=False)
class LineBudget:
    """
    How many lines may be about files: the journal drops what is more than 10,000 in
    30 seconds.

    :ivar clock: monotonic seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False, default=LINES_AT_ONCE)
    _since: float = field(init=False)
    _lock: threading.Lock = field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        self._since = self.clock()

    def take(self, lines: int) -> bool:
        """
        Whether so many may be written now; if so, they are counted.
        """
        with self._lock:
            now = self.clock()
            earned = (now - self._since) * LINES_PER_SECOND
            self._left = min(LINES_AT_ONCE, self._left + earned)
            self._since = now
            if self._left < lines:
                return False
            self._left -= lines
            return True


@frozen
class Sums:
    """
    Files that share a line.

    :ivar path: of the last.
    :ivar size: bytes.
    :ivar crossed: bytes of them that were sent.
    :ivar kept: bytes of them that had been there already.
    :ivar reused: bytes of them that files which were replaced had.
    """

    path: bytes
    count: int
    size: int
    crossed: int = 0
    kept: int = 0
    reused: int = 0

    def __add__(self, later: Sums) -> Sums:
        return Sums(
            later.path,
            self.count + later.count,
            self.size + later.size,
            self.crossed + later.crossed,
            self.kept + later.kept,
            self.reused + later.reused,
        )


@define(eq=False)
class GroupLines:
    """
    Decides whether the files of a group get a line each, or share one, with others
    before them if there were too many lines.  May be used from several threads.
    """

    _budget: LineBudget
    _held: Sums | None = None
    _lock: threading.Lock = field(init=False, factory=threading.Lock)

    def take(self, group: Sums) -> tuple[bool, Sums | None]:
        """
        :returns: whether each file of the group gets a line; and what is to be told
            in one line before these, if anything.
        """
        with self._lock:
            held = self._held
            if group.count <= LINES_PER_GROUP and self._budget.take(group.count):
                self._held = None
                return True, held
            held = group if held is None else held + group
            told = self._budget.take(1)
            self._held = None if told else held
            return False, held if told else None

    def rest(self) -> Sums | None:
        """
        It is over: what is still to be told in one line, if anything.
        """
        with self._lock:
            held, self._held = self._held, None
            return held


@define(eq=False)
class Unsaid:
    """
    Lines that were left out.  May be used from several threads.
    """

    _number: int = 0
    _lock: threading.Lock = field(init=False, factory=threading.Lock)

    def count(self) -> None:
        """
        One more.
        """
        with self._lock:
            self._number += 1

    def take(self) -> int:
        """
        How many since the last time.
        """
        with self._lock:
            number, self._number = self._number, 0
            return number
