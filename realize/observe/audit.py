"""
Receipts: a file with one JSON object for each file that became final or was removed.

A line is written after the file is final and before its source may go, so whoever
finds the source gone finds the line.  ``realize verify`` checks files against it.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal

from attrs import define, field, frozen

from realize.paths import printable, unprintable
from realize.texts import json_text


@frozen
class Receipt:
    """
    One line of the audit log.

    :ivar event: ``final`` or ``removed``.
    :ivar directory: id of the directory, or ``local``.
    :ivar path: relative to the directory.
    :ivar size: bytes.
    :ivar blake3: digest of the content; empty where it is not known.
    :ivar peer: who sent or took it, or ``local``.
    :ivar session: the same for all lines of one run.
    """

    event: Literal["final", "removed"]
    directory: str
    path: bytes
    size: int
    blake3: bytes
    peer: str
    session: str

    def line(self, time: datetime) -> str:
        """
        As JSON, with its line feed.  The path is as :func:`printable` shows it.
        """
        document = {
            "time": time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "event": self.event,
            "directory": self.directory,
            "path": printable(self.path),
            "size": self.size,
            "blake3": self.blake3.hex(),
            "peer": self.peer,
            "session": self.session,
        }
        return json_text(document) + "\n"


@define
class AuditLog:
    """
    Appends receipts to a file; may be used from several threads.

    :ivar path: of the file, created readable by its owner and group.
    :raises OSError: it cannot be opened.
    """

    path: str
    _lock: threading.Lock = field(init=False, factory=threading.Lock)
    _fd: int = field(init=False)
    _torn: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._fd = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self.path, flags, 0o640)

    def write(self, receipts: Iterable[Receipt]) -> None:
        """
        Append a group of lines, and make them durable.  Blocks.

        :raises OSError: they are not in the file, or only in part.
        """
        now = datetime.now(UTC)
        text = "".join(each.line(now) for each in receipts)
        with self._lock:
            # What a full disk has cut short must not spoil the line after it.
            data = memoryview(("\n" * self._torn + text).encode("utf-8"))
            while data:
                self._torn = True
                data = data[os.write(self._fd, data) :]
            self._torn = False
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                # A pipe or a terminal keeps nothing; a disk has to.
                if error.errno not in (errno.EINVAL, errno.EROFS):
                    raise

    def reopen(self) -> None:
        """
        Go on in a new file of the same name, after the old one was rotated away.

        :raises OSError: the new one cannot be opened; the old one stays in use.
        """
        fd = self._open()
        with self._lock:
            os.close(self._fd)
            self._fd = fd
            self._torn = False


def read_receipts(lines: Iterable[bytes]) -> Iterator[Receipt]:
    """
    The receipts in a file that :class:`AuditLog` wrote.

    Lines that a full disk or a crash has cut short are left out: what they were to
    tell was not done, or told again.

    :raises ValueError: a line is not one; says which.
    """
    for number, line in enumerate(lines, 1):
        if _is_torn(line):
            continue
        try:
            yield _receipt(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"line {number} is not a receipt of realize") from None


def _is_torn(line: bytes) -> bool:
    whole = line.rstrip(b"\n")
    beginning = b'{"time": "'
    return not whole.endswith(b"}") and (
        whole.startswith(beginning) or beginning.startswith(whole)
    )


def _receipt(document: dict[str, str]) -> Receipt:
    event = document["event"]
    if event not in ("final", "removed"):
        raise ValueError(event)
    return Receipt(
        "final" if event == "final" else "removed",
        document["directory"],
        unprintable(document["path"]),
        int(document["size"]),
        bytes.fromhex(document["blake3"]),
        document["peer"],
        document["session"],
    )
