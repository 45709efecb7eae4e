"""
Where records go: streams, files, the journal.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from attrs import evolve
from twisted.logger import LogLevel
from txaio.tx import make_logger

from realize.observe.formats import Record, as_json
from realize.observe.levels import Levels
from realize.observe.outputs import (
    FileSink,
    JournalSink,
    LogOutput,
    StreamSink,
    open_sink,
    stderr_is_journal,
)

RECORD = Record(0.0, "info", "file-final", "a is there.", {"path": "a"})


class Terminal(io.StringIO):
    """
    A stream that says it is a terminal.
    """

    def isatty(self) -> bool:
        return True


def test_closed_stream_does_not_stop_the_program() -> None:
    """
    Nobody can be told that the log is gone.
    """
    stream = io.StringIO()
    stream.close()
    StreamSink(stream, as_json).write(RECORD)


#: For logs that can be written.
NOWHERE = StreamSink(io.StringIO(), as_json)


def at(seconds: float) -> Record:
    """
    A record of a time.
    """
    return evolve(RECORD, time=seconds)


def test_a_full_log_is_told_elsewhere() -> None:
    """
    Once a minute, with the reason; nothing is raised.
    """
    elsewhere = io.StringIO()
    sink = FileSink("/dev/full", as_json, StreamSink(elsewhere, as_json))
    for seconds in (0, 1, 59, 60, 119):
        sink.write(at(seconds))
    told = [json.loads(line) for line in elsewhere.getvalue().splitlines()]
    assert [each["event"] for each in told] == ["log-lost", "log-lost"]
    assert told[0]["message"] == (
        "The log /dev/full cannot be written (No space left on device): "
        "lines are lost until it can be."
    )


def test_a_log_that_is_a_pipe(tmp_path: Path) -> None:
    """
    Is never waited for: one that nobody reads is refused, and how many lines a slow
    reader has missed is the next thing it reads.
    """
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="nobody reads from this pipe"):
        FileSink(str(path), as_json, NOWHERE)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    elsewhere = io.StringIO()
    sink = FileSink(str(path), as_json, StreamSink(elsewhere, as_json))
    written = 0
    while not elsewhere.getvalue():
        sink.write(RECORD)
        written += 1
    sink.write(RECORD)
    assert len(os.read(reader, 1 << 20)) <= 65536
    sink.write(RECORD)
    gap, last = (json.loads(line) for line in os.read(reader, 65536).splitlines()[-2:])
    assert (gap["event"], gap["count"]) == ("log-gap", 2)
    assert last["event"] == RECORD.event
    os.close(reader)
    sink.write(at(RECORD.time + 3600))
    assert "Broken pipe" in elsewhere.getvalue()


def test_file_can_be_rotated(tmp_path: Path) -> None:
    """
    After a reopen lines go to a new file of the same name; no line is lost.
    """
    path = tmp_path / "log"
    sink = FileSink(str(path), as_json, NOWHERE)
    sink.write(RECORD)
    path.rename(tmp_path / "log.1")
    sink.write(RECORD)
    sink.reopen()
    sink.write(RECORD)
    assert len((tmp_path / "log.1").read_text().splitlines()) == 2
    assert json.loads(path.read_text())["event"] == "file-final"
    assert path.stat().st_mode & 0o777 == 0o640


def test_reopening_where_it_is_not_possible_goes_on_in_the_old_file(
    tmp_path: Path,
) -> None:
    """
    A rotated log whose folder vanished is better than none.
    """
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "log"), as_json, NOWHERE)
    moved = tmp_path / "moved"
    folder.rename(moved)
    with pytest.raises(FileNotFoundError):
        sink.reopen()
    sink.write(RECORD)
    assert (moved / "log").read_text()


@pytest.fixture
def journal(tmp_path: Path) -> socket.socket:
    """
    A real datagram socket where the journal's would be.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "journal"))
    listener.settimeout(5)
    return listener


def test_journal_gets_a_datagram(journal: socket.socket) -> None:
    """
    One message, with its fields.
    """
    JournalSink("realized", journal.getsockname()).write(RECORD)
    assert b"REALIZE_PATH=a\n" in journal.recv(65536)


def test_message_too_large_for_the_journal_comes_without_fields(
    journal: socket.socket,
) -> None:
    """
    The line is worth more than its fields.
    """
    large = Record(0.0, "warn", "bug", "It failed.", {"text": "x" * 10_000_000})
    JournalSink("realized", journal.getsockname()).write(large)
    message = journal.recv(65536)
    assert b"MESSAGE=It failed.\n" in message
    assert b"REALIZE_TEXT" not in message


def test_stderr_that_is_the_journal_is_recognised() -> None:
    """
    By device and inode, as systemd states them.
    """
    status = os.fstat(sys.stderr.fileno())
    stated = f"{status.st_dev}:{status.st_ino}"
    assert stderr_is_journal({"JOURNAL_STREAM": stated})
    assert not stderr_is_journal({"JOURNAL_STREAM": "1:2"})
    assert not stderr_is_journal({})


def test_form_is_chosen(tmp_path: Path, journal: socket.socket) -> None:
    """
    Text by default; colour on a terminal unless it is not wanted.
    """
    stream = Terminal()
    open_sink(None, None, "realize", {}, stream).write(RECORD)
    assert "\x1b[" in stream.getvalue()
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        stream = Terminal()
        open_sink("text", None, "realize", environ, stream).write(RECORD)
        assert "\x1b[" not in stream.getvalue()
    address = {"REALIZE_JOURNAL": journal.getsockname()}
    open_sink("journal", None, "realize", address, stream).write(RECORD)
    assert journal.recv(65536)
    path = tmp_path / "log"
    open_sink("json", str(path), "realize", {}, stream).write(RECORD)
    assert json.loads(path.read_text())


@pytest.mark.parametrize(
    ("form", "path", "complaint"),
    [("xml", None, "unknown log format"), ("journal", "/tmp/x", "not written to")],
)
def test_form_that_makes_no_sense_is_refused(
    form: str, path: str | None, complaint: str
) -> None:
    """
    With what would make sense.
    """
    with pytest.raises(ValueError, match=complaint):
        open_sink(form, path, "realize", {}, io.StringIO())


def test_levels_can_be_changed_in_use() -> None:
    """
    What is off is not rendered; what is switched on later is, by old loggers too.
    """
    log = make_logger()
    stream = io.StringIO()
    output = LogOutput(StreamSink(stream, as_json), Levels.parse("warn"))
    for word in ("quiet", "loud"):
        log.debug(word)
        output(
            {
                "log_time": 0.0,
                "log_level": LogLevel.debug,
                "log_namespace": "realize.wire",
                "log_format": word,
            }
        )
        output.levels = Levels.parse("info,wire=debug")
    lines = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert lines == ["loud"]
    assert str(output.levels) == "info,wire=debug"
    output.levels = Levels.parse("info")


def test_a_journal_that_is_behind_loses_nothing(journal: socket.socket) -> None:
    """
    A line waits a moment for those before it to be read.
    """
    sink = JournalSink("realize", journal.getsockname())
    number = 3000

    def read() -> None:
        for _ in range(number):
            received.append(journal.recv(65536))

    received: list[bytes] = []
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(number):
        sink.write(RECORD)
    reader.join(10)
    assert len(received) == number


def test_a_journal_that_hangs_does_not_hang_the_program(journal: socket.socket) -> None:
    """
    Only one line waits; when it answers again, lines are there again.
    """
    sink = JournalSink("realize", journal.getsockname())
    began = time.monotonic()
    for _ in range(5000):
        sink.write(RECORD)
    assert time.monotonic() - began < 5
    journal.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while journal.recv(65536):
            pass
    sink.write(RECORD)
    assert b"REALIZE_EVENT=" in journal.recv(65536)
