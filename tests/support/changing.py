"""
What may happen to a file while somebody looks at it.
"""

from __future__ import annotations

import os
from pathlib import Path


def append(path: Path) -> None:
    """
    Somebody goes on writing.
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    os.write(fd, b"!")
    os.close(fd)


def overwrite(path: Path) -> None:
    """
    The same length, other bytes, and the old time of modification.
    """
    status = path.stat()
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def truncate(path: Path) -> None:
    """
    Shorter.
    """
    os.truncate(path, 3)


def replace(path: Path) -> None:
    """
    Another file of the same size and time.
    """
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
