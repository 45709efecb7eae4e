"""
Making many files durable with one call.

An ``fsync`` of each of a thousand small files is a thousand times the same question to
the disk: is everything written that you were given?  ``syncfs`` writes what there is
for a whole file system, asks once, and reports what ``fsync`` would have:

- An error of writing back any data is kept with the file system as well as with the
  file, and is reported by the first ``syncfs`` on each descriptor that was open when
  it happened (since Linux 5.8).  So the descriptor has to be the one of the group
  that was opened first, and no two groups may share one.
- A journal that could not be written, or a file system that has shut itself down, is
  an error at once.

Which file an error was about it does not say: then each is asked for itself.

This is only done where it is known to be right and cheap: on file systems that write
everything that was changed, names and sizes too, when asked in this way, and while
there is little else to be written, since all of it is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from realize.store.filesystem import FileSystem
from realize.store.syscalls import sync_file_system

#: Fewer files are better synchronised one by one.
WORTHWHILE: Final = 32

#: Most KiB that may wait to be written, on this host, by anybody; and how many more for
#: each file of the group, which a disk writes in about the time of one ``fsync``.
LITTLE: Final = 64 * 1024
LITTLE_MORE: Final = 256

_ENDLESS: Final = 2**63

_MEMORY: Final = Path("/proc/meminfo")
_WAITING: Final = ("Dirty", "Writeback")


def kib_waiting() -> int:
    """
    KiB that wait on this host to be written to disks, or are being written.

    More than any disk could write soon, if that cannot be found out.
    """
    try:
        lines = dict(
            line.split(":", 1) for line in _MEMORY.read_text("ascii").splitlines()
        )
        return sum(int(lines[name].removesuffix("kB")) for name in _WAITING)
    except (OSError, ValueError, KeyError):
        return _ENDLESS


def sync_together(
    fd: int, files: int, waiting: Callable[[], int] = kib_waiting
) -> bool:
    """
    Make everything durable in the file system of an open file, if that is cheap.

    On a file system without a journal, sizes and places of files may then still be in
    the disk's own cache: an ``fsync`` of any file empties it.

    :param fd: opened before any of the data in question was written.
    :param files: how many there are in the group.
    :param waiting: :func:`kib_waiting`, or in a test the same.
    :returns: False if nothing was done.
    :raises OSError: something was not written, of which files is not known.
    """
    most = LITTLE + LITTLE_MORE * files
    if not FileSystem.known_at(fd).syncs_together or waiting() > most:
        return False
    sync_file_system(fd)
    return True
