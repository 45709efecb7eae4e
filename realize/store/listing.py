"""
Listing a source: a walk that goes on from page to page.

The walk holds one open directory per level and nothing per file; where descriptors are
few, fewer directories, and the names that are left in the others.  It follows no
symbolic links, and enters directories on other file systems like any other.  It may be
told which names to look for; then it reads no directory that is not below one of them.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import define, field

from realize.errors import NoSuchFile, PeerError
from realize.model import (
    EVERYTHING,
    MAX_TIME,
    MIN_TIME,
    Directory,
    File,
    Notice,
    NoticeKind,
    Page,
    Subset,
)
from realize.paths import (
    MAX_COMPONENTS,
    MAX_PATH,
    is_hidden,
    is_hidden_directory,
    is_partial,
    join,
    name_of_hidden,
    printable,
)
from realize.store.hidden import (
    PROBE,
    empty_abandoned,
    is_abandoned,
    is_unlinked,
    look_into_abandoned,
    tidy_probe,
    uncover_abandoned,
)
from realize.store.identity import identity_of
from realize.store.refusals import refusal
from realize.store.root import OPEN_DIRECTORY, Root
from realize.store.sparse import holes_of
from realize.texts import Line

if TYPE_CHECKING:
    from os import _ScandirIterator

#: Most entries on a page, and about how many bytes its names may take.
PAGE_ENTRIES: Final = 1000
PAGE_BYTES: Final = 1024 * 1024

#: Seconds after which a page ends, full or not, looked at after so many names.
PAGE_SECONDS: Final = 1.0
_LOOK_AT_CLOCK: Final = 64

#: Bytes of an entry besides its names.
_ENTRY_BYTES: Final = 100

#: Permission bits that are moved, and those that are not.
_PERMISSIONS: Final = 0o777
_SET_ID: Final = 0o7000


#: Names to look for, by the first component of their paths; what follows it, or None
#: where all below is meant.
_Wanted = dict[bytes, "_Wanted | None"]


def _wanted(subset: Subset) -> _Wanted | None:
    if not subset.names:
        return None
    wanted: _Wanted = {}
    for name in subset.names:
        parts = name.split(b"/")
        here = wanted
        for part in parts[:-1]:
            below = here.setdefault(part, {})
            if below is None:
                break
            here = below
        else:
            if subset.recurse:
                here[parts[-1]] = None
            else:
                here.setdefault(parts[-1], {})
    return wanted


@define(eq=False)
class _Level:
    """
    A directory that the walk is in.

    :ivar depth: components of *path*.
    :ivar fd: descriptor; -1 while it is closed, to have others open.
    :ivar inodes: whether inode numbers tell files apart on its file system.
    :ivar entries: what is left of its listing; None if it is not to be listed.
    :ivar wanted: the only names in it that are looked for; None for all.
    :ivar restored: names to look at first: wanted, put back after a crash, or what was
        left of the listing when it was closed.
    :ivar seen: names to pass over when the listing gets to them.
    :ivar hidden: names in it that files are hidden under, or in; None if nobody has
        looked for them.
    :ivar page: number of the last page that has it among its directories.
    :ivar looked_at: whether it was found out if files can be removed from it.
    :ivar told_too_long: whether names too long for a path have been reported.
    :ivar counted: how many descriptors of it are in the account of the root.
    """

    path: bytes
    depth: int
    fd: int
    mode: int
    inodes: bool
    entries: _ScandirIterator[str] | None
    wanted: _Wanted | None = None
    restored: list[bytes] = field(factory=list)
    seen: set[bytes] = field(factory=set)
    hidden: list[bytes] | None = None
    page: int = 0
    told_too_long: bool = False
    looked_at: bool = False
    counted: int = 0

    def next_name(self) -> bytes | None:
        """
        :raises OSError: the directory cannot be read further.
        """
        if self.restored:
            return self.restored.pop()
        if self.entries is not None:
            for entry in self.entries:
                name = os.fsencode(entry.name)
                if name not in self.seen:
                    return name
        return None

    def close(self) -> None:
        """
        Close what is open of it.
        """
        if self.entries is not None:
            self.entries.close()
            self.entries = None
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def is_ours(name: bytes) -> bool:
    """
    Whether a file of this single name is none that a user made.
    """
    return is_partial(name) or bool(name_of_hidden(name)) or is_unlinked(name)


class Walk:
    """
    One walk over a source.

    :param root: held open by the caller while the walk lasts.
    :param subset: what to look for.
    :param skip: name in the root that is passed over in silence.
    :param restore: whether files that a crash left hidden are put back and listed;
        otherwise nothing is changed, and a notice tells of each.
    :param now_ns: the time, in nanoseconds since 1970.
    :param seconds: a clock that never steps.
    :raises PeerError: the root cannot be opened.
    """

    def __init__(
        self,
        root: Root,
        subset: Subset = EVERYTHING,
        skip: bytes = b"",
        restore: bool = True,
        now_ns: Callable[[], int] = time.time_ns,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._restores = restore
        self._now_ns = now_ns
        self._seconds = seconds
        self._number = 0
        self._levels: list[_Level] = []
        self._files: list[File] = []
        self._directories: list[Directory] = []
        self._notices: list[Notice] = []
        self._bytes = 0
        self._root = root
        with root.directory(b"") as directory:
            self._enter(b"", os.dup(directory), _wanted(subset))
        if skip:
            self._levels[0].seen.add(skip)

    def page(self) -> Page:
        """
        The next page.

        :attr:`~realize.model.Page.next` is the number of the one after it.
        """
        self._number += 1
        self._files, self._directories, self._notices = [], [], []
        self._bytes = 0
        until = self._seconds() + PAGE_SECONDS
        looked_at = 0
        while self._levels:
            self._step(self._levels[-1])
            looked_at += 1
            if len(self._files) + len(self._notices) >= PAGE_ENTRIES:
                break
            if self._bytes >= PAGE_BYTES:
                break
            if not looked_at % _LOOK_AT_CLOCK and self._seconds() >= until:
                break
        return Page(
            files=self._files,
            directories=self._directories,
            notices=self._notices,
            next=self._number if self._levels else 0,
            now_ns=self._now_ns(),
        )

    def close(self) -> None:
        """
        Give up what is open.
        """
        while self._levels:
            self._leave()

    def _step(self, level: _Level) -> None:
        if level.fd < 0 and not self._open_again(level):
            self._leave()
            return
        try:
            name = level.next_name()
        except OSError as error:
            self._unreadable(level.path, error)
            self._leave()
            return
        if name is None:
            self._leave()
            return
        path = level.path + b"/" + name if level.path else name
        try:
            status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and not is_ours(name):
                self._add_file(level, path, status)
            else:
                self._add_other(level, name, path, status.st_mode)
        except FileNotFoundError:
            if level.wanted is not None and not self._recover(level, name):
                self._notice(path, "missing", "is not there")
        except Exception as error:  # noqa: BLE001 - of this file only
            self._unreadable(path, error)

    def _add_file(self, level: _Level, path: bytes, status: os.stat_result) -> None:
        if self._is_too_long(level, path):
            return
        ctime_ns = status.st_ctime_ns
        if not MIN_TIME <= status.st_mtime_ns <= MAX_TIME:
            self._notice(path, "unreadable", "has a time that cannot be carried")
            return
        if not level.looked_at:
            level.looked_at = True
            known = self._root.filesystem_of(status.st_dev, level.fd)
            if why := refusal(level.fd, known):
                self._notice(level.path, "unremovable", why)
        if level.page != self._number:
            self._add_directories()
        self._files.append(
            File(
                path,
                status.st_size,
                status.st_mtime_ns,
                status.st_mode & _PERMISSIONS,
                identity_of(status, level.inodes),
                holes_of(status),
                ctime_ns if MIN_TIME <= ctime_ns <= MAX_TIME else 0,
            )
        )
        self._bytes += len(path) + _ENTRY_BYTES
        if status.st_mode & _SET_ID:
            self._notice(path, "set-id")

    def _add_directories(self) -> None:
        for level in self._levels:
            if level.page != self._number:
                level.page = self._number
                if level.path:
                    self._directories.append(Directory(level.path, level.mode))
                    self._bytes += len(level.path) + _ENTRY_BYTES

    def _add_other(self, level: _Level, name: bytes, path: bytes, mode: int) -> None:
        if stat.S_ISLNK(mode):
            self._notice(path, "symlink")
        elif is_partial(name):
            self._notice(path, "partial")
        elif stat.S_ISREG(mode):
            self._uncover(level, name)
        elif name == PROBE:
            if self._restores:
                tidy_probe(level.fd)
        elif not stat.S_ISDIR(mode):
            self._notice(path, "special")
        elif is_hidden_directory(name):
            if self._restores:
                self._restore(level, name)
            else:
                self._tell_of_hidden(level, name)
        elif not self._is_too_long(level, path):
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=level.fd)
            self._enter(
                path, fd, None if level.wanted is None else level.wanted.get(name)
            )

    def _restore(self, level: _Level, name: bytes) -> None:
        for was, now in empty_abandoned(level.fd, name):
            self._restored(level, was, now)

    def _uncover(self, level: _Level, name: bytes) -> None:
        """
        Put a file back that a crash left under a hidden name.
        """
        if is_unlinked(name):
            return  # It goes by itself.
        was = name_of_hidden(name)
        if not self._restores:
            if is_abandoned(level.fd, name):
                self._tell(level, was)
            return
        now = uncover_abandoned(level.fd, name)
        if now is not None:
            self._restored(level, was, now)

    def _recover(self, level: _Level, name: bytes) -> bool:
        """
        Look for a wanted name among what a crash left hidden, and put it back.

        :returns: whether it is there.
        """
        if level.hidden is None:
            names = map(os.fsencode, os.listdir(level.fd))
            level.hidden = [each for each in names if is_hidden(each)]
        found = False
        for each in level.hidden:
            if name_of_hidden(each) == name:
                found = True
                self._uncover(level, each)
            elif is_hidden_directory(each) and name in look_into_abandoned(
                level.fd, each
            ):
                found = True
                if self._restores:
                    self._restore(level, each)
                else:
                    self._tell(level, name)
        return found

    def _restored(self, level: _Level, was: bytes, now: bytes) -> None:
        if level.wanted is None or was in level.wanted:
            level.restored.append(now)
        level.seen.add(now)
        if now != was:
            self._notice(
                join(level.path, now),
                "kept",
                f"put back after a crash; another file is called {printable(was)}",
            )

    def _tell(self, level: _Level, name: bytes) -> None:
        self._notice(
            join(level.path, name),
            "hidden",
            "left by a crash; a move puts it back, and moves it",
        )

    def _tell_of_hidden(self, level: _Level, name: bytes) -> None:
        for each in look_into_abandoned(level.fd, name):
            self._tell(level, each)

    def _enter(self, path: bytes, fd: int, wanted: _Wanted | None) -> None:
        try:
            status = os.fstat(fd)
            known = self._root.filesystem_of(status.st_dev, fd)
            entries = os.scandir(fd) if wanted is None else None
        except BaseException:
            os.close(fd)
            raise
        mode = status.st_mode & _PERMISSIONS
        level = _Level(path, len(self._levels), fd, mode, known.inodes, entries, wanted)
        if wanted is not None:
            level.restored.extend(reversed(wanted))
        self._levels.append(level)
        self._count(level, 2 if wanted is None else 1)

    def _leave(self) -> None:
        self._close(self._levels.pop())

    def _close(self, level: _Level) -> None:
        if level.fd >= 0:
            level.close()
            self._root.descriptors.give(level.counted)
            level.counted = 0

    def _make_room(self) -> bool:
        """
        Close the highest level that is open, because no more descriptors can be had.
        What is left of its listing is remembered meanwhile.

        :returns: whether there was one, besides the level that the walk is in.
        """
        for level in self._levels[:-1]:
            if level.fd >= 0:
                left: list[bytes] = []
                try:
                    left.extend(iter(level.next_name, None))
                except OSError as error:
                    self._unreadable(level.path, error)
                level.restored = left[::-1]
                self._close(level)
                return True
        return False

    def _count(self, level: _Level, descriptors: int) -> None:
        """
        Put what *level* has open into the account; for the level that the walk is in
        there is always room.
        """
        while not self._root.descriptors.try_take(descriptors):
            if not self._make_room():
                return
        level.counted = descriptors

    def _open_again(self, level: _Level) -> bool:
        """
        :returns: whether it is there still, and could be opened.
        """
        try:
            with self._root.directory(level.path) as fd:
                level.fd = os.dup(fd)
        except NoSuchFile:
            return False
        except (PeerError, OSError) as error:
            self._notice(level.path, "unreadable", f"cannot be read: {error}")
            return False
        self._count(level, 1)
        return True

    def _is_too_long(self, level: _Level, path: bytes) -> bool:
        if len(path) <= MAX_PATH and level.depth < MAX_COMPONENTS:
            return False
        if not level.told_too_long:
            level.told_too_long = True
            self._notice(
                level.path, "unreadable", "holds names that make too long a path"
            )
        return True

    def _unreadable(self, path: bytes, error: Exception) -> None:
        text = str(self._root.error_of(error, path, "read"))
        self._notice(path, "unreadable", text.removeprefix(f"{printable(path)}: "))

    def _notice(self, path: bytes, kind: NoticeKind, text: str = "") -> None:
        self._notices.append(Notice(path, kind, Line(text)))
        self._bytes += len(path) + len(text) + _ENTRY_BYTES
