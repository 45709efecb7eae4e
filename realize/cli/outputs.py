"""
Where a move's events go: ``--output quiet``, ``log`` and ``json``, and what all have
in common.

``progress`` is in :mod:`realize.cli.progress`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from attrs import define, field
from txaio.tx import make_logger

from realize import __version__
from realize.cli.complaints import Complaints
from realize.cli.exits import Exit
from realize.cli.report import (
    Ends,
    Result,
    notice_parts,
    reason,
    summary,
    would_line,
)
from realize.cli.terminal import Stream
from realize.digest import digest_text
from realize.model import FAILURES, Notice
from realize.move.observers import IdleObserver
from realize.move.outcome import Kind, MoveObserver, Outcome
from realize.observe.events import MOVE_NOTE
from realize.paths import printable
from realize.texts import json_text, printable_line

#: Changes when a reader of ``--output json`` has to.
JSON_VERSION: Final = 1

#: What a move ends with that says nothing with ``--output quiet``.
WELL: Final = (Exit.MOVED, Exit.DEFERRED)

#: Lines that it holds back at most.
MAX_HELD: Final = 100

_TROUBLES: Final[tuple[Kind, ...]] = ("failed", "deferred")


class Output(MoveObserver, Protocol):
    """
    A way to tell how a move goes, from its beginning to its end.
    """

    def started(self, ends: Ends) -> None:
        """
        The move begins.
        """

    def say(self, text: str) -> None:
        """
        Something the user has to know at once, in one line.
        """

    def stopping(self, text: str) -> None:
        """
        The move is to end before its time, in one line.
        """

    def retrying(self, text: str) -> None:
        """
        A connection was lost, or is there again.
        """

    def above(self, line: str) -> None:
        """
        Write a line to standard error, above what is drawn there.

        :param line: printable, but for colours.
        """

    def finished(self, result: Result) -> None:
        """
        The move is over.
        """


@define
class StreamOutput(IdleObserver):
    """
    What all have in common: results go to standard output, words to standard error.
    """

    out: Stream
    err: Stream
    dry_run: bool = False
    ends: Ends = field(init=False)

    def started(self, ends: Ends) -> None:
        """
        Remember what to call the two ends.
        """
        self.ends = ends

    def say(self, text: str) -> None:
        """
        A line on standard error.
        """
        self.above(printable_line(f"realize: {text}"))

    def stopping(self, text: str) -> None:
        """
        The same.
        """
        self.say(text)

    def above(self, line: str) -> None:
        """
        Nothing is drawn here.
        """
        self.err.styled(line)


@define
class ComplainingOutput(StreamOutput):
    """
    What those for people have in common: lines about files that were not moved.
    """

    _complaints: Complaints = field(factory=lambda: Complaints(told=1))

    def noticed(self, notice: Notice) -> None:
        """
        A line about what could not be read, or was put back under another name.
        """
        if notice.kind in (*FAILURES, "kept", "hidden", "partial"):
            self._complain(*notice_parts(notice))

    def doubted(self, text: str) -> None:
        """
        A line about what is not believed of an end.
        """
        self.say(text)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        A line for each file that was not moved; in a dry run, for each file.
        """
        for outcome in outcomes:
            if self.dry_run:
                self.out.line(would_line(outcome, self.ends))
            elif outcome.kind in _TROUBLES:
                name = printable(outcome.path)
                self._complain(outcome.kind, name, reason(outcome, self.ends))

    def complain_of_rest(self) -> None:
        """
        Lines for all that was not told when it came.
        """
        for line in self._complaints.take():
            self.say(line)

    def _complain(self, kind: str, name: str, why: str) -> None:
        if self._complaints.add(kind, name, why):
            self.say(f"{kind}: {name}{f': {why}' if why else ''}")


@define
class QuietOutput(ComplainingOutput):
    """
    Says nothing at all of a move that ends with one of :data:`WELL`.

    Nobody can know before, so all is said on standard error in the end, or when the
    move is told to end.
    """

    _complaints: Complaints = field(factory=Complaints)
    _held: list[str] | None = field(factory=list)

    def say(self, text: str) -> None:
        """
        Later, if it is to be said.
        """
        if self._held is None:
            super().say(text)
        elif len(self._held) < MAX_HELD and text not in self._held:
            self._held.append(text)

    def stopping(self, text: str) -> None:
        """
        Now, after all that was held back.
        """
        self._release()
        self.say(text)

    def retrying(self, text: str) -> None:
        """
        Nothing: if it comes to a bad end, that will be said.
        """

    def finished(self, result: Result) -> None:
        """
        All that was held back and the summary, if not all is well.
        """
        if result.status in WELL:
            self._held = None
            return
        self._release()
        self.complain_of_rest()
        for line in summary(result):
            self.err.line(line)

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for text in held:
            self.say(text)


@define
class LoggedOutput(ComplainingOutput):
    """
    What there is to say is in the log: see :class:`realize.cli.move_log.MoveLog`.

    The list of a dry run is printed all the same.
    """

    log = make_logger()

    def say(self, text: str) -> None:
        """
        An event.
        """
        MOVE_NOTE.log(self.log, text=text)

    def retrying(self, text: str) -> None:
        """
        Nothing to say.
        """

    def noticed(self, notice: Notice) -> None:
        """
        Nothing to say.
        """

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        A line for each file, in a dry run.
        """
        if self.dry_run:
            super().ended(outcomes)

    def finished(self, result: Result) -> None:
        """
        Nothing to say.
        """


@define
class JsonOutput(StreamOutput):
    """
    One JSON object a line on standard output: each file, each notice, the summary.

    ``docs/json.md`` describes them.
    """

    def retrying(self, text: str) -> None:
        """
        A line on standard error.
        """
        self.say(text)

    def noticed(self, notice: Notice) -> None:
        """
        A ``notice`` object.
        """
        self._write(
            {
                "event": "notice",
                "path": printable(notice.path),
                "kind": notice.kind,
                "text": notice.text,
            }
        )

    def doubted(self, text: str) -> None:
        """
        A ``doubt`` object.
        """
        self._write({"event": "doubt", "text": text})

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        A ``file`` object for each.
        """
        for outcome in outcomes:
            self._write(
                {
                    "event": "file",
                    "path": printable(outcome.path),
                    "outcome": outcome.kind,
                    "size": outcome.size,
                    "mtime_ns": outcome.mtime_ns,
                    "sent": outcome.sent,
                    "kept": outcome.kept,
                    "reused": outcome.reused,
                    "not_kept": list(outcome.not_kept),
                    "seconds": round(outcome.seconds, 6),
                    "blake3": digest_text(outcome.digest) or None,
                    "conflict": outcome.conflict or None,
                    "path_there": _name(outcome.path_there),
                    "older": _name(outcome.older),
                    "end": self.ends.of(outcome) if outcome.side else None,
                    "code": outcome.code or None,
                    "text": outcome.text or None,
                }
            )

    def finished(self, result: Result) -> None:
        """
        The ``summary`` object.
        """
        totals = result.totals
        self._write(
            {
                "event": "summary",
                "version": JSON_VERSION,
                "realize": __version__,
                "source": result.ends.source,
                "destination": result.ends.destination,
                "dry_run": result.dry_run,
                "exit": int(result.status),
                "error": result.error or None,
                "seconds": round(result.seconds, 3),
                "listed": totals.listed,
                "listed_bytes": totals.listed_bytes,
                "listing_complete": totals.complete,
                "files": totals.files,
                "file_bytes": totals.file_bytes,
                "notices": totals.notices,
                "excluded": totals.excluded,
                "system": totals.system,
                "left": totals.left,
                "sent": totals.sent,
                "kept": totals.kept,
                "reused": totals.reused,
                "not_kept": totals.not_kept,
                "conflicts": totals.conflicts,
                "compressed": result.compressed[0],
                "compressed_to": result.compressed[1],
                "reconnects": result.reconnects,
            }
        )

    def _write(self, values: dict[str, Any]) -> None:
        self.out.line(json_text(values))


def _name(path: bytes) -> str | None:
    return printable(path) if path else None
