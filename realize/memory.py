"""
How the process handles memory: what it keeps, and how often it looks for garbage.

Payloads of megabytes come and go many times a second.  By default the C library
gives such memory back to the kernel and asks for it again, and the kernel clears each
page anew: up to a fifth of the processor time of a large file.  By default, too, each
thread gets a heap of its own, in which lies idle what others could use: some 15 MiB.

Values that wait in the queues of a move are no garbage.  To look again and again
whether they are takes up to a twentieth of the processor time of small files.  Nor are
modules, classes and functions: to look while they are made, and once more when the
process ends, takes a quarter of what a move of one file takes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cache
from typing import Any, Final

#: Allocations below this many bytes come from memory that is kept; more than the
#: longest payload.
KEPT: Final = 8 * 1024 * 1024

#: Most bytes that are kept though nothing is in them.
SPARE: Final = 32 * 1024 * 1024

#: Python looks for garbage each time so many more objects were made than freed.
OBJECTS: Final = 20_000

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def keep_freed_memory() -> None:
    """
    Have freed memory kept for the next payload; where the C library cannot do that,
    nothing happens.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT)
        mallopt(_M_TRIM_THRESHOLD, SPARE)
        mallopt(_M_ARENA_MAX, 1)


def unwritten(nbytes: int) -> bytearray:
    """
    Memory to be written before it is read: anything may be in it, and pages that are
    fresh from the kernel are not touched.
    """
    return _make_unwritten()(None, nbytes)


@cache
def _make_unwritten() -> Callable[[None, int], bytearray]:
    import ctypes

    make: Any = ctypes.pythonapi.PyByteArray_FromStringAndSize
    make.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
    make.restype = ctypes.py_object
    return make  # type: ignore[no-any-return]


def collect_rarely() -> None:
    """
    Have Python look for garbage among what is made from now on only, and less often.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS, 10, 10)


def collect_no_more() -> None:
    """
    The process is about to end, and its memory with it.
    """
    gc.disable()
    gc.freeze()
