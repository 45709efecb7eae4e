"""
How often somebody may be wrong about what a file holds.

Whoever may put files may ask whether a present one has a digest, which a move needs to
know; and so may try what it could hold, one guess after the other.  What was guessed
wrongly is counted for each version of a file, and after so many a further question is
answered as if it were wrong, without a look at the file: a mover then sends the file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from realize.errors import DigestMismatch

#: Wrong guesses about one version of a file.
MAX_WRONG: Final = 64

#: Versions of which wrong guesses are counted, for one peer and directory.
MAX_VERSIONS: Final = 16_384

#: Seconds after which they are forgotten, at the earliest; at twice as many they are.
MEMORY: Final = 1800.0


class Guesses:
    """
    The wrong guesses of one peer about the files of one directory.  Called from any
    thread.

    :param seconds: a clock that never steps.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._since = seconds()
        self._wrong: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def check(self, version: bytes) -> None:
        """
        Whether one more guess is looked at.

        :param version: of the file, as in :attr:`~realize.model.Held.version`.
        :raises DigestMismatch: it is not.
        """
        key = hash(version)
        with self._lock:
            self._forget()
            wrong = self._wrong.get(key, 0) + self._before.get(key, 0)
            full = not wrong and len(self._wrong) + len(self._before) >= MAX_VERSIONS
        if full or wrong >= MAX_WRONG:
            raise DigestMismatch("asked about too often with other digests; not read")

    def wrong(self, version: bytes) -> None:
        """
        A guess was wrong, or cannot be told from one.
        """
        key = hash(version)
        with self._lock:
            self._wrong[key] = self._wrong.get(key, 0) + 1

    def _forget(self) -> None:
        now = self._seconds()
        if now - self._since >= MEMORY:
            stale = now - self._since >= 2 * MEMORY
            self._before = {} if stale else self._wrong
            self._wrong = {}
            self._since = now


class Unlimited(Guesses):
    """
    For those who can read the files anyway.
    """

    def check(self, version: bytes) -> None:
        """
        It is.
        """

    def wrong(self, version: bytes) -> None:
        """
        Not counted.
        """
