"""
What each ``--output`` prints, and where.
"""

from __future__ import annotations

import io
import json

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from realize.cli.complaints import MAX_COMPLAINTS, NAMES, Complaints
from realize.cli.exits import Exit
from realize.cli.outputs import JsonOutput, Output, QuietOutput
from realize.cli.progress import LINE_INTERVAL, LineProgress, can_draw
from realize.cli.report import Ends, Result
from realize.cli.terminal import Stream
from realize.model import File, Notice
from realize.move.outcome import Outcome, Totals
from realize.paths import unprintable

ENDS = Ends("/photos", "nas:inbox")
FAILED = Outcome(b"f", 5, 0, "failed", "destination", "NO_SPACE", "full")
MOVED = Outcome(b"m", 5, 0, "moved", digest=b"\xab" * 32)


class Streams:
    """
    Standard output and standard error, to be read.
    """

    def __init__(self) -> None:
        self._files = io.StringIO(), io.StringIO()
        self.out, self.err = map(Stream, self._files)

    @property
    def said(self) -> tuple[list[str], list[str]]:
        """
        Lines so far.
        """
        out, err = (file.getvalue().splitlines() for file in self._files)
        return out, err


@pytest.fixture
def streams() -> Streams:
    """
    New ones.
    """
    return Streams()


def end(output: Output, status: Exit = Exit.MOVED, listed: int = 1) -> None:
    """
    The move is over.
    """
    totals = Totals(listed=listed, complete=True)
    output.finished(Result(ends=ENDS, totals=totals, status=status, seconds=1.0))


def test_quiet_says_nothing_if_all_is_well(streams: Streams) -> None:
    """
    Not even what it skipped on purpose.
    """
    output = QuietOutput(streams.out, streams.err)
    output.started(ENDS)
    output.noticed(Notice(b"l", "symlink"))
    output.ended([MOVED])
    end(output)
    assert streams.said == ([], [])


def test_quiet_says_what_went_wrong(streams: Streams) -> None:
    """
    On standard error, with the summary.
    """
    output = QuietOutput(streams.out, streams.err)
    output.started(ENDS)
    output.noticed(Notice(b"d", "unreadable", "Permission denied"))
    output.ended([MOVED, FAILED])
    end(output, Exit.FAILED)
    out, err = streams.said
    assert out == []
    assert err[0] == "realize: unreadable place: d: Permission denied"
    assert err[1].startswith("realize: failed: f: nas:inbox: full")
    assert err[2].startswith("Moved 0 files")


def failed(name: str, why: str) -> Outcome:
    """
    A file that was not moved.
    """
    return evolve(FAILED, path=name.encode(), text=why)


def test_equal_complaints_are_one_line(streams: Streams) -> None:
    """
    With a count and the first names.
    """
    output = QuietOutput(streams.out, streams.err)
    output.started(ENDS)
    output.ended([failed(f"f{number}", "full") for number in range(1234)])
    output.ended([failed("other", "locked")])
    output.noticed(Notice(b"d", "unreadable", "Permission denied"))
    output.noticed(Notice(b"e", "unreadable", "Permission denied"))
    end(output, Exit.FAILED)
    advice = "make room there and run again"
    assert streams.said[1][:3] == [
        f"realize: failed: 1,234 (f0, f1, f2, ...): nas:inbox: full; {advice}",
        f"realize: failed: other: nas:inbox: locked; {advice}",
        "realize: unreadable place: 2 (d, e): Permission denied",
    ]


def test_the_first_of_equal_complaints_is_told_at_once(streams: Streams) -> None:
    """
    Where somebody looks; the others are counted in the end.
    """
    output = LineProgress(streams.out, streams.err, clock=Clock())
    output.started(ENDS)
    output.ended([failed(name, "full") for name in "abcdef"])
    advice = "make room there and run again"
    first = f"realize: failed: a: nas:inbox: full; {advice}"
    assert streams.said[1] == [first]
    end(output, Exit.FAILED)
    rest = f"realize: failed: 5 more (b, c, d, ...): nas:inbox: full; {advice}"
    assert streams.said[1] == [first, rest]


def test_a_flood_of_complaints_is_cut_short() -> None:
    """
    Of each kind some, and a count of the rest; memory is bounded.
    """
    complaints = Complaints()
    for number in range(MAX_COMPLAINTS + 1234):
        complaints.add("failed", f"f{number}", f"reason {number}")
    complaints.add("deferred", "d", "busy")
    *told, deferred, rest = complaints.take()
    assert len(told) == MAX_COMPLAINTS
    assert deferred == "deferred: d: busy"
    assert rest == "failed: 1,234 more (--output json has them all)"
    assert list(complaints.take()) == []
    assert NAMES < MAX_COMPLAINTS


@pytest.mark.parametrize("status", [Exit.MOVED, Exit.DEFERRED])
def test_quiet_is_quiet(status: Exit, streams: Streams) -> None:
    """
    Cron mails whatever is printed, so nothing is when nobody has to do anything.
    """
    output = QuietOutput(streams.out, streams.err)
    output.started(ENDS)
    output.say("no answer from the disk of a for 12 s")
    output.doubted("b: its times are coarse")
    output.retrying("lost")
    output.noticed(Notice(b"p", "partial"))
    output.noticed(Notice(b"k", "kept", "as k (1)"))
    output.ended([evolve(FAILED, kind="deferred"), MOVED])
    end(output, status)
    assert streams.said == ([], [])


def test_quiet_tells_what_it_held_back(streams: Streams) -> None:
    """
    As soon as the move is told to end: it may not get so far as to tell later.
    """
    output = QuietOutput(streams.out, streams.err)
    output.started(ENDS)
    output.say("no answer from the disk of a for 12 s")
    output.stopping("interrupted")
    assert streams.said[1] == [
        "realize: no answer from the disk of a for 12 s",
        "realize: interrupted",
    ]
    output.say("no answer from the disk of a for 72 s")
    end(output, Exit.INTERRUPTED)
    assert streams.said[1][2] == "realize: no answer from the disk of a for 72 s"


def test_only_our_own_colours_reach_a_terminal(streams: Streams) -> None:
    """
    Those of a line of the log; what others can have a part in is printable.
    """
    output = LineProgress(streams.out, streams.err, clock=Clock())
    output.above("\x1b[32minfo\x1b[0m move-began")
    output.say("taken \x1b[2J")
    assert streams.said[1] == [
        "\x1b[32minfo\x1b[0m move-began",
        "realize: taken \\x1b[2J",
    ]


def test_json_is_one_object_a_line(streams: Streams) -> None:
    """
    Whatever the names hold; and names can be had back.
    """
    name = b'a\n\xff\x1b"\\\xe2\x80\xa8'
    output = JsonOutput(streams.out, streams.err)
    output.started(ENDS)
    output.noticed(Notice(name, "symlink"))
    output.ended([MOVED, FAILED, Outcome(name, 0, 0, "renamed")])
    output.say("for people")
    end(output, Exit.FAILED)
    out, err = streams.said
    assert err == ["realize: for people"]
    notice, moved, failed, renamed, summary = map(json.loads, out)
    assert unprintable(notice["path"]) == unprintable(renamed["path"]) == name
    assert (moved["outcome"], moved["blake3"], moved["end"]) == (
        "moved",
        "ab" * 32,
        None,
    )
    assert (failed["end"], failed["code"], failed["blake3"]) == (
        "nas:inbox",
        "NO_SPACE",
        None,
    )
    assert (summary["event"], summary["version"], summary["exit"]) == ("summary", 1, 1)


def test_a_line_every_half_minute(streams: Streams) -> None:
    """
    On standard error, how far it is; the summary on standard output.
    """
    clock = Clock()
    output = LineProgress(streams.out, streams.err, clock=clock)
    output.started(ENDS)
    output.listed([File(b"m", 5 << 20, 0, 0o644, b"i")] * 2)
    clock.advance(LINE_INTERVAL - 1)
    assert streams.said == ([], [])
    output.advanced(5 << 20, b"")
    output.ended([Outcome(b"m", 5 << 20, 0, "moved")])
    clock.advance(1)
    assert streams.said[1] == [
        "realize: 1 of 2 files, 5 MiB of 10 MiB, 170.7 KiB/s, 30s left"
    ]
    for _ in range(10):
        clock.advance(LINE_INTERVAL / 10)
    assert len(streams.said[1]) == 2
    end(output)
    assert streams.said[0][0].startswith("Moved")
    assert clock.getDelayedCalls() == []


def test_a_stream_that_breaks_is_left_alone(tmp_path: object) -> None:
    """
    The first failed write is the last.
    """
    with open("/dev/full", "w") as full:
        stream = Stream(full)
        stream.line("x")
        assert stream.broken
        stream.line("y")


@pytest.mark.parametrize(
    ("term", "expected"), [("xterm", False), ("dumb", False), ("", False)]
)
def test_bars_need_a_terminal(streams: Streams, term: str, expected: bool) -> None:
    """
    A file is none, whatever TERM says.
    """
    assert can_draw(streams.err, {"TERM": term}) is expected


def test_doubts(streams: Streams) -> None:
    """
    A line for people on standard error, an object for programs on standard output.
    """
    people = LineProgress(streams.out, streams.err, dry_run=True, clock=Clock())
    people.doubted("src: fuse: leases")
    JsonOutput(streams.out, streams.err, dry_run=True).doubted("src: fuse: leases")
    out, err = streams.said
    assert err == ["realize: src: fuse: leases"]
    assert json.loads(out[0]) == {"event": "doubt", "text": "src: fuse: leases"}
