"""
What people read at the end, and when something goes wrong.
"""

from __future__ import annotations

from typing import Any

import pytest

from realize.cli.exits import Exit
from realize.cli.report import (
    Ends,
    Result,
    notice_line,
    summary,
    trouble,
    would_line,
)
from realize.errors import peer_errors
from realize.model import Notice
from realize.move.outcome import Outcome, Totals

ENDS = Ends("/photos", "nas:inbox")


def result(totals: Totals, status: Exit = Exit.MOVED, **more: Any) -> str:
    """
    A summary as it is printed.
    """
    return "\n".join(
        summary(
            Result(ends=ENDS, totals=totals, status=status, **({"seconds": 2.0} | more))
        )
    )


def totals(complete: bool = True, **kinds: int) -> Totals:
    """
    Sums of a move of one-megabyte files.
    """
    made = Totals(complete=complete)
    for kind, number in kinds.items():
        if kind in made.files:
            made.files[kind] = number
            made.file_bytes[kind] = number << 20
        elif kind in made.notices:
            made.notices[kind] = number
        else:
            setattr(made, {"kept_bytes": "kept"}.get(kind, kind), number)
    made.listed = max(made.listed, made.ended)
    return made


def test_all_moved() -> None:
    """
    One line, if there is no more to say.
    """
    said = result(totals(moved=1234, sent=1234 << 20))
    assert said == (
        "Moved 1,234 files, 1.2 GiB, from /photos to nas:inbox in 2.0s (617 MiB/s)."
    )


def test_what_was_not_kept() -> None:
    """
    Files that arrived without something are counted by what that is.
    """
    made = totals(moved=3)
    made.not_kept.update(permissions=1, time=2)
    assert result(made).splitlines()[1] == (
        "  Not kept, since the file system there does not take them:"
        " permissions of 1 file, times of 2 files."
    )


def test_nothing_to_move() -> None:
    """
    An empty source is told as such.
    """
    assert result(totals()) == "Nothing to move from /photos to nas:inbox."


def test_one_of_each() -> None:
    """
    Whatever did not simply move has its place, in the singular too.
    """
    said = result(
        totals(
            moved=1,
            replaced=1,
            present=1,
            renamed=1,
            deferred=1,
            gone=1,
            failed=1,
            symlink=1,
            special=2,
            partial=1,
            unreadable=1,
            excluded=7,
            kept_bytes=5 << 20,
        ),
        Exit.FAILED,
    )
    assert said.splitlines() == [
        "Moved 4 files, 4 MiB, from /photos to nas:inbox in 2.0s.",
        "  1 replaced an older file, 1 was there already, 1 only had to be renamed, "
        "5 MiB kept from an earlier run",
        "  Not moved: 1 deferred, 1 failed, 1 gone meanwhile.",
        "  Stays at the source: 1 symbolic link, 2 special files, "
        "1 file that looks like an unfinished one, 1 unreadable place, 7 excluded.",
        "  Run the same command again once what failed is mended.",
    ]


@pytest.mark.parametrize(
    ("status", "error", "advice"),
    [
        (Exit.INTERRUPTED, "", "Interrupted. Run the same command again to continue."),
        (Exit.TIME_UP, "", "Out of time (--max-duration). Run the same command again"),
        (Exit.FAILED, "disk gone", "Stopped early. Run the same command again"),
        (Exit.DEFERRED, "", "Run the same command again later"),
    ],
)
def test_what_next(status: Exit, error: str, advice: str) -> None:
    """
    An end before the end says that going on is possible, and what is left.
    """
    said = result(totals(moved=3, listed=10, complete=False), status, error=error)
    assert "Not moved: 7 left (not everything had been listed)." in said
    assert advice in said


def test_a_move_that_never_began_has_no_summary() -> None:
    """
    The error has said it all.
    """
    assert result(totals(), Exit.UNREACHABLE, error="nas: cannot connect") == ""


def test_a_dry_run() -> None:
    """
    In the conditional, and with no word of speed.
    """
    said = result(totals(moved=2, sent=2 << 20), dry_run=True)
    assert said.splitlines() == [
        "Would move 2 files, 2 MiB, from /photos to nas:inbox.",
        "  Nothing was changed.",
    ]


def test_trouble_says_which_where_why_and_what_to_do() -> None:
    """
    In one line, harmless whatever the name, and without saying the name twice.
    """
    outcome = Outcome(
        b"a\n\x1b[2J", 5, 0, "failed", "destination", "NO_SPACE", "a\\x0a\\x1b[2J: full"
    )
    assert trouble(outcome, ENDS) == (
        "failed: a\\x0a\\x1b[2J: nas:inbox: full; make room there and run again"
    )
    outcome = Outcome(b"b", 5, 0, "deferred", "source", "STILL_OPEN", "open elsewhere")
    assert trouble(outcome, ENDS) == (
        "deferred: b: /photos: open elsewhere; run again later"
    )


@pytest.mark.parametrize(
    "kind", dict.fromkeys(peer_errors()), ids=lambda kind: kind.code
)
def test_every_error_of_a_file_has_advice(kind: type) -> None:
    """
    Except for what no user can do anything about.
    """
    outcome = Outcome(b"f", 5, 0, "failed", "source", kind.code, "why")
    assert ("; " in trouble(outcome, ENDS)) == (
        kind.code
        not in ("BAD_REQUEST", "NO_SUCH_FILE", "NO_SUCH_SCOPE", "OTHER_FILE_SYSTEM")
    )


def test_lines_of_a_dry_run_line_up() -> None:
    """
    Verb, size, name, and the reason if there is one.
    """
    assert would_line(Outcome(b"f", 1536, 0, "moved"), ENDS) == (
        "move              1.5 KiB  f"
    )
    refused = Outcome(b"g", 5, 0, "failed", "destination", "NAME_TAKEN", "a directory")
    assert would_line(refused, ENDS) == (
        "refuse                5 B  g  (nas:inbox: a directory)"
    )


def test_notices_of_files_that_are_moved() -> None:
    """
    They do not stay at the source.
    """
    said = result(totals(moved=2, kept=1, **{"set-id": 2}))
    assert said.splitlines()[1:] == [
        "  Among the files: 1 file put back under another name, 2 files without their "
        "set-id or sticky bits."
    ]


def test_notices() -> None:
    """
    What it is, which, and why.
    """
    assert notice_line(Notice(b"d\n", "unreadable", "d\\x0a: Permission denied")) == (
        "unreadable place: d\\x0a: Permission denied"
    )
    assert notice_line(Notice(b"l", "symlink")) == "symbolic link: l"
    assert notice_line(Notice(b"", "unreadable", "it is closed")) == (
        "unreadable place: the directory itself: it is closed"
    )
