"""
Standard output and standard error, which may be closed, broken or full.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from typing import Final, TextIO

#: What ``TERM`` says of a terminal that cannot move its cursor.
UNABLE_TERMINALS: Final = frozenset({"", "dumb", "unknown"})


#: Clears the line, and shows the cursor again.
CURSOR: Final = b"\r\x1b[K\x1b[?25h"


class Stream:
    """
    Somewhere to write lines to; never the reason for a move to end.

    Once a write failed (the reader of a pipe is gone, the disk is full), the rest is
    dropped.

    :ivar broken: a write failed.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.broken = False

    @property
    def is_terminal(self) -> bool:
        """
        Whether a person is looking at it, or at least could.
        """
        return self._file.isatty()

    @property
    def file(self) -> TextIO:
        """
        The file itself, for what draws on a terminal.
        """
        return self._file

    def line(self, text: str) -> None:
        """
        Write one printable line, at once.
        """
        from realize.texts import printable_line

        self.styled(printable_line(text))

    def styled(self, text: str) -> None:
        """
        The same for lines that are printable already, and may have colours.
        """
        if self.broken:
            return
        try:
            self._file.write(f"{text}\n")
            self._file.flush()
        except OSError:
            self.broken = True
            # What is still in the buffer would fail again when Python exits.
            _point_at_null(self._file.fileno())


def last_words(text: str) -> None:
    """
    Say why the process ends at this moment, from wherever: the cursor may be hidden,
    and in a line that is drawn already, and nobody may read standard error.
    """
    writable = select.poll()
    writable.register(2, select.POLLOUT)
    if writable.poll(0):
        with suppress(OSError):
            os.write(2, CURSOR * can_clear() + f"realize: {text}\n".encode())


def can_clear() -> bool:
    """
    Whether standard error is a terminal that can clear a line.
    """
    return os.isatty(2) and os.environ.get("TERM", "") not in UNABLE_TERMINALS


def _point_at_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)


def occupy_standard_streams() -> None:
    """
    Open on nothing what of descriptors 0, 1 and 2 was closed.

    Otherwise the next file or socket would become "standard output".  Names that
    are not UTF-8 must not be a reason to fail either.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _point_at_null(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
