"""
The step between *send* and *remove*: the destination makes files final.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from realize.errors import DigestMismatch, DiskError, NoSuchFile, PeerError
from realize.model import Failure, Finished
from realize.move.line import GROUP, Stage
from realize.move.receipts import Receipts
from realize.move.run import Run
from realize.move.tally import Item

#: Most bytes of files in one batch to be proven.
MAX_PROVEN_BYTES: Final = 256 * 1024 * 1024

#: What a destination says that has other content, or none, under the name.
_NOT_THE_SAME: Final = frozenset({DigestMismatch.code, NoSuchFile.code})


@define(eq=False)
class Finisher:
    """
    Two steps that end with a final file.

    :ivar done: what to do with files that are final, and have their receipts.
    :ivar again: what to do with one that has to be offered once more.
    :ivar written: the step for files whose last byte was written.
    :ivar present: the step for those that the destination seems to have, which are
        proven to be the same without being sent.
    """

    _run: Run
    _receipts: Receipts
    _done: Callable[[Sequence[tuple[Item, Finished]]], None]
    _again: Callable[[Item], None]
    written: Stage = field(init=False)
    present: Stage = field(init=False)

    def __attrs_post_init__(self) -> None:
        line = self._run.line
        self.written = Stage(line, self._finish, lambda: line.error is None, full=GROUP)
        self.present = Stage(
            line, self._prove, self._run.may_go_on, most_bytes=MAX_PROVEN_BYTES
        )

    async def _prove(self, items: list[Item]) -> None:
        proven = await self._run.digest_whole(items)
        if not proven:
            return
        for item, failure in await self._make_final(proven):
            if failure.code in _NOT_THE_SAME:
                # It has other content, or has gone since the offer.
                item.differs = True
                item.digest = b""
                self._again(item)
            else:
                self._run.refuse([(item, failure)], "destination")

    async def _finish(self, items: list[Item]) -> None:
        unknown = [item for item in items if not item.digest]
        if unknown:
            # The source could not keep a running digest over all that was read.
            known = [item for item in items if item.digest]
            items = known + await self._run.digest_whole(unknown)
        if not items:
            return
        refused = []
        for item, failure in await self._make_final(items):
            if failure.code in _NOT_THE_SAME and not item.whole:
                item.whole = True
                item.digest = b""
                self._again(item)
            else:
                refused.append((item, failure))
        self._run.refuse(refused, "destination")

    async def _make_final(self, items: list[Item]) -> list[tuple[Item, Failure]]:
        """
        Let the destination finish files; those that it did are done.

        :returns: the others.
        """
        finishes = [item.finish() for item in items]
        try:
            results = await self._run.destination.finish(finishes)
        except PeerError as error:
            failure = Failure.of(error)
            return [(item, failure) for item in items]
        finished, refused = [], []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Finished):
                finished.append((item, result))
            else:
                refused.append((item, result))
        files = [item for item, _ in finished]
        try:
            if files:
                await self._receipts.final(files)
        except DiskError as error:
            why = DiskError(f"not removed: {error}")
            self._run.refuse_all(files, why, "source")
        else:
            self._done(finished)
        return refused
