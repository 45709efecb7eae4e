"""
How the process keeps memory that it is going to need again.

Payloads of megabytes come and go many times a second.  By default the C library
gives such memory back to the kernel and asks for it again, and the kernel clears each
page anew: up to a fifth of the processor time of a large file.
"""

from __future__ import annotations

import ctypes
from typing import Final

#: Allocations below this many bytes come from memory that is kept; more than the
#: longest payload.
KEPT: Final = 8 * 1024 * 1024

#: Most bytes that are kept though nothing is in them.
SPARE: Final = 32 * 1024 * 1024

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> None:
    """
    Have freed memory kept for the next payload; where the C library cannot do that,
    nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT)
        mallopt(_M_TRIM_THRESHOLD, SPARE)
