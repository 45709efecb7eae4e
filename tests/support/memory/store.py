"""
Stores in memory, with real behaviour: what both kinds share.

A :class:`~tests.support.memory.disk.Disk` outlives the stores that are opened on it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

from blake3 import blake3

from realize.delta.exchange import PAGE, Sign, Signed
from realize.delta.signature import (
    Signature,
    pages_of,
    sign_blocks,
    sign_chunks,
    sign_group,
)
from realize.errors import BadRequest, DirectoryGone, PeerError
from realize.model import MAX_BATCH, Failure, Place
from tests.support.memory.disk import Disk, new_mark
from tests.support.memory.link import Link
from tests.support.memory.trouble import Trouble

T = TypeVar("T")


#: What names each file once.
_ONCE = frozenset({"offer", "ask", "compare", "finish", "digest", "remove"})


class MemoryStore:
    """
    What both kinds share.

    :cvar signing: what signing is called here.
    """

    signing: ClassVar[str]

    def __init__(self, disk: Disk, link: Link, trouble: Trouble | None = None) -> None:
        self.disk = disk
        self.link = link
        self.trouble = trouble or Trouble()
        self._mark = b""

    @property
    def name(self) -> str:
        """
        What messages call it.
        """
        return self.disk.name

    async def place(self) -> Place:
        """
        Where the root is.
        """
        return await self.link.carry("place", lambda: self.disk.place)

    async def mark(self) -> bytes:
        """
        Make a name.
        """
        return await self.link.carry("mark", self._make_mark)

    def _make_mark(self) -> bytes:
        self._mark = new_mark()
        self.disk.marks.add(self._mark)
        return self._mark

    async def unmark(self) -> None:
        """
        Remove it.
        """
        await self.link.carry("unmark", self._remove_mark)

    def _remove_mark(self) -> None:
        self.disk.marks.discard(self._mark)

    async def sees(self, mark: bytes, above: bool = True) -> bool:
        """
        Look for the mark of another.
        """
        return await self.link.carry("sees", lambda: mark in self.disk.marks)

    async def _each(
        self,
        operation: str,
        items: Sequence[T],
        do: Callable[[T], object],
        path_of: Callable[[T], bytes],
    ) -> list:  # type: ignore[type-arg]  # the caller knows what *do* returns
        """
        Do something for every item of a batch; what it raises is its outcome.
        """
        assert 0 < len(items) <= MAX_BATCH
        if operation in _ONCE and len(set(map(path_of, items))) < len(items):
            raise BadRequest("a file twice")

        def effect() -> list[object]:
            self._begin(operation)
            return [self._one(operation, item, do, path_of(item)) for item in items]

        return await self.link.carry(operation, effect)

    async def sign(self, wanted: Sign) -> Signed:
        """
        A part of a signature.
        """

        def effect() -> Signed:
            self._begin(self.signing)
            failure = self.trouble.strike(self.signing, wanted.path)
            if failure is not None:
                raise failure.error
            content = self._content(wanted)
            wanted.check(len(content))
            return _signed(content, wanted)

        return await self.link.carry(self.signing, effect)

    def _begin(self, operation: str) -> None:
        self.trouble.strike(operation, None)
        if self.disk.gone:
            raise DirectoryGone(f"{self.name}: the directory is gone")

    def _one(
        self, operation: str, item: T, do: Callable[[T], object], path: bytes
    ) -> object:
        failure = self.trouble.strike(operation, path)
        if failure is not None:
            return failure
        try:
            return do(item)
        except PeerError as error:
            return Failure.of(error)


def _signed(content: bytes, wanted: Sign) -> Signed:
    if wanted.spans:
        signatures = []
        for span in wanted.spans:
            part = content[span.offset : span.offset + span.length]
            if wanted.blocks:
                stream = io.BytesIO(part)
                signatures.append(sign_group(stream, span.offset, wanted.cutting))
            else:
                signatures.append(sign_chunks(part, span.offset, wanted.cutting))
        return Signed(signatures)
    groups = sign_blocks(io.BytesIO(content), 0, wanted.cutting)
    pages = list(pages_of(groups, 0, PAGE))
    if wanted.page >= len(pages):
        return Signed([Signature(len(content), [], b"")])
    is_last = wanted.page == len(pages) - 1
    return Signed([pages[wanted.page]], blake3(content).digest() if is_last else b"")
