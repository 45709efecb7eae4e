"""
Stores whose operations end when a test says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from realize.model import EVERYTHING, Extent, Page, Piece, Place, Range, Subset, Written


class SlowStore:
    """
    A source and a destination; what is asked waits until it is let go.

    :ivar begun: operations in the order in which they were begun, with arguments.
    :ivar cancelled: how many were cancelled while they waited.
    :ivar closed: whether the store was closed.
    :ivar close_waits: what closing waits for, if anything.
    """

    name = "slow"

    def __init__(self) -> None:
        self.begun: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[None]] = []
        self.cancelled = 0
        self.closed = False
        self.close_waits: Deferred[None] | None = None

    async def place(self) -> Place:
        """
        Anywhere.
        """
        return Place(b"root", [])

    async def close(self) -> None:
        """
        Closed once what it waits for has happened.
        """
        if self.close_waits is not None:
            await self.close_waits
        self.closed = True

    def let_go(self, number: int | None = None) -> None:
        """
        End the first so many operations that wait; all of them by default.
        """
        for waiting in self.waiting[:number]:
            waiting.callback(None)
        del self.waiting[:number]

    async def _wait(self, *what: Any) -> None:
        self.begun.append(what)
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        try:
            await waiting
        except CancelledError:
            self.cancelled += 1
            raise

    async def list(
        self, cursor: int, restore: bool = True, subset: Subset = EVERYTHING
    ) -> Page:
        """
        An empty page.
        """
        await self._wait("list", cursor)
        return Page([], [], [], 0, 0)

    async def read(self, ranges: Sequence[Range]) -> tuple[list[Extent], bytes]:
        """
        Zeros.
        """
        await self._wait("read", len(ranges))
        return [Extent(r.length) for r in ranges], bytes(sum(r.length for r in ranges))

    async def write(
        self, pieces: Sequence[Piece], payload: bytes | memoryview
    ) -> list[Written]:
        """
        Nothing is kept but the beginning of each payload.
        """
        await self._wait("write", pieces[0].path, len(payload), bytes(payload[:16]))
        return [Written(piece.offset + piece.length) for piece in pieces]


class QuickStore(SlowStore):
    """
    The same, except that nothing waits.
    """

    async def _wait(self, *what: Any) -> None:
        self.begun.append(what)
