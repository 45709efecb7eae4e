"""
What one request may name, and what it may cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from realize.errors import BadRequest, OverShare
from realize.model import MAX_BATCH, Failure
from realize.paths import printable

#: Most bytes that are digested for one request on several files.  Whoever asks for more
#: has to ask again.
MAX_DIGESTED: Final = 256 * 1024 * 1024


def affordable(sizes: Iterable[int]) -> list[bool]:
    """
    Which of the files of one request are digested: one, however large, or as many as
    have :data:`MAX_DIGESTED` bytes.
    """
    total, allowed = 0, []
    for size in sizes:
        fits = not size or not total or total + size <= MAX_DIGESTED
        allowed.append(fits)
        total += size if fits else 0
    return allowed


def too_much(path: bytes) -> Failure:
    """
    What to answer for a file that is not :func:`affordable`.
    """
    text = f"{printable(path)}: more was asked for than is digested for one request"
    return Failure.of(OverShare(text))


def check_paths(paths: Sequence[bytes]) -> list[bytes]:
    """
    The files that a request names, each of them once.

    :raises BadRequest: it names one twice, or more than a batch may have.
    """
    if len(paths) > MAX_BATCH:
        raise BadRequest(f"a batch of {len(paths)} items")
    if len(set(paths)) < len(paths):
        raise BadRequest("a batch that names a file twice")
    return list(paths)
