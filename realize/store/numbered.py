"""
Names for files whose own name another one has: ``photo (1).jpg``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from realize.errors import NameTaken
from realize.paths import cut
from realize.store.filesystem import FileSystem
from realize.store.present import look

#: Most numbers that are tried.
MOST: Final = 99_999

#: Free numbers in a row after which no more are looked at: people delete some.
GAP: Final = 8

#: Bytes of the longest ending that is one.
_LONGEST_ENDING: Final = 16


def marked(name: bytes, mark: bytes, known: FileSystem) -> bytes:
    """
    A name with something before its ending, cut so that it is not too long.

    :param mark: as ``b"(1)"``.
    :param known: where it is to be used.
    """
    stem, ending = os.path.splitext(name)
    if stem.endswith(b".tar"):
        stem, ending = stem[:-4], b".tar" + ending
    if len(ending) > _LONGEST_ENDING:
        stem, ending = name, b""
    behind = b" " + mark + ending
    if known.name_unit == "bytes":
        return cut(stem, known.name_max - len(behind)) + behind
    room = known.name_max - _units(behind)
    while stem and _units(stem) > room:
        stem = cut(stem, len(stem) - 1)
    return stem + behind


def numbered(name: bytes, number: int, known: FileSystem) -> bytes:
    """
    The name with a number; with 0 as it is.
    """
    return marked(name, b"(%d)" % number, known) if number else name


@frozen
class Names:
    """
    The names that a file may have in a directory: its own, and those with numbers.

    :ivar taken: by files, with their sizes; its own comes first.
    :ivar free: the first that is free; None if none is.
    """

    taken: list[tuple[bytes, int]]
    free: bytes | None

    @classmethod
    def of(cls, directory: int, name: bytes, known: FileSystem) -> Names:
        """
        Look which of them are there.

        :param directory: descriptor.
        :raises OSError: they could not be looked at.
        """
        taken, free, gap = list[tuple[bytes, int]](), None, 0
        for each in _all(name, known):
            try:
                status = look(directory, each)
            except NameTaken:
                continue
            if status is not None:
                gap = 0
                taken.append((each, status.st_size))
                continue
            free = free or each
            gap += 1
            if gap == GAP:
                break
        return cls(taken, free)

    def sized(self, size: int) -> list[bytes]:
        """
        Those of files of this size: one of them may be the file.
        """
        return [name for name, nbytes in self.taken if nbytes == size]


def _all(name: bytes, known: FileSystem) -> Iterator[bytes]:
    return (numbered(name, number, known) for number in range(MOST + 1))


def _units(name: bytes) -> int:
    return (
        len(name.decode("utf-8", "surrogateescape").encode("utf-16-le", "replace")) // 2
    )
