"""
What became of the files of a move, and who is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol, get_args

from attrs import define, field, frozen

from realize.conflicts import CHOICES, OnConflict
from realize.model import FAILURES, Attribute, File, Notice, NoticeKind
from realize.move.names import Names
from realize.move.selection import Selection

#: ``moved`` (to a new name), ``replaced`` (an old file gave way), ``present`` (it was
#: there already, with the same content) and ``renamed`` (inside one file system) are
#: successes: the file is safe at the destination and gone from the source.
#: ``deferred``: left for a later run, because it is changing or somebody holds it.
#: ``gone``: somebody removed it before it could be moved.  In a dry run each says
#: what would be.
Kind = Literal["moved", "replaced", "present", "renamed", "deferred", "gone", "failed"]

#: Kinds of outcomes of files that are where they should be.
SUCCESSES: Final[tuple[Kind, ...]] = ("moved", "replaced", "present", "renamed")

#: The end at which something went wrong; empty where nothing did.
Side = Literal["", "source", "destination"]


@frozen
class Outcome:
    """
    What became of one file; the last that is heard of it in this move.

    :ivar size: bytes, as listed.
    :ivar mtime_ns: as listed, nanoseconds since 1970.
    :ivar side: for ``deferred``, ``gone`` and ``failed``: where.
    :ivar code: for the same: :attr:`realize.errors.PeerError.code`.
    :ivar text: for the same: why, in one line.
    :ivar sent: bytes that the destination wrote.
    :ivar kept: bytes that an earlier run had left there and that were kept.
    :ivar seconds: from the offer to the end.
    :ivar digest: BLAKE3 of the content, or empty where nobody read it.
    :ivar reused: bytes that the destination took from the file that it replaces.
    :ivar not_kept: what the file system there did not take over.
    :ivar conflict: what was done about another file of its name; empty if there was
        none.
    :ivar path_there: of the file at the destination, relative to its root; empty if it
        is *path*.
    :ivar older: path there of the file that gave way to it, if that was kept.
    """

    path: bytes
    size: int
    mtime_ns: int
    kind: Kind
    side: Side = ""
    code: str = ""
    text: str = ""
    sent: int = 0
    kept: int = 0
    seconds: float = 0.0
    digest: bytes = b""
    reused: int = 0
    not_kept: Sequence[Attribute] = ()
    conflict: OnConflict | Literal[""] = ""
    path_there: bytes = b""
    older: bytes = b""


def _none_of_each_kind() -> dict[Kind, int]:
    return dict.fromkeys(get_args(Kind), 0)


def _none_of_each_notice() -> dict[NoticeKind, int]:
    return dict.fromkeys(get_args(NoticeKind), 0)


def _none_of_each_attribute() -> dict[Attribute, int]:
    return dict.fromkeys(get_args(Attribute), 0)


def _none_of_each_choice() -> dict[OnConflict, int]:
    return dict.fromkeys(CHOICES, 0)


@define
class Totals:
    """
    The sums over a move, kept up to date while it runs.

    :ivar listed: files found so far that are to be moved.
    :ivar listed_bytes: their sizes, in bytes.
    :ivar complete: whether the listing has come to its end.
    :ivar excluded: files that the user left out.
    :ivar system: files and directories left out because systems keep them for
        themselves.
    :ivar files: outcomes, by kind.
    :ivar file_bytes: sizes of those files, by kind, in bytes.
    :ivar notices: what else was found, by kind.
    :ivar sent: bytes that the destination wrote, whatever became of their files.
    :ivar kept: bytes that needed no sending because a partial had them.
    :ivar reused: bytes that needed no sending because a file that was replaced had
        them.
    :ivar not_kept: files that arrived without an attribute, by attribute.
    :ivar conflicts: files of which another one had the name, by what was done.
    """

    listed: int = 0
    listed_bytes: int = 0
    complete: bool = False
    excluded: int = 0
    system: int = 0
    files: dict[Kind, int] = field(factory=_none_of_each_kind)
    file_bytes: dict[Kind, int] = field(factory=_none_of_each_kind)
    notices: dict[NoticeKind, int] = field(factory=_none_of_each_notice)
    sent: int = 0
    kept: int = 0
    reused: int = 0
    not_kept: dict[Attribute, int] = field(factory=_none_of_each_attribute)
    conflicts: dict[OnConflict, int] = field(factory=_none_of_each_choice)

    @property
    def ended(self) -> int:
        """
        Files that have an outcome.
        """
        return sum(self.files.values())

    @property
    def ended_bytes(self) -> int:
        """
        Sizes of the files that have an outcome, in bytes.
        """
        return sum(self.file_bytes.values())

    @property
    def left(self) -> int:
        """
        Files listed that have no outcome yet; more may not be listed yet.
        """
        return self.listed - self.ended

    @property
    def succeeded(self) -> int:
        """
        Files that are where they should be.
        """
        return sum(self.files[kind] for kind in SUCCESSES)

    @property
    def failed(self) -> int:
        """
        Files that failed, and places that could not be listed, or nothing taken from.
        """
        return self.files["failed"] + sum(self.notices[kind] for kind in FAILURES)

    @property
    def deferred(self) -> int:
        """
        Files left for a later run.
        """
        return self.files["deferred"]


class MoveObserver(Protocol):
    """
    Whoever wants to know how a move goes: progress, logs, metrics.

    Called in batches, from the reactor's thread; must return soon and not raise.
    """

    def listed(self, files: Sequence[File]) -> None:
        """
        Files were found that are to be moved.
        """

    def restarted(self) -> None:
        """
        The walk begins again, after a lost connection: files that have no outcome
        yet will be listed once more.
        """

    def noticed(self, notice: Notice) -> None:
        """
        Something was found that is not moved; once for each.
        """

    def doubted(self, text: str) -> None:
        """
        In a dry run: what is not believed of the file system of an end, and what
        follows, in one line.
        """

    def began(self, path: bytes, size: int, kept: int) -> None:
        """
        A file large enough to be sent in several parts begins.

        :param kept: bytes of it that are there already.
        """

    def advanced(self, nbytes: int, path: bytes) -> None:
        """
        The destination has written bytes.

        :param path: the large file they belong to; empty for a batch of small ones.
        """

    def reused(self, nbytes: int, path: bytes) -> None:
        """
        The destination has taken bytes of a large file from the one it replaces.
        """

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        Files have come to their end.
        """


@frozen(kw_only=True)
class MoveSettings:
    """
    What a user can ask of a move.

    :ivar selection: what of the source is moved; None for everything.
    :ivar names: the only files and directories that are looked for; None for all.
    :ivar recurse: whether a name of a directory means all that is in it.
    :ivar settle: seconds that a file must not have changed for; younger ones, and
        those that will be younger in that time, are deferred.
    :ivar remove_directories: whether source directories that the move empties go.
    :ivar dry_run: say what would be done and change nothing.
    :ivar open_files: most files in the making at the destination at once.
    :ivar look_ahead: most files listed and not yet offered, so that totals are known
        early; a page may exceed it if it is larger.
    """

    selection: Selection | None = None
    names: Names | None = None
    recurse: bool = True
    settle: float = 0.0
    remove_directories: bool = False
    dry_run: bool = False
    open_files: int = 3072
    look_ahead: int = 32_768
