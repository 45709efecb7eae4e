"""
The end of the line: files that are safe at the destination leave the source.

A file that was written in this run is removed in one step.  One that was *present*,
with no byte written, could be the very file that is to be removed, seen through two
mounts.  So the source hides it first, and the destination is asked whether it still
has what it answered for; if its file has vanished with the hiding, the source puts
it back and the run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Literal

from attrs import define, field

from realize.errors import (
    DigestMismatch,
    PeerError,
    SameFile,
    SourceChanged,
)
from realize.model import (
    Failure,
    Finished,
    Held,
    Removal,
    RemovalStep,
    Removed,
)
from realize.move.line import GROUP, Stage
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.run import Run
from realize.move.tally import Item
from realize.paths import parent_of, printable

_CHANGED: Final = Failure.of(
    DigestMismatch("the file was changed after it had been compared")
)


@define(eq=False)
class Remover:
    """
    The step that removes.

    :ivar prunes: whether directories go that this leaves empty.
    :ivar pending: files that are safe and not known to be removed, by path; kept by
        the caller beyond a lost connection.
    """

    _run: Run
    _prunes: bool
    pending: dict[bytes, Item]
    _receipts: Receipts = NO_RECEIPTS
    #: Of *pending*, those that are left over from a connection that was lost.
    _left_over: set[bytes] = field(factory=set, init=False)
    _written: Stage = field(init=False)
    _present: Stage = field(init=False)

    def __attrs_post_init__(self) -> None:
        line = self._run.line
        self._written = Stage(line, self._remove, may_begin=lambda: True, full=GROUP)
        self._present = Stage(
            line, self._confirm, may_begin=lambda: line.error is None, full=GROUP
        )

    @property
    def load(self) -> int:
        """
        Files that wait to be removed.
        """
        return self._written.load + self._present.load

    def put(self, items: Sequence[tuple[Item, Finished]]) -> None:
        """
        Queue files that the destination has made final.
        """
        written, present = list[Item](), list[Item]()
        for item, finished in items:
            item.finished = finished
            self.pending[item.file.path] = item
            (present if finished.how == "present" else written).append(item)
        self._written.put(written)
        self._present.put(present)

    def put_again(self) -> None:
        """
        Queue what is pending since a connection was lost, to be answered before
        anything is listed.

        What had been hidden was put back, and looks changed by that: then it is for
        the walk that follows to find it.
        """
        self._left_over = set(self.pending)
        items = list(self.pending.values())
        self.put([(item, item.finished) for item in items if item.finished])

    def begin(self) -> None:
        """
        Begin what can be begun.
        """
        self._written.begin()
        self._present.begin()

    async def prune(self, items: Sequence[Item]) -> None:
        """
        Let directories go that files have left, if that has emptied them.
        """
        parents = {parent_of(item.file.path): None for item in items}
        parents.pop(b"", None)
        if not parents or not self._prunes:
            return
        # The files are where they should be, whatever becomes of the directories.
        with suppress(PeerError):
            await self._run.source.prune(list(parents))

    async def _remove(self, batch: list[Item]) -> None:
        await self._end_with(batch, "now")

    async def _end_with(self, batch: list[Item], step: RemovalStep) -> None:
        """
        Let the last step be done, and count what has gone.
        """
        gone, refused = [], []
        for item, result in zip(batch, await self._ask(batch, step), strict=True):
            if isinstance(result, Removed):
                gone.append(item)
            else:
                refused.append((item, result))
        await self._gone(gone)
        self._give_up(refused, "source")

    async def _confirm(self, batch: list[Item]) -> None:
        hidden, gone = list[Item](), list[Item]()
        refused = []
        for item, result in zip(batch, await self._ask(batch, "hide"), strict=True):
            if isinstance(result, Failure):
                refused.append((item, result))
            else:
                (hidden if result.found else gone).append(item)
        await self._gone(gone)
        self._give_up(refused, "source")
        if hidden:
            await self._end_hiding(hidden)

    async def _end_hiding(self, hidden: list[Item]) -> None:
        """
        Ask the destination for its files once more, and remove or put back.

        If the connection is lost meanwhile, the source puts them back when it is
        closed.  They then look changed: :meth:`put_again`.
        """
        for item in hidden:
            self.pending.pop(item.file.path, None)
        proven, vanished, refused = [], [], []
        for item, held in zip(hidden, await self._look(hidden), strict=True):
            if isinstance(held, Failure):
                refused.append((item, held))
            elif held.present < 0:
                vanished.append(item)
            elif item.finished and held.version == item.finished.version:
                proven.append(item)
            else:
                refused.append((item, _CHANGED))
        if vanished:
            self._run.line.fail(
                SameFile(
                    f"{printable(vanished[0].file.path)}: hiding it at "
                    f"{self._run.source.name} made it vanish at "
                    f"{self._run.destination.name}: they are the same file; it was put "
                    "back"
                )
            )
        put_back = vanished + [item for item, _ in refused]
        if put_back:
            await self._ask(put_back, "restore")
        self._give_up(refused, "destination")
        if proven:
            self.pending.update((item.file.path, item) for item in proven)
            await self._end_with(proven, "unlink")

    async def _look(self, items: list[Item]) -> Sequence[Held | Failure]:
        offers = [item.offer() for item in items]
        try:
            return await self._run.destination.offer(offers, (), reserve=False)
        except PeerError as error:
            return [Failure.of(error)] * len(items)

    async def _ask(
        self, items: list[Item], step: RemovalStep
    ) -> Sequence[Removed | Failure]:
        removals = [
            Removal(item.file.path, item.file.identity, item.digest, step)
            for item in items
        ]
        try:
            return await self._run.source.remove(removals)
        except PeerError as error:
            return [Failure.of(error)] * len(items)

    async def _gone(self, items: list[Item]) -> None:
        for item in items:
            self.pending.pop(item.file.path, None)
            self._left_over.discard(item.file.path)
        if items:
            await self._run.succeed(items, self._receipts.removed(items), "source")
            await self.prune(items)

    def _give_up(
        self,
        refused: list[tuple[Item, Failure]],
        side: Literal["source", "destination"],
    ) -> None:
        listed_again, other = list[Item](), list[tuple[Item, Failure]]()
        for item, failure in refused:
            path = item.file.path
            self.pending.pop(path, None)
            if path in self._left_over and failure.code == SourceChanged.code:
                listed_again.append(item)
            else:
                other.append((item, failure))
            self._left_over.discard(path)
        self._run.tally.listed_again(listed_again)
        self._run.refuse(other, side)
