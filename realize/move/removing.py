"""
The end of the line: files that are safe at the destination leave the source.

In three steps, each for a whole batch: the source *hides* its files, the destination is
asked to *confirm* that it has its own, and the source *unlinks* what was confirmed and
*restores* the rest.

The order is what makes it safe.  Whoever else moves the same files, in whatever
direction and by whatever way, hides those that he is about to remove before he asks for
ours.  Of two who would each remove their file because the other one's is there, the
second to ask finds it hidden.  That needs no lock that all of them see, and no clock: a
removal may be late by a day, after a lost connection or in a laptop that slept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from attrs import define, field

from realize.errors import Busy, NoSuchFile, PeerError, SameFile, SourceChanged
from realize.model import (
    Claim,
    Confirmed,
    Failure,
    Finished,
    Removal,
    RemovalStep,
    Removed,
)
from realize.move.line import GROUP, Stage
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.run import Run
from realize.move.tally import Item
from realize.paths import parent_of, printable


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
    _stage: Stage = field(init=False)

    def __attrs_post_init__(self) -> None:
        # What is safe is removed even when the run cannot go on, but for one reason.
        line = self._run.line
        self._stage = Stage(
            line,
            self._remove,
            may_begin=lambda: not isinstance(line.error, SameFile),
            full=GROUP,
        )

    @property
    def load(self) -> int:
        """
        Files that wait to be removed.
        """
        return self._stage.load

    def put(self, items: Sequence[tuple[Item, Finished]]) -> None:
        """
        Queue files that the destination has made final.
        """
        for item, finished in items:
            item.finished = finished
            self.pending[item.file.path] = item
        self._stage.put(item for item, _ in items)

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
        self._stage.begin()

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
        hidden, gone = list[tuple[Item, bytes]](), list[Item]()
        refused = []
        for item, result in zip(batch, await self._ask(batch, "hide"), strict=True):
            if isinstance(result, Failure):
                refused.append((item, result))
            elif result.found:
                hidden.append((item, result.mark))
            else:
                gone.append(item)
        await self._gone(gone)
        self._give_up(refused, "source")
        if hidden:
            await self._end(hidden)

    async def _end(self, hidden: list[tuple[Item, bytes]]) -> None:
        """
        Ask the destination for its files, and unlink or put back ours.

        If the connection is lost meanwhile, the source puts them back when it is
        closed.  They then look changed: :meth:`put_again`.
        """
        for item, _ in hidden:
            self.pending.pop(item.file.path, None)
        confirmed, back, refused = list[Item](), list[Item](), []
        same = None
        answers = await self._confirm(hidden)
        for (item, _), answer in zip(hidden, answers, strict=True):
            if isinstance(answer, Confirmed):
                confirmed.append(item)
                continue
            back.append(item)
            if answer.code == SameFile.code:
                same = item
            else:
                refused.append((item, self._why(item, answer)))
        if same is not None:
            self._run.line.fail(
                SameFile(
                    f"{printable(same.file.path)}: hidden at {self._run.source.name},"
                    f" it is hidden at {self._run.destination.name} too: they are the"
                    " same place; it was put back"
                )
            )
            # None of them is known to be two.
            back += confirmed
            confirmed = []
        if back:
            await self._ask(back, "restore")
        self._give_up(refused, "destination")
        if confirmed:
            self.pending.update((item.file.path, item) for item in confirmed)
            await self._unlink(confirmed)

    def _why(self, item: Item, answer: Failure) -> Failure:
        """
        What to say of a file that the destination has not confirmed.
        """
        if answer.code != NoSuchFile.code:
            return answer
        # Moved on by somebody, perhaps to where we have it from.
        return Failure.of(
            Busy(
                f"{printable(item.file.path)}: is not at"
                f" {self._run.destination.name} any more; it was put back"
            )
        )

    async def _unlink(self, items: list[Item]) -> None:
        gone, refused = list[Item](), []
        for item, result in zip(items, await self._ask(items, "unlink"), strict=True):
            if isinstance(result, Removed):
                gone.append(item)
            else:
                refused.append((item, result))
        await self._gone(gone)
        self._give_up(refused, "source")

    async def _confirm(
        self, hidden: list[tuple[Item, bytes]]
    ) -> Sequence[Confirmed | Failure]:
        claims = [
            Claim(
                item.path_there, item.version_there, item.file.size, item.digest, mark
            )
            for item, mark in hidden
        ]
        try:
            return await self._run.destination.confirm(claims)
        except PeerError as error:
            return [Failure.of(error)] * len(hidden)

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
