"""
A dry run: what would become of each file, found out without changing anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from attrs import define, field

from realize.conflicts import CHOICES, Conflicts, OnConflict
from realize.errors import DigestMismatch, PeerError
from realize.model import Directory, Failure, Held
from realize.move.line import Stage
from realize.move.listing import Lister
from realize.move.outcome import Kind, MoveSettings
from realize.move.run import Run
from realize.move.tally import Item

#: Most files between being asked about and the answer.
MAX_ACTIVE: Final = 8192

#: Most bytes of files in one batch to be compared.
MAX_COMPARED_BYTES: Final = 256 * 1024 * 1024


@define(eq=False)
class Rehearsal:
    """
    The line of a dry run: list, ask the destination, check at the source.

    A file that the destination has with the same size is read at both ends.
    """

    _run: Run
    _settings: MoveSettings
    _asking: int = 0
    _lister: Lister = field(init=False)
    _check: Stage = field(init=False)
    _compare: Stage = field(init=False)

    def __attrs_post_init__(self) -> None:
        run, line, may = self._run, self._run.line, self._run.may_go_on
        self._lister = Lister(run, self._settings, may)
        self._check = Stage(line, self._check_batch, may)
        self._compare = Stage(
            line, self._compare_batch, may, most_bytes=MAX_COMPARED_BYTES
        )
        line.steps = (self._compare, self._check, self, self._lister)

    @property
    def load(self) -> int:
        """
        Files that the destination is being asked about.
        """
        return self._asking

    def begin(self) -> None:
        """
        Ask the destination about what was listed.
        """
        for large in (False, True):
            while (
                self._lister.has(large)
                and self._asking + self._check.load + self._compare.load < MAX_ACTIVE
                and self._run.may_go_on()
            ):
                self._run.line.start(self._ask(*self._lister.take(large)))

    async def _ask(self, items: list[Item], directories: list[Directory]) -> None:
        offers = [item.offer() for item in items]
        self._asking += len(items)
        try:
            results = await self._run.destination.offer(
                offers, directories, reserve=False
            )
        except PeerError as error:
            results = [Failure.of(error)] * len(items)
        finally:
            self._asking -= len(items)
        for item, held in zip(items, results, strict=True):
            if not isinstance(held, Held):
                self._run.refuse([(item, held)], "destination")
                continue
            item.conflict = held.conflict or ("replace" if held.present >= 0 else "")
            equal = held.present == item.file.size
            (self._compare if equal else self._check).put([item])

    async def _check_batch(self, items: list[Item]) -> None:
        ready = await self._run.takeable(items)
        now = self._run.clock.seconds()
        self._foresee(ready, now)

    def _foresee(self, items: Sequence[Item], now: float) -> None:
        """
        Files would be moved, if nothing is to be done about others of their names.
        """
        choices: list[OnConflict | Literal[""]] = ["", *CHOICES]
        for choice in choices:
            those = [item for item in items if item.conflict == choice]
            if choice in ("skip", "fail"):
                wanted = Conflicts(choice)
                refused = [
                    (item, Failure.of(wanted.error(item.file.path))) for item in those
                ]
                self._run.refuse(refused, "destination")
            elif those:
                kind: Kind = "replaced" if choice in ("replace", "backup") else "moved"
                self._run.tally.foreseen(those, kind, now, choice)

    async def _compare_batch(self, items: list[Item]) -> None:
        ready = await self._run.digest_whole(items)
        if not ready:
            return
        finishes = [item.finish() for item in ready]
        results: Sequence[Held | Failure]
        try:
            results = await self._run.destination.compare(finishes)
        except PeerError as error:
            results = [Failure.of(error)] * len(ready)
        equal, other = [], []
        for item, result in zip(ready, results, strict=True):
            if isinstance(result, Held):
                equal.append(item)
            elif result.code == DigestMismatch.code:
                other.append(item)
            else:
                self._run.refuse([(item, result)], "destination")
        now = self._run.clock.seconds()
        self._run.tally.foreseen(equal, "present", now)
        self._foresee(other, now)
