"""
What tests of files on a disk need to say: who looks, when, and what is there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realize.store.identity import identity_of

#: A user who owns nothing.
NOBODY = 65534


def in_a_minute() -> int:
    """
    A clock for which no file of a test has changed just now.
    """
    return time.time_ns() + 60 * 1_000_000_000


@contextmanager
def as_nobody() -> Iterator[None]:
    """
    Be a user who owns nothing and may nothing, in all threads.
    """
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def identity_at(path: Path) -> bytes:
    """
    The identity of the file that is there.
    """
    return identity_of(path.lstat())


def names_below(path: Path) -> set[str]:
    """
    All there is below a directory, hidden or not.
    """
    return {str(each.relative_to(path)) for each in path.rglob("*")}


def descriptors() -> int:
    """
    How many this process has.
    """
    return len(os.listdir("/proc/self/fd"))
