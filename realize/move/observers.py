"""
Several observers of one move, and one that hears nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, frozen

from realize.model import File, Notice
from realize.move.outcome import MoveObserver, Outcome


@define(eq=False)
class IdleObserver:
    """
    Does nothing about what it hears; for those who want to know a part of it.
    """

    def listed(self, files: Sequence[File]) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """

    def restarted(self) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """

    def noticed(self, notice: Notice) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """

    def doubted(self, text: str) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """

    def began(self, path: bytes, size: int, kept: int) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """

    def advanced(self, nbytes: int, path: bytes) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """

    def reused(self, nbytes: int, path: bytes) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """


@frozen
class Observers:
    """
    Passes on all that is heard, to each in turn.
    """

    each: Sequence[MoveObserver]

    def listed(self, files: Sequence[File]) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.listed(files)

    def restarted(self) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.restarted()

    def noticed(self, notice: Notice) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.noticed(notice)

    def doubted(self, text: str) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.doubted(text)

    def began(self, path: bytes, size: int, kept: int) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.began(path, size, kept)

    def advanced(self, nbytes: int, path: bytes) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.advanced(nbytes, path)

    def reused(self, nbytes: int, path: bytes) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.reused(nbytes, path)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        See :class:`~realize.move.outcome.MoveObserver`.
        """
        for observer in self.each:
            observer.ended(outcomes)
