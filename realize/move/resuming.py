"""
Partials of earlier runs: how much of them may stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field

from realize.errors import InternalError, PeerError
from realize.model import Failure, Piece, Written
from realize.move.line import Stage
from realize.move.run import Run
from realize.move.tally import Item

#: Most bytes of files in one batch of more than one.
MAX_BYTES: Final = 64 * 1024 * 1024

_TOO_MUCH: Final = Failure.of(
    InternalError("kept more of the partial than was asked for")
)


@define(eq=False)
class Resumer:
    """
    The step that compares partials.

    The source digests as much of each file as the partial holds, in steps; the
    destination keeps the partial up to the last step that agrees.

    :ivar go_on: what to do with a file that lacks bytes after :attr:`Item.kept`.
    :ivar complete: what to do with one of which everything was kept.
    """

    _run: Run
    _go_on: Callable[[Item], None]
    _complete: Callable[[Item], None]
    _stage: Stage = field(init=False)

    def __attrs_post_init__(self) -> None:
        run = self._run
        self._stage = Stage(
            run.line, self._compare, run.may_go_on, most_bytes=MAX_BYTES
        )

    @property
    def load(self) -> int:
        """
        Files that wait here or are being compared.
        """
        return self._stage.load

    def put(self, items: Iterable[Item]) -> None:
        """
        Queue files of which there is a partial.
        """
        self._stage.put(items)

    def begin(self) -> None:
        """
        Begin what can be begun.
        """
        self._stage.begin()

    async def _compare(self, items: list[Item]) -> None:
        known = await self._run.digests(
            items, [item.prefix(_kept_at_most(item)) for item in items]
        )
        if not known:
            return
        pieces = [
            Piece(item.file.path, _kept_at_most(item), 0, digests.steps)
            for item, digests in known
        ]
        try:
            results = await self._run.destination.write(pieces, b"")
        except PeerError as error:
            self._run.refuse_all([item for item, _ in known], error, "destination")
            return
        refused = []
        for (item, digests), result in zip(known, results, strict=True):
            if isinstance(result, Failure):
                refused.append((item, result))
            elif result.size > _kept_at_most(item):
                refused.append((item, _TOO_MUCH))
            else:
                self._keep(item, result, digests.steps[-1])
        self._run.refuse(refused, "destination")

    def _keep(self, item: Item, written: Written, digest: bytes) -> None:
        item.kept = written.size
        self._run.tally.kept(written.size)
        if written.size < item.file.size:
            self._go_on(item)
        else:
            item.digest = digest
            self._complete(item)


def _kept_at_most(item: Item) -> int:
    return min(item.partial, item.file.size)
