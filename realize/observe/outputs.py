"""
Where the log goes: a stream, a file that can be reopened, or systemd's journal.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Protocol, TextIO

from attrs import define, evolve, field
from twisted.logger import ILogObserver, LogLevel
from txaio.tx import set_global_log_level
from zope.interface import implementer

from realize.observe.appending import AppendedFile
from realize.observe.events import LOG_GAP, LOG_LOST
from realize.observe.formats import Record, as_journal, as_json, as_text
from realize.observe.levels import Levels
from realize.paths import printable

#: Forms that ``--log-format`` takes.
FORMATS: Final = ("text", "json", "journal")

#: Where systemd's journal takes native messages.
JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"


#: Seconds that a line waits for the journal while others are queued there.
JOURNAL_PATIENCE: Final = 0.05

#: Seconds for which no line waits after one has waited for nothing.
JOURNAL_HURRY: Final = 1.0


#: Seconds from one complaint about a log that cannot be written to the next.
RETELLING: Final = 60.0


class Sink(Protocol):
    """
    Takes finished records.
    """

    def write(self, record: Record) -> None:
        """
        Write one record; never raises, or the program would stop for its log.
        """

    def reopen(self) -> None:
        """
        Go on in a new file of the same name, after the old one was rotated away.

        :raises OSError: the new one cannot be opened; the old one stays in use.
        """


@define
class StreamSink:
    """
    Writes text or JSON to an open stream, such as standard error.

    :ivar render: from record to text, with its line feed.
    """

    stream: TextIO
    render: Callable[[Record], str]

    def write(self, record: Record) -> None:
        try:
            self.stream.write(self.render(record))
            self.stream.flush()
        except (OSError, ValueError):
            # Nobody is left to tell that the log cannot be written.
            return

    def reopen(self) -> None:
        """
        A stream that was given has no name to open again.
        """


@define
class FileSink:
    """
    Appends text or JSON to a named file, readable by its owner and group.

    It may be a pipe or a device, too.  A line that it does not take at once is lost,
    and that is told, there as soon as it can be, and elsewhere at once.

    :ivar elsewhere: hears that lines are lost, once in :data:`RETELLING` seconds.
    :raises OSError: the file cannot be opened; also for a pipe that nobody reads.
    """

    path: str
    render: Callable[[Record], str]
    elsewhere: Sink
    _file: AppendedFile = field(init=False)
    _lost: int = field(init=False, default=0)
    _told: float = field(init=False, default=-math.inf)

    def __attrs_post_init__(self) -> None:
        self._file = AppendedFile(self.path, patience=0, shared=False)

    def write(self, record: Record) -> None:
        text = self.render(record)
        if self._lost:
            path = printable(self.path)
            gap = Record.made(LOG_GAP, record.time, path=path, count=self._lost)
            text = self.render(gap) + text
        try:
            # An escape for half a character, which a name could smuggle in.
            self._file.append(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self._lost += 1
            self._tell(record.time, error)
        else:
            self._lost = 0

    def _tell(self, now: float, error: OSError) -> None:
        # A clock may be set back.
        if 0 <= now - self._told < RETELLING:
            return
        self._told = now
        reason = error.strerror or type(error).__name__
        self.elsewhere.write(
            Record.made(LOG_LOST, now, path=printable(self.path), reason=reason)
        )

    def reopen(self) -> None:
        self._file.reopen()


@define
class JournalSink:
    """
    Sends datagrams in the journal's native protocol.

    A record too large for a datagram loses its fields, not its message.  While the
    journal takes nothing, a line waits for it a moment, and those of the next second
    not at all.

    :ivar identifier: name of the program.
    :raises OSError: there is no journal at *address*.
    """

    identifier: str
    address: str = JOURNAL_SOCKET
    _socket: socket.socket = field(init=False)
    _hurried_until: float = field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(self.address)

    def write(self, record: Record) -> None:
        short = Record(record.time, record.level, record.event, record.message, {})
        hurried = time.monotonic() < self._hurried_until
        self._socket.settimeout(0 if hurried else JOURNAL_PATIENCE)
        for attempt in (record, short):
            try:
                self._socket.send(as_journal(attempt, self.identifier))
            except TimeoutError:
                self._hurried_until = time.monotonic() + JOURNAL_HURRY
                return
            except BlockingIOError:
                return
            except OSError:
                continue
            return

    def reopen(self) -> None:
        """
        The journal rotates its own files.
        """


def stderr_is_journal(environ: Mapping[str, str]) -> bool:
    """
    Whether systemd has connected our standard error to its journal.
    """
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def _count_nothing(level: str) -> None:
    """
    For programs that do not count their lines.
    """


@implementer(ILogObserver)
class LogOutput:
    """
    The one observer of a program: filters by level and area, and renders.

    Levels can be changed at any time; loggers whose level is off cost nothing, since
    txaio makes their methods do nothing.

    :param counted: called with the level of each line.
    :param without: names of events that are not logged.
    """

    def __init__(
        self,
        sink: Sink,
        levels: Levels,
        counted: Callable[[str], None] = _count_nothing,
        without: Collection[str] = (),
    ) -> None:
        self._sink = sink
        self._without = without
        self._counted = counted
        self._levels = levels
        set_global_log_level(levels.most_verbose)

    @property
    def levels(self) -> Levels:
        """
        What is logged now.
        """
        return self._levels

    @levels.setter
    def levels(self, levels: Levels) -> None:
        self._levels = levels
        set_global_log_level(levels.most_verbose)

    def __call__(self, event: Mapping[str, Any]) -> None:
        namespace = event.get("log_namespace") or ""
        level = event.get("log_level", LogLevel.info)
        if level is LogLevel.info and not namespace.startswith("realize."):
            # What Twisted finds worth telling is a step, to our readers.
            level = LogLevel.debug
            event = {**event, "log_level": level}
        if not self._levels.allow(namespace, level):
            return
        if event.get("event") in self._without:
            return
        record = Record.of(event)
        self._counted(record.level)
        if not record.traceback:
            self._sink.write(record)
            return
        # One line for the operator; the traceback is for whoever mends it.
        self._sink.write(evolve(record, traceback=""))
        if self._levels.allow(namespace, LogLevel.debug):
            self._sink.write(evolve(record, level="debug"))

    def reopen(self) -> None:
        """
        As :meth:`Sink.reopen`.
        """
        self._sink.reopen()


def open_sink(
    form: str | None,
    path: str | None,
    identifier: str,
    environ: Mapping[str, str],
    stream: TextIO,
) -> Sink:
    """
    The sink for what was asked for on the command line.

    :param form: one of :data:`FORMATS`; None chooses the journal if *stream* is
        connected to it, and text otherwise.
    :param path: a file to write to instead of *stream*.
    :raises OSError: the file or the journal cannot be opened.
    :raises ValueError: *form* is unknown, or the journal was asked for with a file.
    """
    if form is None:
        to_journal = path is None and stderr_is_journal(environ)
        form = "journal" if to_journal else "text"
    if form not in FORMATS:
        raise ValueError(f"unknown log format {form!r}: one of {', '.join(FORMATS)}")
    if form == "journal":
        if path is not None:
            raise ValueError("the journal is not written to a file: leave one out")
        return JournalSink(identifier, environ.get("REALIZE_JOURNAL", JOURNAL_SOCKET))
    terminal = path is None and stream.isatty()
    render = as_json if form == "json" else _text(terminal, environ)
    if path is None:
        return StreamSink(stream, render)
    return FileSink(path, render, StreamSink(stream, _text(stream.isatty(), environ)))


def _text(terminal: bool, environ: Mapping[str, str]) -> Callable[[Record], str]:
    plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    colour = terminal and not plain
    return lambda record: as_text(record, colour)
