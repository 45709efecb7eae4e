"""
Whether another process has pages of a file mapped into its memory.

Who writes through a mapping makes no call that shows it, and the times of the file
stand still until the page is written back, on tmpfs for ever.  But every page that
somebody has touched is in the tables of his process, and the kernel tells any user of a
page of his own mapping whether it is in those of others too (``proc(5)``, *pagemap*,
bit 56).

A page that is mapped and was never touched does not show.  The first write to it
changes the times of the file.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from pathlib import Path
from typing import Final

from realize.store.syscalls import any_resident, mapped

#: Bytes looked at in one go.
_WINDOW: Final = 4 * 1024 * 1024

_PAGEMAP: Final = "/proc/self/pagemap"
_ENTRY: Final = struct.Struct("<Q")

#: Of an entry: the page is there, it is one of a file, and nobody else has it.
_PRESENT: Final = 1 << 63
_FILE: Final = 1 << 61
_EXCLUSIVE: Final = 1 << 56

#: Settings of the kernel, in hundredths of a second, and their usual values in seconds:
#: how old a page is that is written back, and how often it is looked for such.
_WRITEBACK: Final = {"dirty_expire_centisecs": 30, "dirty_writeback_centisecs": 5}

#: Seconds that writing may take, and that the writer may pause.
_SLACK: Final = 5.0

#: What a file answers that nobody can map.
_NEVER_MAPPED: Final = frozenset({errno.ENODEV, errno.EINVAL})


def writeback_ns(settings: Path = Path("/proc/sys/vm")) -> int:
    """
    Nanoseconds after which the next write through a mapping shows in the times of a
    file, where its pages are written back at all: those that were written to longer ago
    are clean.
    """
    seconds = _SLACK
    for name, usual in _WRITEBACK.items():
        try:
            seconds += int((settings / name).read_bytes()) / 100
        except (OSError, ValueError):
            seconds += usual
    return round(seconds * 1e9)


def mapped_elsewhere(fd: int, size: int) -> bool | None:
    """
    Whether another process, or another mapping of ours, has any page of a file.

    Pages that are not in memory nobody has; where that cannot be known, because the
    file is neither ours nor may be written to by us, they are read.

    :param size: bytes of the file.
    :returns: None if that is not to be found out.
    """
    try:
        tables = os.open(_PAGEMAP, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return any(
            _mapped_in(tables, fd, start, min(_WINDOW, size - start))
            for start in range(0, size, _WINDOW)
        )
    except OSError as error:
        return False if error.errno in _NEVER_MAPPED else None
    finally:
        os.close(tables)


def _mapped_in(tables: int, fd: int, start: int, length: int) -> bool:
    with mapped(fd, start, length, populate=False) as address:
        if not any_resident(address, length):
            return False
    with mapped(fd, start, length, populate=True) as address:
        count = -(-length // mmap.PAGESIZE)
        first = address // mmap.PAGESIZE
        entries = os.pread(tables, count * _ENTRY.size, first * _ENTRY.size)
    return any(
        entry & _PRESENT and entry & _FILE and not entry & _EXCLUSIVE
        for (entry,) in _ENTRY.iter_unpack(entries)
    )
