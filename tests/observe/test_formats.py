"""
Every form leaves one well-formed record, whatever a file is called.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from realize.observe.formats import Record, as_journal, as_json, as_text
from realize.paths import unprintable

AWKWARD = b"new\nline \x1b[31m {x} {0} %s \\ \xff\xfe \xe2\x80\xae.txt"


def event(path: bytes, **fields: Any) -> dict[str, Any]:
    """
    An event as twisted.logger delivers it.
    """
    return {
        "log_time": 1_700_000_000.25,
        "log_level": LogLevel.info,
        "log_namespace": "realize.store.commit",
        "log_format": "{path} is in {directory}: {size} B.",
        "log_logger": object(),
        "log_source": None,
        "event": "file-final",
        "path": path,
        "directory": "inbox",
        "size": 12,
        **fields,
    }


def parse_journal(datagram: bytes) -> dict[str, bytes]:
    """
    The fields of a message in the native protocol.
    """
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields[name.decode("ascii")] = value
        datagram = rest
    return fields


@given(st.binary(min_size=1, max_size=60))
def test_any_name_leaves_one_line(path: bytes) -> None:
    """
    In text and JSON; the name can be had back from the JSON.
    """
    record = Record.of(event(path))
    text = as_text(record, colour=False)
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    line = as_json(record)
    assert line.count("\n") == 1
    assert unprintable(json.loads(line)["path"]) == path
    fields = parse_journal(as_journal(record, "realized"))
    assert unprintable(fields["REALIZE_PATH"].decode("utf-8")) == path


def test_text() -> None:
    """
    Time, level, event, message.
    """
    line = as_text(Record.of(event(AWKWARD)), colour=False)
    assert line[4] == "-"
    assert line.endswith(
        "info  file-final: new\\x0aline \\x1b[31m {x} {0} %s \\\\ \\xff\\xfe "
        "\\xe2\\x80\\xae.txt is in inbox: 12 B.\n"
    )


def test_colour_is_around_the_level_only() -> None:
    """
    The line is the same without the escapes.
    """
    record = Record.of(event(b"a", log_level=LogLevel.error))
    coloured = as_text(record, colour=True)
    plain = coloured.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert plain == as_text(record, colour=False)
    assert "\x1b[31merror\x1b[0m" in coloured


def test_json() -> None:
    """
    RFC 3339 in UTC first, then level, event, message, then the fields as they are.
    """
    document = json.loads(as_json(Record.of(event(AWKWARD, seconds=1.5, seen=True))))
    assert list(document)[:4] == ["time", "level", "event", "message"]
    assert document["time"] == "2023-11-14T22:13:20.250000Z"
    assert document["level"] == "info"
    assert document["event"] == "file-final"
    assert document["size"] == 12
    assert document["seconds"] == 1.5
    assert document["seen"] is True
    assert not [name for name in document if name.startswith("log_")]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), object(), None, ["a"]])
def test_json_of_odd_values_is_still_json(value: object) -> None:
    """
    What JSON cannot say is said in words.
    """
    line = as_json(Record.of(event(b"a", odd=value)))
    assert "Infinity" not in line
    assert "NaN" not in line
    json.loads(line)


def test_journal() -> None:
    """
    Native fields with the right priority; no time, which the journal adds.
    """
    fields = parse_journal(as_journal(Record.of(event(AWKWARD)), "realized"))
    assert fields["PRIORITY"] == b"6"
    assert fields["SYSLOG_IDENTIFIER"] == b"realized"
    assert fields["REALIZE_EVENT"] == b"file-final"
    assert fields["REALIZE_SIZE"] == b"12"
    assert fields["MESSAGE"].endswith(b"is in inbox: 12 B.")
    assert not [name for name in fields if "TIME" in name]


def test_traceback_does_not_break_a_record() -> None:
    """
    A traceback is indented in text, a string in JSON, a field with length in the
    journal.
    """
    try:
        int("one\ntwo")
    except ValueError:
        failure = Failure()
    record = Record.of(event(b"a", log_failure=failure, log_level=LogLevel.critical))
    lines = as_text(record, colour=False).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("    ") for line in lines[1:])
    assert "ValueError" in json.loads(as_json(record))["traceback"]
    fields = parse_journal(as_journal(record, "realized"))
    assert b"ValueError" in fields["REALIZE_TRACEBACK"]
    assert fields["PRIORITY"] == b"3"


def test_events_from_elsewhere() -> None:
    """
    Twisted's own events, old and new, are one line too.
    """
    old = {"log_time": 0.0, "log_namespace": "log_legacy", "log_text": "a\nb"}
    assert as_text(Record.of(old), colour=False).endswith("log_legacy: a\\x0ab\n")
    failed = {
        "log_time": 0.0,
        "log_namespace": "twisted",
        "log_level": LogLevel.critical,
        "log_format": None,
        "log_failure": Failure(ValueError("what\never")),
    }
    assert Record.of(failed).message == "what\\x0aever"


def test_a_format_that_does_not_fit_is_no_error() -> None:
    """
    A log call with a missing field still leaves a line.
    """
    record = Record.of({"log_time": 0.0, "log_format": "{missing}"})
    assert "missing" in record.message
