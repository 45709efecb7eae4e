"""
What the command logs of a move: one event for each file, or group of files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field
from txaio.tx import make_logger

from realize.cli.report import Ends, Result
from realize.digest import digest_text
from realize.model import Notice, NoticeKind
from realize.move.observers import IdleObserver
from realize.move.outcome import SUCCESSES, Outcome
from realize.observe.events import (
    FILE_DEFERRED,
    FILE_FAILED,
    FILE_MOVED,
    FILE_STAYS,
    FILES_MOVED,
    MOVE_BEGAN,
    MOVE_ENDED,
)
from realize.observe.journeys import GroupLines, LineBudget, Sums
from realize.paths import printable

#: Notices that deserve a line.
_TOLD: Final[tuple[NoticeKind, ...]] = (
    "unreadable",
    "missing",
    "unremovable",
    "kept",
    "hidden",
    "partial",
)


@define(eq=False)
class MoveLog(IdleObserver):
    """
    Logs what a mover tells.

    :ivar peer: who has the other end, or ``local``.
    :ivar session: the same for all that one run does.
    :ivar clock: monotonic seconds.
    """

    ends: Ends
    peer: str
    session: str
    clock: Callable[[], float] = time.monotonic
    _lines: GroupLines = field(init=False)

    log = make_logger()

    def __attrs_post_init__(self) -> None:
        self._lines = GroupLines(LineBudget(self.clock))

    def began_move(self) -> None:
        """
        Both ends are open.
        """
        MOVE_BEGAN.log(
            self.log,
            source=self.ends.source,
            destination=self.ends.destination,
            session=self.session,
        )

    def ended_move(self, result: Result) -> None:
        """
        The move is over.
        """
        self._log_group(self._lines.rest())
        totals = result.totals
        MOVE_ENDED.log(
            self.log,
            moved=totals.succeeded,
            size=sum(totals.file_bytes[kind] for kind in SUCCESSES),
            seconds=result.seconds,
            failed=totals.failed,
            deferred=totals.deferred,
            source=self.ends.source,
            destination=self.ends.destination,
            exit=int(result.status),
            sent=totals.sent,
            session=self.session,
        )

    # -- called by the mover

    def noticed(self, notice: Notice) -> None:
        """
        Something stays that somebody should look at.
        """
        if notice.kind in _TOLD:
            FILE_STAYS.log(
                self.log,
                path=notice.path or b"the directory itself",
                directory=self.ends.source,
                text=notice.text or "it looks like a partial of realize",
                kind=notice.kind,
                session=self.session,
            )

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        Files have come to their end.
        """
        moved = [outcome for outcome in outcomes if outcome.kind in SUCCESSES]
        if moved:
            each_told, sums = self._lines.take(
                Sums(
                    moved[-1].path,
                    len(moved),
                    sum(outcome.size for outcome in moved),
                    sum(outcome.sent for outcome in moved),
                    sum(outcome.kept for outcome in moved),
                    sum(outcome.reused for outcome in moved),
                )
            )
            self._log_group(sums)
            for outcome in moved if each_told else ():
                self._log_moved(outcome)
        for outcome in outcomes:
            if outcome.kind not in SUCCESSES:
                self._log_trouble(outcome)

    def _log_group(self, sums: Sums | None) -> None:
        if sums is not None:
            FILES_MOVED.log(
                self.log,
                count=sums.count,
                size=sums.size,
                path=sums.path,
                source=self.ends.source,
                destination=self.ends.destination,
                crossed=sums.crossed,
                kept=sums.kept,
                reused=sums.reused,
                session=self.session,
            )

    def _log_moved(self, outcome: Outcome) -> None:
        FILE_MOVED.log(
            self.log,
            path=outcome.path,
            source=self.ends.source,
            destination=self.ends.destination,
            size=outcome.size,
            how=outcome.kind,
            seconds=outcome.seconds,
            blake3=digest_text(outcome.digest),
            crossed=outcome.sent,
            kept=outcome.kept,
            reused=outcome.reused,
            session=self.session,
        )

    def _log_trouble(self, outcome: Outcome) -> None:
        if outcome.kind == "gone":
            return
        event = FILE_DEFERRED if outcome.kind == "deferred" else FILE_FAILED
        event.log(
            self.log,
            path=outcome.path,
            directory=self.ends.of(outcome),
            text=outcome.text.removeprefix(f"{printable(outcome.path)}: "),
            code=outcome.code,
            peer=self.peer,
            session=self.session,
        )
