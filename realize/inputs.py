"""
Files that a user names for us to read: configuration, keys, lists, receipts.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO


def open_input(path: Path | str) -> BinaryIO:
    """
    Open a file, or a pipe that somebody writes to, for reading.

    :raises OSError: that is not possible; nobody writes to the pipe, which would be
        waited for forever; or it is a directory.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            _find_writer(fd, path)
        os.set_blocking(fd, True)
        return open(fd, "rb")
    except OSError:
        os.close(fd)
        raise


def read_input(path: Path | str, most: int) -> bytes:
    """
    All of a file.

    :param most: bytes that it may have.
    :raises OSError: it cannot be read, see :func:`open_input`, or has more.
    """
    with open_input(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", str(path))
    return data


def _find_writer(fd: int, path: Path | str) -> None:
    """
    :raises OSError: a pipe has neither bytes nor, now or before, a writer.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):
        return
    try:
        # To poll, a pipe that never had a writer is one that has nothing to say.
        early = os.read(fd, 1)
    except BlockingIOError:
        return
    why = "written to too late; try again" if early else "nobody writes to this pipe"
    raise OSError(errno.ENXIO, why, str(path))
