"""
What a move says to people: a line for what went wrong, and the summary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from realize.cli.exits import Exit
from realize.conflicts import CHOICES
from realize.model import Attribute, Notice, NoticeKind
from realize.move.outcome import Kind, Outcome, Totals
from realize.paths import printable
from realize.units import format_duration, format_rate, format_size

#: What to do about an outcome, by :attr:`realize.errors.PeerError.code`.
_ADVICE: Final = {
    "ALREADY_EXISTS": "choose with --on-conflict: replace, keep-both, backup or skip",
    "BUSY": "run again later",
    "DIGEST_MISMATCH": "run again; if that does not help, check disk and memory",
    "DIRECTORY_GONE": "see whether its disk is mounted",
    "DISK": "mend that and run again",
    "INTERNAL": "the log of that side says more",
    "NAME_REFUSED": "rename it at the source",
    "NAME_TAKEN": "rename one of the two",
    "NAME_TOO_LONG": "give it a shorter name",
    "NOT_ALLOWED": "allow it in the configuration of that side",
    "NOT_SETTLED": "run again later",
    "NO_SPACE": "make room there and run again",
    "OVER_SHARE": "run again later",
    "SAME_FILE": "give two places",
    "SKIPPED": "choose otherwise with --on-conflict, or rename one of the two",
    "SOURCE_CHANGED": "run again later",
    "STILL_OPEN": "run again later",
    "SYNC_FAILED": "check the disk there; the source is untouched",
    "UNSAFE_PATH": "rename it",
}

_NOTICES: Final[dict[NoticeKind, tuple[str, str]]] = {
    "symlink": ("symbolic link", "symbolic links"),
    "special": ("special file", "special files"),
    "partial": (
        "file that looks like an unfinished one",
        "files that look like unfinished ones",
    ),
    "unreadable": ("unreadable place", "unreadable places"),
    "missing": ("missing file", "missing files"),
    "unremovable": (
        "directory from which nothing can be removed",
        "directories from which nothing can be removed",
    ),
    "kept": ("file put back under another name", "files put back under other names"),
    "set-id": (
        "file without its set-id or sticky bit",
        "files without their set-id or sticky bits",
    ),
    "hidden": ("file that a crash left hidden", "files that a crash left hidden"),
}

#: Notices of files that are moved.
_OF_FILES: Final[tuple[NoticeKind, ...]] = ("kept", "set-id")

#: What was done about two files of one name, in the order of :data:`CHOICES`.
_CONFLICTS: Final = (
    "replaced an older file",
    "got a number, beside another file of the name",
    "put an older file aside",
    "skipped, another file has the name",
    "not moved, another file has the name",
)

_WOULD: Final[dict[Kind, str]] = {
    "moved": "move",
    "replaced": "replace",
    "present": "already there",
    "renamed": "rename",
    "deferred": "defer",
    "gone": "gone",
    "failed": "refuse",
}


@frozen
class Ends:
    """
    What messages call the two ends of a move.
    """

    source: str
    destination: str

    def of(self, outcome: Outcome) -> str:
        """
        The end at which an outcome was decided.
        """
        return self.destination if outcome.side == "destination" else self.source


@frozen(kw_only=True)
class Result:
    """
    How a move ended.

    :ivar seconds: how long it took.
    :ivar error: what ended it before its time; empty if nothing did.
    :ivar reconnects: how often a connection was lost, or could not be made again.
    :ivar compressed: bytes of content that crossed compressed, and what they were
        compressed to.
    """

    ends: Ends
    totals: Totals
    status: Exit
    seconds: float
    dry_run: bool = False
    error: str = ""
    reconnects: int = 0
    compressed: tuple[int, int] = (0, 0)


def count(number: int, one: str, many: str = "") -> str:
    """
    A number with its noun.

    >>> count(1, "file"), count(12345, "file")
    ('1 file', '12,345 files')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def trouble(outcome: Outcome, ends: Ends) -> str:
    """
    One line about a file that was not moved: which, where, why, what to do.
    """
    return f"{outcome.kind}: {printable(outcome.path)}: {reason(outcome, ends)}"


def reason(outcome: Outcome, ends: Ends) -> str:
    """
    Where a file was not moved, why, what to do.
    """
    name = printable(outcome.path)
    why = outcome.text.removeprefix(f"{name}: ") or "no reason given"
    advice = _ADVICE.get(outcome.code)
    line = f"{ends.of(outcome)}: {why}"
    return f"{line}; {advice}" if advice else line


def notice_line(notice: Notice) -> str:
    """
    One line about something that was found.
    """
    kind, name, why = notice_parts(notice)
    return f"{kind}: {name}{f': {why}' if why else ''}"


def notice_parts(notice: Notice) -> tuple[str, str, str]:
    """
    What was found, its name, and why that is told, which may be empty.
    """
    name = printable(notice.path) or "the directory itself"
    one, _ = _NOTICES[notice.kind]
    return one, name, notice.text.removeprefix(f"{name}: ")


def would_line(outcome: Outcome, ends: Ends) -> str:
    """
    One line of a dry run: what would become of a file, and why.
    """
    verb = _WOULD[outcome.kind]
    line = f"{verb:<13}  {format_size(outcome.size):>10}  {printable(outcome.path)}"
    if not outcome.text:
        return line
    why = outcome.text.removeprefix(f"{printable(outcome.path)}: ")
    return f"{line}  ({ends.of(outcome)}: {why})"


def summary(result: Result) -> Iterator[str]:
    """
    The lines that end a move; none if it never began.
    """
    totals = result.totals
    if result.error and not totals.listed:
        return
    yield _first(result)
    if why := ", ".join(_how(result)):
        yield f"  {why}"
    unmoved = [
        f"{totals.deferred:,} deferred" if totals.deferred else "",
        f"{totals.files['failed']:,} failed" if totals.files["failed"] else "",
        f"{totals.files['gone']:,} gone meanwhile" if totals.files["gone"] else "",
        f"{totals.left:,} left" if totals.left and not result.dry_run else "",
    ]
    if any(unmoved):
        more = "" if totals.complete else " (not everything had been listed)"
        yield f"  Not moved: {', '.join(filter(None, unmoved))}{more}."
    others, besides = list[str](), list[str]()
    for kind, number in totals.notices.items():
        if number:
            found = besides if kind in _OF_FILES else others
            found.append(count(number, *_NOTICES[kind]))
    if totals.excluded:
        others.append(f"{totals.excluded:,} excluded")
    if totals.system:
        others.append(
            f"{totals.system:,} in lost+found, snapshots or trash "
            "(--system-directories moves them too)"
        )
    if others:
        yield f"  Stays at the source: {', '.join(others)}."
    if besides:
        yield f"  Among the files: {', '.join(besides)}."
    if lacks := ", ".join(_not_kept(totals)):
        yield f"  Not kept, since the file system there does not take them: {lacks}."
    if advice := _what_next(result):
        yield f"  {advice}"


def _first(result: Result) -> str:
    totals = result.totals
    way = f"from {result.ends.source} to {result.ends.destination}"
    if totals.complete and not totals.listed:
        return f"Nothing to move {way}."
    nbytes = sum(
        size
        for kind, size in totals.file_bytes.items()
        if kind in ("moved", "replaced", "present", "renamed")
    )
    verb = "Would move" if result.dry_run else "Moved"
    amount = f"{count(totals.succeeded, 'file')}, {format_size(nbytes)}"
    if result.dry_run:
        return f"{verb} {amount}, {way}."
    rate = ""
    if totals.sent and result.seconds >= 0.1:
        rate = f" ({format_rate(round(totals.sent / result.seconds))})"
    return f"{verb} {amount}, {way} in {format_duration(result.seconds)}{rate}."


def _how(result: Result) -> Iterator[str]:
    totals = result.totals
    files = totals.files
    met = totals.conflicts
    if replaced := max(files["replaced"] - met["backup"], met["replace"]):
        yield f"{replaced:,} replaced an older file"
    told = dict(zip(CHOICES, _CONFLICTS, strict=True))
    for choice, number in met.items():
        if number and choice != "replace":
            yield f"{number:,} {told[choice]} (--on-conflict {choice})"
    if files["present"]:
        yield f"{files['present']:,} {_were(files['present'])} there already"
    if files["renamed"]:
        yield f"{files['renamed']:,} only had to be renamed"
    if totals.kept:
        yield f"{format_size(totals.kept)} kept from an earlier run"
    if totals.reused:
        yield f"{format_size(totals.reused)} taken from the files that were replaced"
    content, crossed = result.compressed
    if content:
        yield f"{format_size(content)} compressed to {format_size(crossed)} on the way"


def _not_kept(totals: Totals) -> Iterator[str]:
    names: dict[Attribute, str] = {"permissions": "permissions", "time": "times"}
    for attribute, number in totals.not_kept.items():
        if number:
            yield f"{names[attribute]} of {count(number, 'file')}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _what_next(result: Result) -> str:
    if result.dry_run:
        return "Nothing was changed."
    match result.status:
        case Exit.INTERRUPTED:
            return "Interrupted. Run the same command again to continue."
        case Exit.TIME_UP:
            return (
                "Out of time (--max-duration). Run the same command again to continue."
            )
        case Exit.UNREACHABLE | Exit.FAILED if result.error:
            return "Stopped early. Run the same command again to continue."
        case Exit.FAILED:
            return "Run the same command again once what failed is mended."
        case Exit.DEFERRED:
            return "Run the same command again later for what was deferred."
    return ""
