"""
What a receipt says, as a line of JSON and back.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, BinaryIO, Final, Literal

import msgspec
from attrs import define, frozen

from realize.digest import digest_text, parse_digest
from realize.errors import UnsafePath
from realize.observe.appending import CANCELLED
from realize.paths import RelativePath, printable, unprintable
from realize.texts import json_text

#: Longest line, in bytes: a path of 4 KiB takes at most five times as much.
MAX_LINE: Final = 64 * 1024

Event = Literal["final", "removed"]


@frozen
class Receipt:
    """
    One line of the audit log.

    :ivar event: ``final`` or ``removed``.
    :ivar directory: id of the directory, or ``local``.
    :ivar place: where it is: an absolute path of the host that wrote the line, or
        ``PEER:DIRECTORY``.
    :ivar path: relative to the directory.
    :ivar size: bytes.
    :ivar blake3: digest of the content, of either kind; empty for a removal where it is
        not known.
    :ivar peer: who sent or took it, or ``local``.
    :ivar session: the same for all lines of one run.
    """

    event: Event
    directory: str
    place: bytes
    path: bytes
    size: int
    blake3: bytes
    peer: str
    session: str

    def line(self, time: datetime) -> str:
        """
        As JSON, with its line feed.  Paths are as :func:`printable` shows them.
        """
        document = {
            "time": time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "event": self.event,
            "directory": self.directory,
            "place": printable(self.place),
            "path": printable(self.path),
            "size": self.size,
            "blake3": digest_text(self.blake3),
            "peer": self.peer,
            "session": self.session,
        }
        return json_text(document) + "\n"


#: How every line begins.
_BEGINNING: Final = b'{"time": "'


class _Line(msgspec.Struct):
    time: str
    event: Event
    directory: Annotated[str, msgspec.Meta(min_length=1)]
    place: Annotated[str, msgspec.Meta(min_length=1)]
    path: str
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    blake3: Annotated[str, msgspec.Meta(pattern=r"^((sparse:)?[0-9a-f]{64})?\Z")]
    peer: str
    session: str


@define
class ReceiptReader:
    """
    Reads what :class:`~realize.observe.audit.AuditLog` wrote, whatever became of it.

    :ivar damaged: lines so far that are no receipts.
    :ivar first_damaged: number of the first of them, from 1; 0 if there is none.
    :ivar torn: lines so far that a full disk or a crash has cut short.  What they were
        to tell was not done, or told again.
    """

    file: BinaryIO
    damaged: int = 0
    first_damaged: int = 0
    torn: int = 0

    def __iter__(self) -> Iterator[Receipt]:
        """
        The receipts, in the order in which they were written.

        :raises OSError: the file cannot be read.
        """
        for number, line in enumerate(self._lines(), 1):
            if line.endswith(CANCELLED):
                self.torn += 1
            elif receipt := _receipt(line):
                yield receipt
            elif _is_torn(line):
                self.torn += 1
            elif line != b"\n":
                self.damaged += 1
                self.first_damaged = self.first_damaged or number

    def _lines(self) -> Iterator[bytes]:
        """
        Lines with their line feeds; of those that are too long only the beginning.
        """
        line = self.file.readline(MAX_LINE).removeprefix(BOM_UTF8)
        while line:
            rest = line
            while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
                rest = self.file.readline(MAX_LINE)
            yield line
            line = self.file.readline(MAX_LINE)


def _is_torn(line: bytes) -> bool:
    """
    Whether it is the end of a file that was cut, perhaps with what a file system puts
    behind it after a crash.
    """
    begun = line.rstrip(b"\0")
    return not line.endswith(b"\n") and (
        begun.startswith(_BEGINNING) or _BEGINNING.startswith(begun)
    )


def _receipt(line: bytes) -> Receipt | None:
    """
    :returns: what the line says; None if it is no receipt.
    """
    try:
        read = msgspec.json.decode(line, type=_Line)
        path = RelativePath.parse(unprintable(read.path)).raw
        place = unprintable(read.place)
        blake3 = parse_digest(read.blake3)
    except (ValueError, RecursionError, UnsafePath):
        return None
    if read.event == "final" and not blake3:
        return None
    return Receipt(
        read.event,
        read.directory,
        place,
        path,
        read.size,
        blake3,
        read.peer,
        read.session,
    )
