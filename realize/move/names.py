"""
Names that are to be moved, where not everything is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Final, Protocol

from attrs import frozen

from realize.errors import ConfigError, UnsafePath
from realize.model import MAX_BATCH
from realize.paths import RelativePath

#: Bytes of names that one listing looks for.
_MOST_BYTES: Final = 256 * 1024

#: Bytes of a list of names that stay in memory.
_IN_MEMORY: Final = 4 * 1024 * 1024

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Names(Protocol):
    """Paths below the root of the source, of files and directories."""

    def __iter__(self) -> Iterator[bytes]:
        """All of them, from the first on; may be asked for again."""


def batches(names: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """As many at a time as one listing may look for."""
    batch: list[bytes] = []
    nbytes = 0
    for name in names:
        if batch and (len(batch) == MAX_BATCH or nbytes + len(name) > _MOST_BYTES):
            yield batch
            batch, nbytes = [], 0
        batch.append(name)
        nbytes += len(name)
    if batch:
        yield batch


@frozen
class NameList:
    """
    A list of names that was read, kept in a file without a name if it is long.

    Each has its length before it, since a name may hold any byte but null.
    """

    _file: IO[bytes]

    @classmethod
    def read(
        cls, stream: IO[bytes], above: bytes = b"", *, null: bool = False
    ) -> NameList:
        """
        :param stream: names, each followed by a newline; read to its end.
        :param above: absolute path of the source; names may begin with it.
        :param null: whether they are followed by a null byte instead.
        :raises ConfigError: one of them is no path below the source; says which.
        :raises OSError: it cannot be read, or not be kept.
        """
        # Closed when nobody refers to it any more.
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        kept = cls(file)
        for number, line in enumerate(_lines(stream, b"\0" if null else b"\n"), 1):
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            name = _relative(line, above)
            if not name:
                continue
            try:
                RelativePath.parse(name)
            except UnsafePath as error:
                raise ConfigError(f"--files-from: name {number}: {error}") from None
            file.write(len(name).to_bytes(4, "big") + name)
        return kept

    def __iter__(self) -> Iterator[bytes]:
        """See :class:`Names`."""
        at = 0
        while True:
            self._file.seek(at)
            length = self._file.read(4)
            if not length:
                return
            name = self._file.read(int.from_bytes(length, "big"))
            at += 4 + len(name)
            yield name


def _lines(stream: IO[bytes], end: bytes) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(65536):
        *whole, rest = (rest + data).split(end)
        yield from whole
    if rest:
        yield rest


def _relative(line: bytes, above: bytes) -> bytes:
    """A name as ``find`` prints it, without what leads to the source."""
    if above and line.startswith(above + b"/"):
        line = line[len(above) + 1 :]
    while line.startswith(b"./"):
        line = line[2:].lstrip(b"/")
    return b"" if line == b"." else line.rstrip(b"/")
