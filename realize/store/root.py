"""
Roots: held directory descriptors below which everything is done.

Checking a path and then opening it loses against somebody who swaps a directory for
a symbolic link in between.  So nothing here opens a path: each component is opened
relative to the descriptor of the one before, with ``O_NOFOLLOW``, and what happens
to a file happens relative to the descriptor of its directory.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from blake3 import blake3
from twisted.internet.defer import CancelledError

from realize.accounts import Account, unlimited
from realize.errors import (
    AlreadyExists,
    DirectoryGone,
    DiskError,
    InternalError,
    NameTaken,
    NameTooLong,
    NoSpace,
    NoSuchFile,
    OverShare,
    PeerError,
    UnsafePath,
)
from realize.model import Place
from realize.paths import (
    RESERVED_INFIX,
    RelativePath,
    is_reserved,
    join,
    parent_of,
    printable,
)
from realize.store.attributes import attempt
from realize.store.filesystem import FileSystem
from realize.store.kept import DirectoriesInTurn, DirectoryUse, KeptDirectories
from realize.store.spelling import Shown, refused
from realize.texts import Line

_T = TypeVar("_T")

#: How a directory is opened, below a held descriptor.
OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: How one is opened only to ask where it is: needs no permission to list it.
_LOOK: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

#: Free bytes where there is no end of them.
_ENDLESS: Final = 2**63 - 1

_TOKEN = struct.Struct("<QQ")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

_KINDS: Final[dict[int, type[PeerError]]] = {
    errno.ENOENT: NoSuchFile,
    errno.ENOTDIR: NameTaken,
    errno.EISDIR: NameTaken,
    errno.EEXIST: AlreadyExists,
    errno.ELOOP: UnsafePath,
    errno.ENAMETOOLONG: NameTooLong,
    errno.ENOSPC: NoSpace,
    errno.EDQUOT: NoSpace,
    # It passes, as others close what they have open.
    errno.EMFILE: OverShare,
    errno.ENFILE: OverShare,
}


def disk_error(error: OSError, path: bytes, doing: str) -> PeerError:
    """
    What to tell the other side about an error of the operating system.

    :param path: relative to the root.
    :param doing: an infinitive, such as ``read``.
    """
    kind = _KINDS.get(error.errno or 0, DiskError)
    reason = os.strerror(error.errno) if error.errno else str(error)
    return kind(f"{printable(path) or 'the root'}: cannot {doing}: {reason}")


#: Told of what nobody planned: the path of a file, what was being done, and the error.
Surprised = Callable[[bytes, str, Exception], object]


def _say_nothing(path: bytes, doing: str, error: Exception) -> None:
    """
    Where nobody listens.
    """


class Root:
    """
    A directory, or one below it that may not exist yet, opened for one run.

    Everything here may be called from several threads at once.

    :ivar name: what messages call it; never a path that the other side must not see.
    :ivar below: canonical path of the root below the directory; ``b""`` if it is the
        directory itself.
    :ivar descriptors: holds what is kept open for its store; given back by
        :meth:`close`.
    :ivar exact: whether a directory is only opened if the one above shows exactly its
        name, where that can be another's too.
    """

    def __init__(
        self,
        path: Path,
        base: int,
        below: bytes,
        marker: str | None,
        name: str,
        descriptors: Account | None = None,
        surprised: Surprised = _say_nothing,
    ) -> None:
        self.exact = False
        self.descriptors = descriptors or unlimited("descriptors")
        self.name = name
        self._surprised = surprised
        self.below = below
        self._path = path
        self._base = base
        self._marker = marker
        self._kept = KeptDirectories(self._open, self._find, self.descriptors)
        # The other end of a local move, or another peer, may need what lies idle here.
        self.descriptors.ask_back = self._kept.let_go_idle
        self._lock = threading.Lock()
        self._filesystems: dict[int, FileSystem] = {}
        try:
            self._folds = self.filesystem(base).folds
        except OSError:
            self._folds = True

    @classmethod
    def open(
        cls,
        path: Path,
        below: bytes = b"",
        *,
        marker: str | None = None,
        name: str = "",
        descriptors: Account | None = None,
        surprised: Surprised = _say_nothing,
    ) -> Root:
        """
        Open the directory; *below* is looked at when it is used.

        :param path: of the directory; symbolic links in it are followed.
        :param marker: name of a file in the directory, without which it counts as
            absent.
        :param name: for messages.
        :param descriptors: holds what is kept open; by default, without limit.
        :raises OverShare: no descriptor can be had now.
        :param surprised: told of what nobody planned; from any thread.
        :raises DirectoryGone: it is not there, or the marker is not.
        :raises UnsafePath: *below* is not canonical, or a name of unfinished work.
        """
        name = name or "the directory"
        try:
            base = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise disk_error(error, b"", "open it") from None
            reason = os.strerror(error.errno or 0)
            raise DirectoryGone(f"{name} cannot be opened: {reason}") from None
        root = cls(path, base, b"", marker, name, descriptors, surprised)
        try:
            root.descriptors.take(name)
            root.check()
            if below:
                root.below = root.path(below).raw
        except BaseException:
            root.close()
            raise
        return root

    def path(self, raw: bytes) -> RelativePath:
        """
        What the other side may name here, to take it as to put it there: a file, or a
        directory.

        :param raw: relative to the root.
        :raises UnsafePath: not canonical; a partial, or something in a directory of
            hidden files, both of which are unfinished work; or the marker, without
            which the directory is shut for everybody.
        """
        path = RelativePath.parse(raw)
        shown = raw.lower() if self._folds else raw
        if RESERVED_INFIX in shown and any(map(is_reserved, shown.split(b"/"))):
            raise UnsafePath(f"{printable(raw)}: such names are for unfinished work")
        if self._marker is not None:
            marker = os.fsencode(self._marker)
            whole = join(self.below, raw)
            if whole == marker or (self._folds and whole.lower() == marker.lower()):
                raise UnsafePath(f"{printable(raw)}: marks the directory, and stays")
        return path

    def error_of(self, error: Exception, path: bytes, doing: str) -> PeerError:
        """
        What to answer for one file of a batch, whatever went wrong with it: the others
        go on.

        :param error: what nobody planned becomes an :class:`InternalError`, and is told
            of.
        :param path: relative to the root.
        :param doing: as of :func:`disk_error`.
        :raises CancelledError: if *error* is one: nobody waits for any of the batch.
        """
        if isinstance(error, PeerError):
            return error
        if isinstance(error, OSError):
            return disk_error(error, path, doing)
        if isinstance(error, CancelledError):
            raise error
        self._surprised(path, doing, error)
        return InternalError(
            f"{printable(path)}: cannot {doing}, for a reason that nobody planned;"
            " the log of this side says more"
        )

    def check(self) -> None:
        """
        Make sure that the directory's path still leads to the directory that is
        held, and that its marker is there.

        :raises DirectoryGone: it was removed, unmounted or replaced.
        """
        try:
            now = os.stat(self._path)
            held = os.fstat(self._base)
            if (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino):
                raise DirectoryGone(f"{self.name} is another directory now")
            if self._marker is not None:
                os.stat(self._marker, dir_fd=self._base, follow_symlinks=False)
        except FileNotFoundError as error:
            missing = "its marker" if error.filename == self._marker else "it"
            raise DirectoryGone(f"{self.name}: {missing} is not there") from None
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise DirectoryGone(f"{self.name} cannot be looked at: {reason}") from None

    def directory(self, path: bytes) -> DirectoryUse:
        """
        The descriptor of a directory, for the length of a ``with`` block.

        It leads where the path leads when the block begins.

        :param path: relative to the root; ``b""`` is the root.
        :raises NoSuchFile: it, or one above it, does not exist.
        :raises NameTaken: it, or one above it, is no directory.
        :raises UnsafePath: not canonical, or one of its components is a symbolic
            link.
        :raises DiskError: for any other reason.
        """
        return self._kept.use(path)

    def directories(self) -> DirectoriesInTurn:
        """
        Directories one after the other, for the length of a ``with`` block.

        :meth:`~realize.store.kept.DirectoriesInTurn.descriptor` raises what
        :meth:`directory` does.
        """
        return DirectoriesInTurn(self._kept)

    def forget(self, path: bytes) -> None:
        """
        Do not keep the descriptor of a directory, because it was removed or moved.
        """
        self._kept.forget(path)

    @property
    def device(self) -> int:
        """
        Number of the file system of the directory.
        """
        return os.fstat(self._base).st_dev

    def hold(self, path: bytes) -> Account:
        """
        Take a descriptor for something that stays open.

        :param path: of that, for messages.
        :returns: the account that gets it back.
        :raises OverShare: none can be had now.
        """
        while not self.descriptors.try_take():
            # What is only kept in case it is needed again gives way.
            if not self._kept.let_go_one():
                self.descriptors.take(printable(path))
                break
        return self.descriptors

    def create(self, mode: int) -> None:
        """
        Create the root, and directories above it, as far as they are missing.

        :param mode: permission bits of what is created, whatever the umask.
        :raises PeerError: as for :meth:`directory`, or creating failed.
        """
        fd = os.dup(self._base)
        try:
            for name in self._parts:
                fd = self._replace(fd, self._create_one(fd, name, mode))
        finally:
            os.close(fd)

    def sync_above(self) -> None:
        """
        Make the root's own name durable, and those above it in the directory.

        :raises OSError: the disk says that they are not.
        """
        fd = os.dup(self._base)
        try:
            for name in self._parts:
                os.fsync(fd)
                fd = self._replace(fd, os.open(name, OPEN_DIRECTORY, dir_fd=fd))
        finally:
            os.close(fd)

    def filesystem(self, directory: int) -> FileSystem:
        """
        What may be believed of the file system of an open directory.

        :raises OSError: it cannot be looked at.
        """
        device = os.fstat(directory).st_dev
        return self.filesystem_of(device, directory).in_directory(directory)

    def filesystem_of(self, device: int, fd: int) -> FileSystem:
        """
        The same of any open file, whose device is known; *folds* is left open.

        A tree may cross mounts: what is known is known by device.
        """
        known = self._filesystems.get(device)
        if known is None:
            known = self._filesystems[device] = FileSystem.of(fd)
        return known

    def free(self) -> int:
        """
        Bytes that the file system has for us, where the root is or would be.

        :raises PeerError: a directory cannot be looked at.
        """
        status = self.file_system()
        # No blocks at all: a file system without a size, such as some in FUSE.
        return status.f_bavail * status.f_frsize if status.f_blocks else _ENDLESS

    def file_system(self) -> os.statvfs_result:
        """
        What the file system says of itself, where the root is or would be.

        :raises PeerError: a directory cannot be looked at.
        """
        return self._at_root(os.fstatvfs)

    def believed(self) -> FileSystem:
        """
        What may be believed of the file system where the root is or would be.

        :raises PeerError: a directory cannot be looked at.
        """
        return self._at_root(self.filesystem)

    def _at_root(self, look: Callable[[int], _T]) -> _T:
        fd = os.dup(self._base)
        try:
            with suppress(NoSuchFile):
                for name in self._parts:
                    fd = self._replace(fd, self._open_one(fd, name, self.below))
            return look(fd)
        except OSError as error:
            raise disk_error(error, b"", "ask about its file system") from None
        finally:
            os.close(fd)

    def place(self, doubts: Sequence[str] = ()) -> Place:
        """
        Tokens of the root and of every directory above it, up to ``/``.

        :param doubts: about its file system, to be told with it.
        :raises PeerError: a directory cannot be looked at.
        """
        try:
            boot_id = Path(_BOOT_ID).read_bytes()
        except OSError as error:
            raise disk_error(error, b"", "read the boot id") from None
        fd = os.dup(self._base)
        try:
            exists = True
            for name in self._parts:
                try:
                    fd = self._replace(fd, self._open_one(fd, name, self.below))
                except NoSuchFile:
                    exists = False
                    break
            chain = [_token(boot_id, os.fstat(each)) for each in self._upwards(fd)]
            lasting = _lasting(fd)
        except OSError as error:
            raise disk_error(error, b"", "look above") from None
        finally:
            os.close(fd)
        lines = [Line(each) for each in doubts]
        if not exists:
            return Place(b"", chain, lines)
        return Place(chain[0], chain, lines, lasting)

    def sees(self, name: bytes, above: bool) -> bool:
        """
        Whether something of this name is in the root, or was until now where it would
        be.

        :param above: or in a directory above it.
        :raises PeerError: a directory cannot be looked at.
        """
        fd = os.dup(self._base)
        try:
            exists = True
            for part in self._parts:
                try:
                    fd = self._replace(fd, self._open_one(fd, part, self.below))
                except NoSuchFile:
                    exists = False
                    break
            if not exists and not above:
                return False
            if _has(fd, name):
                return True
            return above and any(_has(each, name) for each in self._upwards(fd))
        except OSError as error:
            raise disk_error(error, b"", "look above") from None
        finally:
            os.close(fd)

    def close(self) -> None:
        """
        Close all descriptors.  Those that are being used are closed by their users.
        """
        self._kept.close()
        with self._lock:
            if self._base >= 0:
                os.close(self._base)
                self._base = -1
        self.descriptors.close()

    # -- the walk

    @property
    def _parts(self) -> list[bytes]:
        return self.below.split(b"/") if self.below else []

    def _find(self, path: bytes) -> os.stat_result:
        # One call for the whole path.  It may pass symbolic links, but only to the
        # directory that was reached without any.
        whole = join(self.below, path) if path else self.below
        if not whole:
            return os.fstat(self._base)
        return os.stat(whole, dir_fd=self._base, follow_symlinks=False)

    def _open(self, path: bytes) -> int:
        if path:
            relative = self.path(path)
            with self.directory(parent_of(path)) as parent:
                return self._open_one(parent, relative.name, path)
        fd = os.dup(self._base)
        try:
            for name in self._parts:
                fd = self._replace(fd, self._open_one(fd, name, self.below))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _open_one(self, parent: int, name: bytes, path: bytes) -> int:
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        except NotADirectoryError:
            raise self._in_the_way(parent, name, path) from None
        except OSError as error:
            raise (
                refused(error, path, name)
                or disk_error(error, path, "open its directory")
            ) from None
        try:
            if self.exact and self.filesystem(parent).folds:
                Shown(parent).check(name, path)
        except OSError as error:
            os.close(fd)
            raise disk_error(error, path, "list the directory above it") from None
        except PeerError:
            os.close(fd)
            raise
        return fd

    def _in_the_way(self, parent: int, name: bytes, path: bytes) -> PeerError:
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except OSError as error:
            return disk_error(error, path, "open its directory")
        if stat.S_ISLNK(mode):
            return UnsafePath(f"{printable(path)}: leads through a symbolic link")
        return NameTaken(f"{printable(path)}: something else is in its place")

    def _create_one(self, parent: int, name: bytes, mode: int) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            return self._open_one(parent, name, self.below)
        except OSError as error:
            raise disk_error(error, self.below, "create it") from None
        fd = self._open_one(parent, name, self.below)
        try:
            attempt(lambda: os.fchmod(fd, mode))
        except OSError as error:
            os.close(fd)
            raise disk_error(error, self.below, "set its permissions") from None
        return fd

    @staticmethod
    def _replace(fd: int, by: int) -> int:
        os.close(fd)
        return by

    def _upwards(self, fd: int) -> Iterator[int]:
        """
        Descriptors of a directory and of all above it, each until the next one.
        """
        fd = os.dup(fd)
        try:
            status = os.fstat(fd)
            while True:
                yield fd
                fd = self._replace(fd, os.open(b"..", _LOOK, dir_fd=fd))
                above = os.fstat(fd)
                if (above.st_dev, above.st_ino) == (status.st_dev, status.st_ino):
                    return
                status = above
        finally:
            os.close(fd)


def _has(directory: int, name: bytes) -> bool:
    """
    Whether a directory has this name.  One that cannot be looked into shows nothing.
    """
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _lasting(fd: int) -> bytes:
    """
    What tells a directory from others at any time, or nothing.
    """
    system = os.fstatvfs(fd).f_fsid
    if not system:
        return b""
    return blake3(_TOKEN.pack(system & (2**64 - 1), os.fstat(fd).st_ino)).digest()


def _token(boot_id: bytes, status: os.stat_result) -> bytes:
    where = _TOKEN.pack(status.st_dev, status.st_ino)
    return blake3(boot_id.strip() + where).digest()
