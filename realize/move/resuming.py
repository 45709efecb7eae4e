"""
Partials of earlier runs: how much of them may stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field

from realize.errors import InternalError, PeerError
from realize.model import Digests, Failure, Piece, Prefix, Written
from realize.move.line import Line, Stage
from realize.move.tally import Item, Refuse, Tally
from realize.store.interface import Destination, Source

#: Most bytes of files in one batch of more than one.
MAX_BYTES: Final = 64 * 1024 * 1024

_TOO_MUCH: Final = Failure(
    InternalError.code, "kept more of the partial than was asked for"
)


@define(eq=False)
class Resumer:
    """
    The step that compares partials.

    The source digests as much of each file as the partial holds, in steps; the
    destination keeps the partial up to the last step that agrees.

    :ivar may_begin: whether it may begin in the state the line is in.
    :ivar go_on: what to do with a file that lacks bytes after :attr:`Item.kept`.
    :ivar complete: what to do with one of which everything was kept.
    """

    _line: Line
    _source: Source
    _destination: Destination
    _tally: Tally
    _refuse: Refuse
    _may_begin: Callable[[], bool]
    _go_on: Callable[[Item], None]
    _complete: Callable[[Item], None]
    _stage: Stage = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._stage = Stage(
            self._line, self._compare, self._may_begin, most_bytes=MAX_BYTES
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
        known = await self._digest(items)
        if not known:
            return
        pieces = [
            Piece(item.file.path, length, 0, steps) for item, length, steps in known
        ]
        try:
            results = await self._destination.write(pieces, b"")
        except PeerError as error:
            failure = Failure.of(error)
            self._refuse([(item, failure) for item, _, _ in known], "destination")
            return
        refused = []
        for (item, length, steps), result in zip(known, results, strict=True):
            if isinstance(result, Failure):
                refused.append((item, result))
            elif result.size > length:
                refused.append((item, _TOO_MUCH))
            else:
                self._keep(item, result, steps[-1])
        self._refuse(refused, "destination")

    async def _digest(self, items: list[Item]) -> list[tuple[Item, int, list[bytes]]]:
        """
        :returns: for each file that could be read, the bytes compared and their
            digests.
        """
        prefixes = [
            Prefix(file.path, file.identity, min(item.partial, file.size))
            for item, file in ((item, item.file) for item in items)
        ]
        try:
            results = await self._source.digest(prefixes)
        except PeerError as error:
            failure = Failure.of(error)
            self._refuse([(item, failure) for item in items], "source")
            return []
        known, refused = [], []
        for item, prefix, result in zip(items, prefixes, results, strict=True):
            if isinstance(result, Digests):
                known.append((item, prefix.length, result.steps))
            else:
                refused.append((item, result))
        self._refuse(refused, "source")
        return known

    def _keep(self, item: Item, written: Written, digest: bytes) -> None:
        item.kept = written.size
        self._tally.kept(written.size)
        if written.size < item.file.size:
            self._go_on(item)
        else:
            item.digest = digest
            self._complete(item)
