"""
A destination in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from realize.delta.exchange import Patch, Sign
from realize.delta.plan import Reuse
from realize.errors import (
    AlreadyExists,
    BadRequest,
    DigestMismatch,
    NameTaken,
    NameTooLong,
    NoSpace,
    NoSuchFile,
    NotAllowed,
    PeerError,
    SameFile,
)
from realize.model import (
    MAX_BATCH_BYTES,
    PREFIX_STEP,
    Claim,
    Confirmed,
    Directory,
    Failure,
    File,
    Finish,
    Finished,
    Held,
    Offer,
    Piece,
    Written,
)
from realize.paths import parent_of
from realize.store.interface import Source
from tests.support.memory.disk import Disk, Node
from tests.support.memory.link import Link
from tests.support.memory.source import MemorySource
from tests.support.memory.store import MemoryStore
from tests.support.memory.trouble import Trouble


class MemoryDestination(MemoryStore):
    """
    A destination on a :class:`Disk`.
    """

    signing = "sign present"

    def __init__(self, disk: Disk, link: Link, trouble: Trouble | None = None) -> None:
        super().__init__(disk, link, trouble)
        self.most_open = 0
        self._offered: dict[bytes, int] = {}
        self._writing: dict[bytes, blake3] = {}
        self._broken: dict[bytes, Failure] = {}

    async def offer(
        self,
        files: Sequence[Offer],
        directories: Sequence[Directory],
        reserve: bool = True,
    ) -> Sequence[Held | Failure]:
        """
        Ask and announce.
        """
        made = False

        def do(item: Offer) -> Held:
            nonlocal made
            if not made and reserve:
                made = True
                for entry in directories:
                    assert parent_of(entry.path) in (b"", *self.disk.directories)
                    self.disk.directories.setdefault(entry.path, entry.mode)
            return self._offer(item, reserve)

        operation = "offer" if reserve else "ask"
        return await self._each(operation, files, do, lambda item: item.path)

    def _offer(self, item: Offer, reserve: bool) -> Held:
        disk, path = self.disk, item.path
        if path in disk.directories or parent_of(path) in disk.files:
            raise NameTaken("a directory has this name")
        if max(map(len, path.split(b"/"))) > 255:
            raise NameTooLong("name too long")
        node = disk.files.get(path)
        present = -1 if node is None else len(node.content)
        if present not in (-1, item.size) and not disk.may_replace:
            raise AlreadyExists("may not be replaced")
        promised = sum(self._offered.values())
        if disk.free is not None and item.size + promised > disk.free:
            raise NoSpace("no space left")
        if reserve:
            self._offered[path] = item.size
            self._broken.pop(path, None)
        partial = len(disk.partials.get(path, b""))
        if node is None:
            return Held(partial)
        return Held(partial, present, node.identity, node.mtime_ns)

    async def compare(self, files: Sequence[Finish]) -> Sequence[Held | Failure]:
        """
        Compare with present files.
        """

        def do(item: Finish) -> Held:
            node = self._present(item)
            return Held(0, len(node.content), node.identity)

        return await self._each("compare", files, do, lambda item: item.path)

    async def write(
        self, pieces: Sequence[Piece], payload: bytes | memoryview
    ) -> Sequence[Written | Failure]:
        """
        Write into partials.
        """
        assert len(payload) == sum(piece.length for piece in pieces) <= MAX_BATCH_BYTES
        position = 0

        def do(piece: Piece) -> Written:
            nonlocal position
            data = bytes(payload[position : position + piece.length])
            position += piece.length
            failure = self._broken.get(piece.path)
            failure = failure or self.trouble.strike("write", piece.path)
            if failure is None:
                try:
                    return Written(self._write(piece, data))
                except PeerError as error:
                    failure = Failure.of(error)
            self._broken[piece.path] = failure
            raise failure.error

        return await self._each("write", pieces, do, lambda _: b"")

    def _write(self, piece: Piece, data: bytes) -> int:
        disk, path = self.disk, piece.path
        if (
            path not in self._offered
            or piece.offset + piece.length > self._offered[path]
        ):
            raise BadRequest("not offered")
        if piece.keep:
            kept = self._keep(piece)
            del disk.partials[path][kept:]
            self._writing[path] = blake3(disk.partials[path])
            return kept
        if piece.offset == 0:
            disk.partials[path] = bytearray()
            self._writing[path] = blake3()
        partial = disk.partials.get(path, bytearray())
        if path not in self._writing or piece.offset != len(partial):
            raise BadRequest("not where the piece before ended")
        partial += data
        self._writing[path].update(data)
        self.most_open = max(self.most_open, len(self._writing))
        return len(partial)

    def _keep(self, piece: Piece) -> int:
        partial = self.disk.partials[piece.path]
        kept = 0
        for index, digest in enumerate(piece.keep):
            end = min((index + 1) * PREFIX_STEP, piece.offset)
            if blake3(partial[:end]).digest() != digest:
                break
            kept = end
        return kept

    def _content(self, wanted: Sign | Patch) -> bytes:
        if not self.disk.may_replace:
            raise NotAllowed("may not be replaced")
        node = self.disk.files.get(wanted.path)
        if node is None:
            raise NoSuchFile("no such file")
        if node.identity != wanted.version:
            raise DigestMismatch("another version")
        return node.content

    async def reuse(
        self, patch: Patch, payload: bytes | memoryview
    ) -> Written | Failure:
        """
        Write, in part from the present file.
        """
        assert len(payload) == patch.fetched <= MAX_BATCH_BYTES
        path = patch.path

        def effect() -> Written | Failure:
            self._begin("reuse")
            failure = self._broken.get(path) or self.trouble.strike("reuse", path)
            if failure is None:
                try:
                    return Written(self._patch(patch, bytes(payload)))
                except PeerError as error:
                    failure = Failure.of(error)
            self._broken[path] = failure
            return failure

        return await self.link.carry("reuse", effect)

    def _patch(self, patch: Patch, payload: bytes) -> int:
        content = self._content(patch)
        for step in patch.steps:
            data = payload[: step.length]
            if isinstance(step, Reuse):
                data = content[step.present : step.present + step.length]
            else:
                payload = payload[step.length :]
            have = self._write(Piece(patch.path, step.offset, len(data)), data)
        return have

    async def finish(self, files: Sequence[Finish]) -> Sequence[Finished | Failure]:
        """
        Make files final.
        """
        return await self._each("finish", files, self._finish, lambda item: item.path)

    def _finish(self, item: Finish) -> Finished:
        disk, path = self.disk, item.path
        if path in self._broken:
            raise self._broken[path].error
        self._offered.pop(path, None)
        hasher = self._writing.pop(path, None)
        if hasher is None:
            node = self._present(item)
            node.durable = True
            return Finished("present", node.identity)
        content = bytes(disk.partials.pop(path))
        if hasher.digest() != item.digest or len(content) != item.size:
            raise DigestMismatch("not what was sent")
        replaces = path in disk.files
        if replaces and not disk.may_replace:
            raise AlreadyExists("may not be replaced")
        node = disk.files[path] = Node(content, item.mtime_ns, item.mode)
        if disk.free is not None:
            disk.free -= item.size
        return Finished("replaced" if replaces else "written", node.identity)

    async def confirm(self, claims: Sequence[Claim]) -> Sequence[Confirmed | Failure]:
        """
        Look once more.
        """

        def do(claim: Claim) -> Confirmed:
            if claim.mark in self.disk.marks:
                raise SameFile("hidden here too")
            node = self.disk.files.get(claim.path)
            if node is None:
                raise NoSuchFile("not there any more")
            if node.identity != claim.version:
                if blake3(node.content).digest() != claim.digest:
                    raise DigestMismatch("has other content")
                node.durable = True
            return Confirmed()

        return await self._each("confirm", claims, do, lambda item: item.path)

    def _present(self, item: Finish | Claim) -> Node:
        node = self.disk.files.get(item.path)
        if node is None:
            raise NoSuchFile("no such file")
        if blake3(node.content).digest() != item.digest:
            raise DigestMismatch("has other content")
        return node

    async def adopt(
        self, source: Source, files: Sequence[File], directories: Sequence[Directory]
    ) -> Sequence[Finished | Failure] | None:
        """
        Rename, if both disks are of one file system.
        """
        if not isinstance(source, MemorySource) or not self.disk.file_system:
            self.link.asked["adopt"] += 1
            return None
        if source.disk.file_system != self.disk.file_system:
            return await self.link.carry("adopt", lambda: None)

        def do(file: File) -> Finished:
            source._node(file.path, file.identity)
            self.disk.make_directories(file.path)
            self.disk.files[file.path] = source.disk.files.pop(file.path)
            return Finished("renamed")

        if not files:
            return []
        return await self._each("adopt", files, do, lambda item: item.path)

    async def close(self) -> None:
        """
        Nothing is held.
        """
