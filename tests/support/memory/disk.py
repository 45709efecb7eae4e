"""
What a disk holds, without one.
"""

from __future__ import annotations

from itertools import count

from attrs import define, field

from realize.model import DIGEST_SIZE, Notice, Place
from realize.paths import parent_of

_versions = count(1)

#: The time at all sources, nanoseconds since 1970, and when their files were made.
NOW_NS = 1_700_000_000_000_000_000
OLD_NS = NOW_NS - 3600 * 10**9


def place_of(token: bytes) -> Place:
    """
    A place of its own.
    """
    token = token.rjust(DIGEST_SIZE)
    return Place(token, [token])


def new_mark() -> bytes:
    """
    A name that was never there.
    """
    return b".realize-moved-%016x" % next(_versions)


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

    def change(self) -> None:
        """
        It is another version now.
        """
        self.version = next(_versions)


@define
class Disk:
    """
    Files and directories by path.

    :ivar hidden: files that wait to be unlinked.
    :ivar marks: names that are seen in its root, and beside its hidden files.
    :ivar partials: files under construction.
    :ivar free: bytes left, None for plenty.
    :ivar gone: whether the root has vanished.
    :ivar file_system: disks of the same can rename between each other.
    :ivar may_replace: whether existing names may be taken.
    """

    name: str = "disk"
    files: dict[bytes, Node] = field(factory=dict)
    hidden: dict[bytes, Node] = field(factory=dict)
    marks: set[bytes] = field(factory=set)
    partials: dict[bytes, bytearray] = field(factory=dict)
    directories: dict[bytes, int] = field(factory=dict)
    notices: list[Notice] = field(factory=list)
    free: int | None = None
    gone: bool = False
    file_system: str = ""
    may_replace: bool = True
    place: Place = field(factory=lambda: place_of(b"%d" % next(_versions)))

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
        node.change()

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
