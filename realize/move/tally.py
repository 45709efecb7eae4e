"""
The one place that outcomes pass: totals, the observer, and what not to try again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Literal

from attrs import define, evolve, field

from realize.conflicts import OnConflict
from realize.errors import AlreadyExists, NoSuchFile, NotSettled, Skipped
from realize.model import (
    Failure,
    File,
    Finish,
    Finished,
    How,
    Notice,
    Offer,
    Prefix,
)
from realize.move.outcome import Kind, MoveObserver, Outcome, Side, Totals
from realize.paths import join, parent_of

_KINDS: Final[dict[How, Kind]] = {
    "written": "moved",
    "replaced": "replaced",
    "present": "present",
    "renamed": "renamed",
}


@define(eq=False)
class Item:
    """
    A file on its way through a move.

    :ivar began: seconds, by the move's clock.
    :ivar offered: whether the destination has taken the offer.
    :ivar partial: bytes of it that the destination has from an earlier run.
    :ivar replaces: whether the destination has a file of this name.
    :ivar conflict: what it does about that, if it is another file.
    :ivar present: its bytes; -1 without one.
    :ivar version: which version of it that is; empty without one.
    :ivar differs: whether that one was read and has other content.
    :ivar compared: whether it was compared, or tried to, to send only what differs.
    :ivar whole: to be sent from its first byte, whatever is there.
    :ivar sent: bytes that the destination wrote.
    :ivar kept: bytes that were kept of the partial.
    :ivar reused: bytes that the destination took from the file of this name.
    :ivar digest: of the content, once known.
    :ivar finished: the destination's answer, once the file is safe there.
    """

    file: File
    began: float
    offered: bool = False
    partial: int = 0
    replaces: bool = False
    conflict: OnConflict | Literal[""] = ""
    present: int = -1
    version: bytes = b""
    differs: bool = False
    compared: bool = False
    whole: bool = False
    sent: int = 0
    kept: int = 0
    reused: int = 0
    digest: bytes = b""
    finished: Finished | None = None

    @property
    def sparse(self) -> bool:
        """
        Whether it may have holes, and its digests are sparse ones.
        """
        return self.file.holes > 0

    @property
    def path_there(self) -> bytes:
        """
        Its path at the destination, once it is final there.
        """
        path = self.file.path
        if self.finished is None or not self.finished.name:
            return path
        return join(parent_of(path), self.finished.name)

    @property
    def version_there(self) -> bytes:
        """
        Which version of it the destination has made final.
        """
        return self.finished.version if self.finished else b""

    def offer(self) -> Offer:
        """
        What the destination is asked at first.
        """
        return Offer(self.file.path, self.file.size, self.file.holes)

    def prefix(self, length: int) -> Prefix:
        """
        What the source is asked for the digests of so many bytes.
        """
        return Prefix(self.file.path, self.file.identity, length, self.sparse)

    def finish(self) -> Finish:
        """
        What the destination is told once the digest is known.
        """
        file = self.file
        return Finish(file.path, file.size, self.digest, file.mode, file.mtime_ns)


class Memory:
    """
    Paths, remembered as eight bytes each.

    Two paths that share a hash are one in 10**19: the second one then waits for the
    next run.
    """

    def __init__(self) -> None:
        self._new = array("q")
        self._sorted = array("q")

    def add(self, path: bytes) -> None:
        """
        Seen by ``in`` after the next :meth:`sort` only.
        """
        self._new.append(hash(path))

    def sort(self) -> None:
        """
        Let ``in`` see everything that was added.
        """
        if self._new:
            self._sorted.extend(self._new)
            self._new = array("q")
            self._sorted = array("q", sorted(self._sorted))

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def __contains__(self, path: bytes) -> bool:
        wanted = hash(path)
        index = bisect_left(self._sorted, wanted)
        return index < len(self._sorted) and self._sorted[index] == wanted


@define(eq=False)
class Tally:
    """
    Counts outcomes and passes them on.

    :ivar totals: the sums so far.
    :ivar refused: files of this move that failed or were deferred, and notices that
        were given.
    :ivar again: whether the walk is not the first.
    """

    _observer: MoveObserver
    totals: Totals = field(factory=Totals)
    refused: Memory = field(factory=Memory)
    again: bool = False

    def listed(self, files: Sequence[File]) -> None:
        """
        Files were found that are to be moved.
        """
        if files:
            self.totals.listed += len(files)
            self.totals.listed_bytes += sum(file.size for file in files)
            self._observer.listed(files)

    def restart(self, waiting: Sequence[Item]) -> None:
        """
        The walk begins anew.

        :param waiting: files that are safe and wait to be removed: no walk lists
            them again.
        """
        totals = self.totals
        self.again = True
        self.refused.sort()
        totals.complete = False
        totals.excluded = totals.system = 0
        totals.listed = totals.ended + len(waiting)
        totals.listed_bytes = totals.ended_bytes + sum(
            item.file.size for item in waiting
        )
        self._observer.restarted()

    def listed_again(self, items: Sequence[Item]) -> None:
        """
        Files that :meth:`restart` was told of are left to the walk after all.
        """
        self.totals.listed -= len(items)
        self.totals.listed_bytes -= sum(item.file.size for item in items)

    def noticed(self, notice: Notice) -> None:
        """
        Count what was found, unless that was done in a walk before.
        """
        key = notice.kind.encode() + b"/" + notice.path
        if key not in self.refused:
            self.refused.add(key)
            self.totals.notices[notice.kind] += 1
            self._observer.noticed(notice)

    def doubted(self, name: str, doubts: Sequence[str]) -> None:
        """
        What is not believed of the file system of an end.

        :param name: what messages call the end.
        """
        for doubt in doubts:
            self._observer.doubted(f"{name}: {doubt}")

    def began(self, item: Item) -> None:
        """
        A large file begins to be sent.
        """
        self._observer.began(item.file.path, item.file.size, item.kept)

    def kept(self, nbytes: int) -> None:
        """
        Bytes of a partial need not be sent.
        """
        self.totals.kept += nbytes

    def advanced(self, nbytes: int, path: bytes = b"") -> None:
        """
        The destination has written bytes.
        """
        self.totals.sent += nbytes
        self._observer.advanced(nbytes, path)

    def reused(self, nbytes: int, path: bytes) -> None:
        """
        The destination has taken bytes from the file that is present.
        """
        self.totals.reused += nbytes
        self._observer.reused(nbytes, path)

    def succeeded(self, items: Sequence[Item], now: float) -> None:
        """
        Files are safe at the destination and gone from the source.
        """
        self._end(
            [
                _outcome(item, _KINDS[item.finished.how], now)
                for item in items
                if item.finished
            ]
        )
        for item in items:
            if item.finished:
                for attribute in item.finished.not_kept:
                    self.totals.not_kept[attribute] += 1

    def foreseen(
        self,
        items: Sequence[Item],
        kind: Kind,
        now: float,
        conflict: OnConflict | Literal[""] = "",
    ) -> None:
        """
        In a dry run: files would come to this end.

        :param conflict: what would be done about others that have their names.
        """
        self._end(
            [evolve(_outcome(item, kind, now), conflict=conflict) for item in items]
        )

    def unsettled(self, files: Sequence[File]) -> None:
        """
        Files are too young to be moved.
        """
        text = "changed too recently"
        self._refuse(
            [
                Outcome(
                    file.path,
                    file.size,
                    file.mtime_ns,
                    "deferred",
                    "source",
                    NotSettled.code,
                    text,
                )
                for file in files
            ]
        )

    def failed(
        self, refusals: Sequence[tuple[Item, Failure]], side: Side, now: float
    ) -> None:
        """
        Files did not make it, each for its reason.
        """
        outcomes = []
        for item, failure in refusals:
            kind: Kind = "failed"
            if failure.error.defers:
                kind = "deferred"
            elif side == "source" and failure.code == NoSuchFile.code:
                kind = "gone"
            outcomes.append(_outcome(item, kind, now, side, failure.code, failure.text))
        self._refuse(outcomes)

    def _refuse(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self.refused.add(outcome.path)
        self._end(outcomes)

    def _end(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        files, file_bytes = self.totals.files, self.totals.file_bytes
        for outcome in outcomes:
            files[outcome.kind] += 1
            file_bytes[outcome.kind] += outcome.size
            if outcome.conflict:
                self.totals.conflicts[outcome.conflict] += 1
        self._observer.ended(outcomes)


def _outcome(
    item: Item,
    kind: Kind,
    now: float,
    side: Side = "",
    code: str = "",
    text: str = "",
) -> Outcome:
    file, finished = item.file, item.finished
    there = item.path_there
    return Outcome(
        file.path,
        file.size,
        file.mtime_ns,
        kind,
        side,
        code,
        text,
        item.sent,
        item.kept,
        now - item.began,
        item.digest,
        item.reused,
        finished.not_kept if finished else (),
        _conflict(kind, code, finished),
        there if there != file.path else b"",
        finished.older if finished else b"",
    )


def _conflict(
    kind: Kind, code: str, finished: Finished | None
) -> OnConflict | Literal[""]:
    """
    What was done about another file of the name, if there was one.
    """
    if code == Skipped.code:
        return "skip"
    if code == AlreadyExists.code:
        return "fail"
    if finished is None:
        return ""
    if finished.older:
        return "backup"
    if finished.gave_way or kind == "replaced":
        return "replace"
    # A file that is there already is in conflict with nobody.
    return "keep-both" if finished.name and kind != "present" else ""
