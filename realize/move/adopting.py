"""
Moves inside one file system: a rename does it all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define

from realize.errors import (
    NoSuchFile,
    NotSettled,
    OtherFileSystem,
    PeerError,
    SourceChanged,
    StillOpen,
)
from realize.model import Directory, Failure, Finished
from realize.move.outcome import Side
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.run import Run
from realize.move.tally import Item

#: What a destination that adopts says of the source.
_SOURCE_CODES: Final = frozenset(
    kind.code for kind in (SourceChanged, StillOpen, NotSettled, NoSuchFile)
)


@define(eq=False)
class Adopter:
    """
    Lets the destination take files over, if it can.

    :ivar again: what to do with a file that has to be copied after all.
    :ivar prune: lets directories go that this has emptied, if they are to.
    """

    _run: Run
    _receipts: Receipts
    _again: Callable[[Item], None]
    _prune: Callable[[list[Item]], Awaitable[None]]
    #: None until the destination has said whether it can.
    _can: bool | None = None

    @property
    def decided(self) -> bool:
        """
        Whether the destination has said if it can.
        """
        return self._can is not None

    @property
    def may_help(self) -> bool:
        """
        Whether asking may be of use: not where these stores cannot rename.
        """
        return self._can is not False

    async def adopt(
        self, items: list[Item], directories: list[Directory]
    ) -> list[Item]:
        """
        Try to move files by renaming them.

        :returns: those that are to be offered: all, if these stores cannot rename.
        """
        run = self._run
        if self._receipts is not NO_RECEIPTS:
            if await run.destination.adopt(run.source, [], directories) is None:
                self._can = False
                return items
            # A rename reads nothing, and a receipt wants the digest.
            items = await run.digest_whole(items)
        files = [item.file for item in items]
        try:
            results = await run.destination.adopt(run.source, files, directories)
        except PeerError as error:
            self._can = True
            run.refuse_all(items, error, "destination")
            return []
        self._can = results is not None
        if results is None:
            return items
        adopted = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Finished):
                item.finished = result
                adopted.append(item)
            elif result.code == OtherFileSystem.code:
                self._again(item)
            else:
                run.refuse([(item, result)], _side_of(result))
        if adopted:
            await run.succeed(adopted, self._receipts_of(adopted), "destination")
            await self._prune(adopted)
        return []

    async def _receipts_of(self, adopted: list[Item]) -> None:
        """
        With a rename a file is final and gone in one: both receipts come after it.
        """
        await self._receipts.final(adopted)
        await self._receipts.removed(adopted)


def _side_of(failure: Failure) -> Side:
    """
    The end at which adopting failed: there, one store speaks for both.
    """
    if failure.code in _SOURCE_CODES:
        return "source"
    return "destination"
