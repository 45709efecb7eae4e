"""
Stores in memory, with real behaviour: what a disk does, without one.

A :class:`Disk` outlives the stores that are opened on it.  A :class:`Link` lies between
the mover and a store: it delays, reorders answers, breaks.  :class:`Trouble` makes
single operations fail, or does something just before they take place.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import ClassVar, TypeVar

from attrs import define, field
from blake3 import blake3
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from realize.delta.exchange import PAGE, Patch, Sign, Signed
from realize.delta.plan import Reuse
from realize.delta.signature import Signature, sign_chunks, sign_groups
from realize.errors import (
    AlreadyExists,
    BadRequest,
    DigestMismatch,
    DirectoryGone,
    NameTaken,
    NameTooLong,
    NoSpace,
    NoSuchFile,
    NotAllowed,
    PeerError,
    PeerGone,
    SourceChanged,
    StillOpen,
)
from realize.model import (
    DIGEST_SIZE,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    PREFIX_STEP,
    Digests,
    Directory,
    Extent,
    Failure,
    File,
    Finish,
    Finished,
    Held,
    Notice,
    Offer,
    Page,
    Piece,
    Place,
    Prefix,
    Range,
    Removal,
    Removed,
    Written,
)
from realize.paths import parent_of
from realize.store.interface import Source

T = TypeVar("T")

_versions = count(1)

#: The time at all sources, nanoseconds since 1970, and when their files were made.
NOW_NS = 1_700_000_000_000_000_000
OLD_NS = NOW_NS - 3600 * 10**9


@define
class Node:
    """
    A file of a :class:`Disk`.

    :ivar writers: processes that have it open for writing.
    :ivar durable: whether it would survive a power cut.
    """

    content: bytes
    mtime_ns: int = OLD_NS
    mode: int = 0o644
    version: int = field(factory=lambda: next(_versions))
    writers: int = 0
    durable: bool = True

    @property
    def identity(self) -> bytes:
        """
        Differs from that of any other version of any file.
        """
        return b"%d" % self.version


@define
class Disk:
    """
    Files and directories by path.

    :ivar hidden: files that wait to be unlinked.
    :ivar partials: files under construction.
    :ivar free: bytes left, None for plenty.
    :ivar gone: whether the root has vanished.
    :ivar file_system: disks of the same can rename between each other.
    :ivar may_replace: whether existing names may be taken.
    """

    name: str = "disk"
    files: dict[bytes, Node] = field(factory=dict)
    hidden: dict[bytes, Node] = field(factory=dict)
    partials: dict[bytes, bytearray] = field(factory=dict)
    directories: dict[bytes, int] = field(factory=dict)
    notices: list[Notice] = field(factory=list)
    free: int | None = None
    gone: bool = False
    file_system: str = ""
    may_replace: bool = True
    place: Place = field(factory=lambda: Place(b"%d" % next(_versions), []))

    def put(self, path: bytes, content: bytes, mtime_ns: int = OLD_NS) -> None:
        """
        Create or overwrite a file, and the directories above it.
        """
        self.files[path] = Node(content, mtime_ns)
        self.make_directories(path)

    def make_directories(self, path: bytes) -> None:
        """
        Create what is missing above *path*.
        """
        while path := parent_of(path):
            self.directories.setdefault(path, 0o755)

    def append(self, path: bytes, more: bytes) -> None:
        """
        Another process writes to a file, hidden or not, and closes it.
        """
        node = self.hidden[path] if path in self.hidden else self.files[path]
        node.content += more
        node.version = next(_versions)

    def power_cut(self) -> None:
        """
        Lose what is not durable; of a partial, the last half becomes zeros.
        """
        self.files = {path: node for path, node in self.files.items() if node.durable}
        for partial in self.partials.values():
            half = len(partial) // 2
            partial[half:] = bytes(len(partial) - half)

    def prune(self, path: bytes) -> None:
        """
        Remove the directories above *path* that are empty.
        """
        while path := parent_of(path):
            below = path + b"/"
            if any(name.startswith(below) for name in (*self.files, *self.directories)):
                return
            self.directories.pop(path, None)

    def contents(self) -> dict[bytes, bytes]:
        """
        All files, hidden ones too, with their content.
        """
        return {
            path: node.content
            for path, node in (*self.hidden.items(), *self.files.items())
        }


class Link:
    """
    The way between the mover and a store.

    Requests arrive in the order in which they were sent; answers may overtake each
    other.  Without a delay, everything happens at once.

    :param delay: seconds for a round trip.
    :param jitter: seconds added to the way back of each answer.
    """

    def __init__(
        self,
        clock: Clock,
        delay: float = 0.0,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.asked = Counter[str]()
        self.most_in_progress = 0
        self.lost = False
        self._clock = clock
        self._delay = delay
        self._jitter = jitter
        self._last_arrival = 0.0
        self._waiting: dict[Deferred[None], IDelayedCall] = {}
        self._lose_at: int | None = None
        self._events = 0

    def lose_at(self, event: int) -> None:
        """
        Break at the so-many-th event from now: a request that arrives, or an answer.
        """
        self._lose_at = self._events + event

    def lose(self) -> None:
        """
        Break now: what has not arrived does not happen, no answer comes any more.
        """
        self.lost = True
        waiting, self._waiting = self._waiting, {}
        for call in waiting.values():
            call.cancel()
        for turn in waiting:
            if not turn.called:  # cancelled on account of one before
                turn.errback(PeerGone("connection lost"))

    async def carry(self, operation: str, effect: Callable[[], T]) -> T:
        """
        Let a request arrive, take effect, and its answer come back.
        """
        self._check()
        self.asked[operation] += 1
        if self._delay:
            arrival = max(self._clock.seconds() + self._delay / 2, self._last_arrival)
            self._last_arrival = arrival
            await self._wait(arrival - self._clock.seconds())
        self._count()
        answer: T | PeerError
        try:
            answer = effect()
        except PeerError as error:
            answer = error
        if self._delay:
            await self._wait(self._delay / 2 + self._jitter())
        self._count()
        if isinstance(answer, PeerError):
            raise answer
        return answer

    def _check(self) -> None:
        if self.lost:
            raise PeerGone("connection lost")

    def _count(self) -> None:
        self._check()
        self._events += 1
        if self._events == self._lose_at:
            self.lose()
            self._check()

    async def _wait(self, seconds: float) -> None:
        turn: Deferred[None] = Deferred(self._forget)
        self._waiting[turn] = self._clock.callLater(seconds, self._arrive, turn)
        self.most_in_progress = max(self.most_in_progress, len(self._waiting))
        await turn

    def _arrive(self, turn: Deferred[None]) -> None:
        del self._waiting[turn]
        turn.callback(None)

    def _forget(self, turn: Deferred[None]) -> None:
        call = self._waiting.pop(turn, None)
        if call is not None:
            call.cancel()


@define
class Event:
    """
    What :class:`Trouble` does to one operation on one path, or to a whole call.
    """

    operation: str
    path: bytes | None
    times: int
    action: Callable[[], PeerError | None]


class Trouble:
    """
    A schedule of faults.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []

    def fail(
        self,
        operation: str,
        error: PeerError,
        path: bytes | None = None,
        times: int = 1,
    ) -> None:
        """
        Let an operation fail.

        :param path: for this file of a batch; None for the whole call.
        """
        self._events.append(Event(operation, path, times, lambda: error))

    def before(
        self, operation: str, path: bytes | None, action: Callable[[], None]
    ) -> None:
        """
        Do something just before an operation takes place, once.
        """

        def act() -> None:
            action()

        self._events.append(Event(operation, path, 1, act))

    def strike(self, operation: str, path: bytes | None) -> Failure | None:
        """
        Do what is due.

        :returns: what the operation is to answer instead.
        :raises PeerError: for a whole call.
        """
        for event in self._events:
            if event.times and (event.operation, event.path) == (operation, path):
                event.times -= 1
                error = event.action()
                if error is not None and path is None:
                    raise error
                if error is not None:
                    return Failure.of(error)
        return None


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
        return Signed(
            [
                sign_chunks(
                    content[span.offset : span.offset + span.length],
                    span.offset,
                    wanted.cutting,
                )
                for span in wanted.spans
            ]
        )
    stream = io.BytesIO(content)
    pages = list(sign_groups(stream, 0, wanted.cutting, PAGE))
    if wanted.page >= len(pages):
        return Signed([Signature(len(content), [], b"")])
    is_last = wanted.page == len(pages) - 1
    return Signed([pages[wanted.page]], blake3(content).digest() if is_last else b"")


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
        self._mine: set[bytes] = set()
        self._hashers: dict[bytes, tuple[int, blake3]] = {}

    async def list(self, cursor: int, restore: bool = True) -> Page:
        """
        A page of the listing.
        """
        return await self.link.carry("list", lambda: self._list(cursor, restore))

    def _list(self, cursor: int, restore: bool) -> Page:
        self._begin("list")
        hidden: list[Notice] = []
        if cursor not in (0, self._cursor):
            raise BadRequest("not the next page")
        if cursor == 0:
            abandoned = set(self.disk.hidden) - self._mine
            if restore:
                self._put_back(abandoned)
            else:
                hidden = [Notice(path, "hidden", "left") for path in sorted(abandoned)]
            self._walk = iter(list(self.disk.files))
            self._cursor = 0
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

    async def remove(
        self, files: Sequence[Removal], prune: bool = False
    ) -> Sequence[Removed | Failure]:
        """
        Delete files.
        """

        def do(item: Removal) -> Removed:
            assert len(item.digest) == DIGEST_SIZE
            removed = self._remove(item)
            if prune and item.step in ("now", "unlink"):
                self.disk.prune(item.path)
            return removed

        return await self._each("remove", files, do, lambda item: item.path)

    def _content(self, wanted: Sign) -> bytes:
        return self._node(wanted.path, wanted.version).content

    def _remove(self, item: Removal) -> Removed:
        disk, path = self.disk, item.path
        if item.step in ("unlink", "restore"):
            node = disk.hidden.pop(path, None)
            if node is None:
                return Removed(found=False)
            if item.step == "restore" or node.identity != item.identity:
                disk.files.setdefault(path, node)
            if item.step == "unlink" and node.identity != item.identity:
                raise SourceChanged("changed while it was hidden")
            return Removed()
        if path not in disk.files:
            return Removed(found=False)
        self._node(path, item.identity)
        node = disk.files.pop(path)
        if item.step == "hide":
            disk.hidden[path] = node
            self._mine.add(path)
        return Removed()

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
        self._put_back(self._mine)

    def _put_back(self, paths: set[bytes]) -> None:
        for path in paths & self.disk.hidden.keys():
            node = self.disk.hidden.pop(path)
            node.version = next(_versions)  # renaming changes the ctime
            self.disk.files.setdefault(path, node)


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

    @property
    def takes_holes(self) -> bool:
        """
        A disk in memory has none.
        """
        return False

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

    def _present(self, item: Finish) -> Node:
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
