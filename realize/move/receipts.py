"""
The step between *finish* and *remove*: putting down in writing what is safe.

A receipt that cannot be written keeps the source where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from realize.move.tally import Item


class Receipts(Protocol):
    """
    Whoever keeps receipts of a move.
    """

    def begin(self, single_file: bool) -> None:
        """
        Both ends are open.

        :param single_file: whether the source is one file and not a directory.
        """

    async def final(self, items: Sequence[Item]) -> None:
        """
        These are safe at the destination.  Their sources go only after this returned.

        :raises DiskError: that could not be written.
        """

    async def removed(self, items: Sequence[Item]) -> None:
        """
        These are gone from the source.

        :raises DiskError: that could not be written.
        """


class NoReceipts:
    """
    Nobody wants any.
    """

    def begin(self, single_file: bool) -> None:
        """
        Nothing to do.
        """

    async def final(self, items: Sequence[Item]) -> None:
        """
        Nothing to do.
        """

    async def removed(self, items: Sequence[Item]) -> None:
        """
        Nothing to do.
        """


#: For moves without an audit log.
NO_RECEIPTS = NoReceipts()
