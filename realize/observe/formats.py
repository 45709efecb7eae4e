"""
How an event looks: text for people, JSON for programs, systemd's journal.

A log line is made of an event's name, its level, a message and fields.  Names of
files are data: every form leaves exactly one well-formed record whatever is in them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen
from twisted.logger import LogLevel, formatEvent

from realize.observe.events import Event
from realize.paths import MAX_PATH, printable
from realize.texts import cut, json_text, printable_line

#: What twisted.logger and txaio add to an event; not fields of ours.
_FOREIGN_PREFIXES: Final = ("log_", "txaio_")

_NAMES: Final = {
    LogLevel.critical: "error",
    LogLevel.error: "error",
    LogLevel.warn: "warn",
    LogLevel.info: "info",
    LogLevel.debug: "debug",
}

#: syslog(3) priorities.
_PRIORITIES: Final = {"error": 3, "warn": 4, "info": 6, "debug": 7}

#: Most bytes of a path, as it is shown; of another text; and of a message.
MAX_NAME: Final = 4 * MAX_PATH
MAX_TEXT: Final = 4096
MAX_MESSAGE: Final = MAX_NAME + 2 * MAX_TEXT

_COLOURS: Final = {"error": "31", "warn": "33", "info": "32", "debug": "2"}


@frozen
class Record:
    """
    One event, ready to be rendered.

    :ivar time: seconds since 1970.
    :ivar level: ``error``, ``warn``, ``info`` or ``debug``.
    :ivar event: name in the catalogue; the logger's name for events from elsewhere.
    :ivar message: one printable line.
    :ivar fields: numbers stay numbers; everything else is printable text.
    :ivar traceback: of a bug, else empty.
    """

    time: float
    level: str
    event: str
    message: str
    fields: Mapping[str, int | float | bool | str | None]
    traceback: str = ""

    @classmethod
    def made(cls, event: Event, time: float, **fields: int | str) -> Record:
        """
        A record of what the log has to tell of itself.

        :param fields: exactly those of *event*, printable.
        """
        message = event.message.format(**fields)
        return cls(time, event.level, event.name, message, fields)

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Record:
        """
        The record of an event as twisted.logger delivers it.
        """
        fields = {
            name: _plain(value)
            for name, value in event.items()
            if not name.startswith(_FOREIGN_PREFIXES) and name != "event"
        }
        failure = event.get("log_failure")
        return cls(
            time=event["log_time"],
            level=_NAMES[event.get("log_level", LogLevel.info)],
            event=str(event.get("event") or event.get("log_namespace", "-")),
            message=_message(event, fields, failure),
            fields=fields,
            traceback=failure.getTraceback() if failure is not None else "",
        )


def _plain(value: object) -> int | float | bool | str | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    # Names of files are told whole: what is done about one begins with its name.
    most = MAX_NAME if isinstance(value, bytes) else MAX_TEXT
    text = value if isinstance(value, bytes | str) else str(value)
    return cut(printable(text[:most]), most)


def _message(event: Mapping[str, Any], fields: Mapping[str, Any], failure: Any) -> str:
    if event.get("log_format"):
        return cut(printable_line(formatEvent({**event, **fields})), MAX_MESSAGE)
    text = event.get("log_text") or (str(failure.value) if failure else "")
    return cut(printable(text[:MAX_MESSAGE]), MAX_MESSAGE)


def as_text(record: Record, colour: bool) -> str:
    """
    A line (and the lines of a traceback) for people: time, level, event, message.

    The time is local, to the millisecond.
    """
    moment = datetime.fromtimestamp(record.time).astimezone()
    stamp = moment.isoformat(sep=" ", timespec="milliseconds")
    level = f"{record.level:<5}"
    if colour:
        level = f"\x1b[{_COLOURS[record.level]}m{level}\x1b[0m"
    line = f"{stamp} {level} {record.event}: {record.message}\n"
    return line + "".join(
        f"    {printable_line(row)}\n" for row in record.traceback.splitlines()
    )


def as_json(record: Record) -> str:
    """
    One JSON object on a line; the time is RFC 3339, UTC.
    """
    moment = datetime.fromtimestamp(record.time, UTC)
    document: dict[str, object] = {
        "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": record.level,
        "event": record.event,
        "message": record.message,
    }
    for name, value in record.fields.items():
        document.setdefault(name, value)
    if record.traceback:
        document["traceback"] = record.traceback
    return json_text(document) + "\n"


def as_journal(record: Record, identifier: str) -> bytes:
    """
    A datagram in systemd's native protocol; the journal adds the time.

    :param identifier: name of the program, for ``SYSLOG_IDENTIFIER``.
    """
    return b"".join(_journal_fields(record, identifier))


def _journal_fields(record: Record, identifier: str) -> Iterator[bytes]:
    yield _journal_field("MESSAGE", record.message)
    yield _journal_field("PRIORITY", str(_PRIORITIES[record.level]))
    yield _journal_field("SYSLOG_IDENTIFIER", identifier)
    yield _journal_field("REALIZE_EVENT", record.event)
    for name, value in record.fields.items():
        yield _journal_field(f"REALIZE_{name.upper()}", "" if value is None else value)
    if record.traceback:
        yield _journal_field("REALIZE_TRACEBACK", record.traceback)


def _journal_field(name: str, value: object) -> bytes:
    data = str(value).encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode("ascii"), data)
    # Values with newlines: name, newline, little-endian length, value, newline.
    return b"%s\n%s%s\n" % (name.encode("ascii"), struct.pack("<Q", len(data)), data)
