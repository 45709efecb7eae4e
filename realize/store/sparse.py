"""
Holes: parts of a file that were never written, take no room, and read as zeros.

Where they are, the file system says (``SEEK_HOLE``).  A file that takes as much room
as it has bytes is not asked: :func:`holes_of`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define

from realize.digest import BLOCK, Hasher
from realize.model import HOLES_WORTH_TELLING, MAX_AHEAD, MAX_RUNS

#: Bytes read at a time.
_PART: Final = 1024 * 1024

#: Compares with any buffer as fast as memory can be read; ``bytes`` would not.
_ZEROS: Final = bytearray(BLOCK)


def allocated(status: os.stat_result) -> int:
    """
    Bytes that a file takes on its disk.
    """
    return status.st_blocks * 512


def holes_of(status: os.stat_result) -> int:
    """
    As :attr:`realize.model.File.holes`.
    """
    holes = status.st_size - allocated(status)
    return holes if holes >= HOLES_WORTH_TELLING else 0


@define(eq=False)
class HoleMap:
    """
    Where the holes of an open file are.

    The last answer of the file system is kept: some take long to find the end of a
    long run, and a file is asked about piece by piece.

    :ivar fd: descriptor; its position is moved.
    :ivar size: bytes in the file.
    """

    fd: int
    size: int
    _start: int = 0
    _end: int = 0
    _is_hole: bool = False

    @classmethod
    def of(cls, fd: int) -> HoleMap | None:
        """
        None if the file has no holes, as far as its status tells.
        """
        status = os.fstat(fd)
        if allocated(status) >= status.st_size:
            return None
        return cls(fd, status.st_size)

    def run(self, at: int) -> tuple[int, bool]:
        """
        Where the run ends that has the byte at *at*, and whether it is a hole.

        :param at: bytes from the start of the file, less than its size.
        """
        if not self._start <= at < self._end:
            self._ask(at)
        return self._end, self._is_hole

    def runs(self, start: int, end: int) -> list[int]:
        """
        As :attr:`realize.model.Extent.runs`, for the bytes from *start* to *end*.

        Empty, too, if there are too many runs to tell.
        """
        runs = self._runs(start, end, MAX_RUNS + 1)
        return runs if 1 < len(runs) <= MAX_RUNS else []

    def _runs(self, start: int, end: int, most: int) -> list[int]:
        """
        The first runs from *start* on.
        """
        runs: list[int] = []
        while start < end and len(runs) <= most:
            stop, is_hole = self.run(start)
            stop = min(stop, end)
            if is_hole != bool(len(runs) % 2):
                runs.append(0)
            runs.append(stop - start)
            start = stop
        return runs[:most]

    def hole(self, at: int) -> int:
        """
        Bytes of the hole at *at*; 0 if there is data.
        """
        if at >= self.size:
            return 0
        end, is_hole = self.run(at)
        return end - at if is_hole else 0

    def ahead(self, at: int) -> list[int]:
        """
        As :attr:`realize.model.Extent.ahead`, for what comes at *at*.
        """
        return self._runs(at, self.size, MAX_AHEAD) if self.hole(at) else []

    def _ask(self, at: int) -> None:
        try:
            data = os.lseek(self.fd, at, os.SEEK_DATA)
        except OSError as error:
            # There is no more data; or the file system cannot tell, and all is data.
            data = self.size if error.errno == errno.ENXIO else at
        end = data
        if data <= at:
            try:
                end = os.lseek(self.fd, at, os.SEEK_HOLE)
            except OSError:
                end = self.size
        # Cut off meanwhile, it may end before it begins; reading it finds that out.
        self._start, self._end = at, max(at + 1, min(end, self.size))
        self._is_hole = data > at


def read_runs(fd: int, offset: int, runs: Sequence[int]) -> bytes:
    """
    The data at *offset*, without the holes; less if the file has become shorter.
    """
    parts = []
    for index, length in enumerate(runs):
        if index % 2 == 0:
            parts.append(read_at(fd, length, offset))
        offset += length
    return b"".join(parts)


def read_at(fd: int, length: int, offset: int) -> bytes:
    """
    *length* bytes, or less at the end of the file.
    """
    data = os.pread(fd, length, offset)
    if len(data) == length:
        return data
    parts = [data]
    while data and (missing := length - sum(map(len, parts))):
        data = os.pread(fd, missing, offset + length - missing)
        parts.append(data)
    return b"".join(parts)


def cut_holes(runs: Sequence[int], content: bytes | memoryview) -> bytes | None:
    """
    What is left of *content* without its holes; None if there is more than zeros in
    them, whatever the file system said.
    """
    view = memoryview(content)
    parts, at = [], 0
    for index, length in enumerate(runs):
        part = view[at : at + length]
        if index % 2 == 0:
            parts.append(part)
        elif not is_zero(part):
            return None
        at += length
    return b"".join(parts)


def zero_runs(data: memoryview, offset: int) -> list[int]:
    """
    The runs of *data* if its blocks of zeros were holes; empty if it has none.

    :param offset: where it begins in its file: only whole blocks can be holes.
    """
    runs = [0]
    at = 0
    while at < len(data):
        stop = min(len(data), at + BLOCK - (offset + at) % BLOCK)
        is_hole = stop - at == BLOCK and data[at:stop] == _ZEROS
        if is_hole != (len(runs) % 2 == 0):
            runs.append(0)
        runs[-1] += stop - at
        at = stop
    return runs if len(runs) > 1 else []


def is_zero(data: memoryview) -> bool:
    """
    Whether there are only zeros.
    """
    return all(
        _ZEROS[: len(data) - at] == data[at : at + BLOCK]
        for at in range(0, len(data), BLOCK)
    )


def digest_runs(hasher: Hasher, runs: Sequence[int], data: bytes) -> None:
    """
    Show *hasher* data and holes.

    :param data: without the holes.
    """
    view = memoryview(data)
    for index, length in enumerate(runs):
        if index % 2:
            hasher.zeros(length)
        else:
            hasher.update(view[:length])
            view = view[length:]


def digest_file(
    hasher: Hasher,
    fd: int,
    start: int,
    end: int,
    pause: Callable[[], object] = lambda: None,
) -> None:
    """
    Show *hasher* the bytes of a file from *start* to *end*, or to where it ends.

    Holes are not read.

    :param pause: called every few milliseconds; what it raises ends this.
    """
    holes = HoleMap.of(fd)
    if holes is not None:
        end = min(end, holes.size)
    view = memoryview(bytearray(max(0, min(_PART, end - start))))
    while start < end:
        pause()
        stop = end
        if holes is not None:
            stop, is_hole = holes.run(start)
            stop = min(stop, end)
            if is_hole:
                hasher.zeros(stop - start, pause)
                start = stop
                continue
        count = os.preadv(fd, [view[: stop - start]], start)
        if count == 0:
            return
        hasher.update(view[:count])
        start += count
