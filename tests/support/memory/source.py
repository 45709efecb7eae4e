"""
A source in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

from realize.delta.exchange import Sign
from realize.digest import DIGEST_SIZE
from realize.errors import BadRequest, NoSuchFile, SourceChanged, StillOpen
from realize.model import (
    EVERYTHING,
    MAX_BATCH_BYTES,
    PREFIX_STEP,
    Digests,
    Directory,
    Extent,
    Failure,
    File,
    Notice,
    Page,
    Prefix,
    Range,
    Removal,
    Removed,
    Subset,
)
from tests.support.memory.disk import NOW_NS, Disk, Node, new_mark
from tests.support.memory.link import Link
from tests.support.memory.store import MemoryStore
from tests.support.memory.trouble import Trouble


class MemorySource(MemoryStore):
    """
    A source on a :class:`Disk`.
    """

    signing = "sign"

    def __init__(
        self,
        disk: Disk,
        link: Link,
        trouble: Trouble | None = None,
        page_size: int = 1000,
    ) -> None:
        super().__init__(disk, link, trouble)
        self._page_size = page_size
        self._walk: Iterator[bytes] = iter(())
        self._cursor = 0
        #: Files that this store has hidden, and their marks.
        self._mine: dict[bytes, bytes] = {}
        self._hashers: dict[bytes, tuple[int, blake3]] = {}

    async def list(
        self, cursor: int, restore: bool = True, subset: Subset = EVERYTHING
    ) -> Page:
        """
        A page of the listing.
        """
        return await self.link.carry(
            "list", lambda: self._list(cursor, restore, subset)
        )

    def _list(self, cursor: int, restore: bool, subset: Subset) -> Page:
        self._begin("list")
        hidden: list[Notice] = []
        if cursor not in (0, self._cursor):
            raise BadRequest("not the next page")
        if cursor == 0:
            abandoned = self.disk.hidden.keys() - self._mine.keys()
            if restore:
                self._put_back(abandoned)
            else:
                hidden = [Notice(path, "hidden", "left") for path in sorted(abandoned)]
            found = [
                path
                for path in self.disk.files
                if not subset.names or _is_wanted(path, subset)
            ]
            self._walk = iter(found)
            self._cursor = 0
            hidden += [
                Notice(name, "missing", "is not there")
                for name in subset.names
                if not any(_is_wanted(path, Subset([name])) for path in self.disk.files)
            ]
        notices = [*self.disk.notices, *hidden] if cursor == 0 else []
        files: list[File] = []
        directories: dict[bytes, Directory] = {}
        self._cursor += 1
        for path in self._walk:
            node = self.disk.files.get(path)
            if node is None:
                continue
            files.append(
                File(path, len(node.content), node.mtime_ns, node.mode, node.identity)
            )
            parts = path.split(b"/")[:-1]
            for depth in range(len(parts)):
                above = b"/".join(parts[: depth + 1])
                directories[above] = Directory(above, self.disk.directories[above])
            if len(files) == self._page_size:
                break
        else:
            self._cursor = 0
        return Page(
            files, list(directories.values()), list(notices), self._cursor, NOW_NS
        )

    async def digest(self, files: Sequence[Prefix]) -> Sequence[Digests | Failure]:
        """
        Digest beginnings of files.
        """
        return await self._each("digest", files, self._digest, lambda item: item.path)

    def _digest(self, prefix: Prefix) -> Digests:
        content = self._node(prefix.path, prefix.identity).content[: prefix.length]
        ends = [*range(PREFIX_STEP, len(content), PREFIX_STEP), len(content)]
        return Digests([blake3(content[:end]).digest() for end in ends])

    async def read(
        self, ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes]:
        """
        Read parts of files; only the last part of a file is checked.
        """
        assert sum(item.length for item in ranges) <= MAX_BATCH_BYTES
        parts: list[bytes] = []

        def do(item: Range) -> Extent:
            node = self.disk.files.get(item.path)
            if node is None:
                raise NoSuchFile("gone")
            end = item.offset + item.length
            data = node.content[item.offset : end]
            if item.offset == 0:
                self._node(item.path, item.identity)
                self._hashers[item.path] = (0, blake3())
            at, hasher = self._hashers.get(item.path, (-1, blake3()))
            if at == item.offset:
                hasher.update(data)
                self._hashers[item.path] = (end, hasher)
            if len(data) < item.length or end == len(node.content):
                self._node(item.path, item.identity)
            parts.append(data)
            ended = end == len(node.content) and at == item.offset
            return Extent(len(data), hasher.digest() if ended else b"")

        extents = await self._each("read", ranges, do, lambda item: item.path)
        return extents, b"".join(parts)

    async def remove(self, files: Sequence[Removal]) -> Sequence[Removed | Failure]:
        """
        Delete files.
        """

        def do(item: Removal) -> Removed:
            assert len(item.digest) == DIGEST_SIZE
            return self._remove(item)

        return await self._each("remove", files, do, lambda item: item.path)

    async def prune(self, directories: Sequence[bytes]) -> None:
        """
        Remove what is empty.
        """

        def effect() -> None:
            self._begin("prune")
            for path in directories:
                self.disk.prune(path + b"/")

        await self.link.carry("prune", effect)

    def _content(self, wanted: Sign) -> bytes:
        return self._node(wanted.path, wanted.version).content

    def _remove(self, item: Removal) -> Removed:
        disk, path = self.disk, item.path
        if item.step in ("unlink", "restore"):
            node = disk.hidden.get(path) if path in self._mine else None
            if node is None:
                if path in disk.files:
                    raise SourceChanged("is not hidden")
                return Removed(found=False)
            if item.step == "restore" or node.identity != item.identity:
                self._put_back({path})
                if item.step == "unlink":
                    raise SourceChanged("changed while it was hidden")
            else:
                del disk.hidden[path]
                disk.marks.discard(self._mine.pop(path))
            return Removed()
        if path in self._mine and path in disk.hidden:
            return Removed(mark=self._mine[path])
        if path not in disk.files:
            return Removed(found=False)
        self._node(path, item.identity)
        disk.hidden[path] = disk.files.pop(path)
        mark = self._mine[path] = new_mark()
        disk.marks.add(mark)
        return Removed(mark=mark)

    def _node(self, path: bytes, identity: bytes) -> Node:
        node = self.disk.files.get(path)
        if node is None:
            raise NoSuchFile("no such file")
        if node.identity != identity:
            raise SourceChanged("changed since it was listed")
        if node.writers:
            raise StillOpen("open for writing")
        return node

    async def close(self) -> None:
        """
        Put hidden files back.
        """
        self._put_back(set(self._mine))

    def _put_back(self, paths: set[bytes]) -> None:
        for path in paths & self.disk.hidden.keys():
            node = self.disk.hidden.pop(path)
            node.change()  # renaming changes the ctime
            self.disk.marks.discard(self._mine.pop(path, b""))
            if path in self.disk.files:
                path += b".realize-kept-%016x" % node.version
            self.disk.files[path] = node


def _is_wanted(path: bytes, subset: Subset) -> bool:
    return path in subset.names or (
        subset.recurse and any(path.startswith(name + b"/") for name in subset.names)
    )
