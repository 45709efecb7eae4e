"""
How far a move is, how fast it goes, and when it will be done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from realize.model import File
from realize.move.outcome import Outcome

#: What one file costs besides its bytes, in bytes: a thousand empty files are work.
FILE_WORK: Final = 8 * 1024

#: Seconds that the rate is an average of.
WINDOW: Final = 20.0


@define
class Large:
    """
    A file that is being sent in several parts.

    :ivar done: bytes that are there.
    """

    path: bytes
    size: int
    done: int


@define
class Pace:
    """
    Counts what it is told; remembers nothing about files that have ended.

    :ivar listed: files found.
    :ivar listed_bytes: their sizes.
    :ivar ended: files that have come to their end, well or not.
    :ivar ended_bytes: their sizes.
    :ivar written: bytes that the destination wrote.
    :ivar large: files being sent in parts, in the order in which they began.
    """

    listed: int = 0
    listed_bytes: int = 0
    ended: int = 0
    ended_bytes: int = 0
    written: int = 0
    large: dict[bytes, Large] = field(factory=dict)
    _samples: deque[tuple[float, int, int]] = field(factory=deque)

    def add_listed(self, files: Sequence[File]) -> None:
        """
        Files were found.
        """
        self.listed += len(files)
        self.listed_bytes += sum(file.size for file in files)

    def restart(self) -> None:
        """
        What has not ended will be listed once more.
        """
        self.listed = self.ended
        self.listed_bytes = self.ended_bytes
        self.large.clear()

    def begin(self, path: bytes, size: int, kept: int) -> None:
        """
        A large file begins.
        """
        self.large[path] = Large(path, size, kept)

    def advance(self, nbytes: int, path: bytes) -> None:
        """
        Bytes were written.
        """
        self.written += nbytes
        if path in self.large:
            self.large[path].done += nbytes

    def reuse(self, nbytes: int, path: bytes) -> None:
        """
        Bytes of a large file were there already.
        """
        if path in self.large:
            self.large[path].done += nbytes

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """
        Files have come to their end.
        """
        for outcome in outcomes:
            self.ended += 1
            self.ended_bytes += outcome.size
            self.large.pop(outcome.path, None)

    @property
    def done_bytes(self) -> int:
        """
        Bytes of ended files and of the beginnings of large ones.
        """
        return self.ended_bytes + sum(file.done for file in self.large.values())

    @property
    def work(self) -> int:
        """
        All the work that is known of, in bytes.
        """
        return self.listed_bytes + FILE_WORK * self.listed

    @property
    def work_done(self) -> int:
        """
        How much of that is done.
        """
        return self.done_bytes + FILE_WORK * self.ended

    def sample(self, now: float) -> None:
        """
        Take note of where things are; rates are reckoned between samples.

        :param now: monotonic seconds.
        """
        self._samples.append((now, self.written, self.work_done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """
        Bytes per second written lately.
        """
        return self._slope(1)

    @property
    def seconds_left(self) -> float | None:
        """
        Until what is known of is done; None if nobody can tell.
        """
        slope = self._slope(2)
        return max(0, self.work - self.work_done) / slope if slope > 0 else None

    def _slope(self, column: int) -> float:
        if len(self._samples) < 2:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        seconds = last[0] - first[0]
        return (last[column] - first[column]) / seconds if seconds > 0 else 0.0
