"""
Receipts: a file with one JSON object for each file that became final or was removed.

A line is written after the file is final and before its source may go, so whoever
finds the source gone finds the line.  ``realize verify`` checks files against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from realize.observe.appending import AppendedFile
from realize.observe.receipts import Receipt

#: Seconds that receipts wait for a pipe, or for a lock on their file.
PATIENCE: Final = 10.0


@define
class AuditLog:
    """
    Appends receipts to a file, beside others who do; may be used from several threads.

    :ivar path: of the file, created readable by its owner and group.
    :raises OSError: it cannot be opened.
    """

    path: str
    _file: AppendedFile = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file = AppendedFile(self.path, PATIENCE)

    def write(self, receipts: Iterable[Receipt]) -> None:
        """
        Append a group of lines, and make them durable.  Blocks.

        :raises OSError: they are not in the file, or only in part.
        """
        now = datetime.now(UTC)
        text = "".join(each.line(now) for each in receipts)
        self._file.append(text.encode("utf-8"), sync=True)

    def reopen(self) -> None:
        """
        Go on in a new file of the same name, after the old one was rotated away.

        :raises OSError: the new one cannot be opened; the old one stays in use.
        """
        self._file.reopen()
