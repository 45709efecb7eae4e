"""
What a file has beside its content: permission bits and time of modification.

A file system that does not take them over is no reason to leave a file where it is: it
arrives without, and that is told.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from realize.model import Attribute
from realize.store.filesystem import COARSE_NS, FileSystem
from realize.store.syscalls import UNSUPPORTED

#: What is answered by file systems that have no such attributes, or only some values
#: of them, or let others set them only.
_REFUSED: Final = UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EOVERFLOW}


def attempt(call: Callable[[], None]) -> None:
    """
    Set an attribute, if the file system takes it.

    :raises OSError: for another reason.
    """
    try:
        call()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def set_mode(fd: int, mode: int) -> None:
    """
    Set permissions, as far as the file system takes them; but let the owner read what
    we could not read again otherwise: before its source is removed, or after a crash.

    :raises OSError: for another reason.
    """
    if not mode & stat.S_IRUSR and (os.geteuid() or FileSystem.known_at(fd).cached):
        mode |= stat.S_IRUSR
    attempt(lambda: os.fchmod(fd, mode))


def not_kept(status: os.stat_result, mode: int, mtime_ns: int) -> list[Attribute]:
    """
    What of this a file does not have.  Times count as kept where they were rounded.
    """
    lacks: list[Attribute] = []
    if stat.S_IMODE(status.st_mode) != mode:
        lacks.append("permissions")
    if abs(status.st_mtime_ns - mtime_ns) >= COARSE_NS:
        lacks.append("time")
    return lacks
