"""
A file system over a directory, which does what a control file says.

    python -m tests.support.fuse.filesystem BELOW POINT CONTROL LOG

CONTROL is a :class:`~tests.support.fuse.switches.Control`, and looked at for every
call; replace it as a whole.  To LOG each fault that happened is appended, a line each.
Started by :mod:`tests.support.fuse.mounting`.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, Final

import mfusepy

from tests.support.fuse import names
from tests.support.fuse.switches import HANG, Control, Fault, Switches

#: What libfuse calls a file that is unlinked while it is open.
HIDDEN: Final = ".fuse_hidden"

_NOREPLACE: Final = 1

#: ``UTIME_NOW`` and ``UTIME_OMIT``, as the binding gives them.
_NOW: Final = (1 << 30) - 1
_OMIT: Final = (1 << 30) - 2

_STATUS: Final = (
    *("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino"),
    *("st_blocks", "st_blksize", "st_rdev"),
)

_SPACE: Final = (
    *("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree"),
    *("f_files", "f_flag", "f_frsize"),
)


class Orders:
    """
    The control file, as it is now, and how often each fault has been met.
    """

    def __init__(self, control: Path, log: Path) -> None:
        self._path = control
        self._log = log
        self._version: tuple[int, int] | None = None
        self._control = Control()
        self._met: dict[Fault, int] = {}
        self._lock = threading.Lock()

    def now(self) -> Control:
        """
        What is to be done.
        """
        status = os.stat(self._path)
        version = status.st_ino, status.st_mtime_ns
        with self._lock:
            if version != self._version:
                control = Control.from_json(self._path.read_text())
                if control.number != self._control.number:
                    self._met = {}
                self._version, self._control = version, control
            return self._control

    def fault(self, call: str, paths: Sequence[str]) -> Fault | None:
        """
        What this call fails with, if it is its turn.
        """
        for fault in self.now().faults:
            if fault.call != call or not any(fault.path in path for path in paths):
                continue
            with self._lock:
                met = self._met[fault] = self._met.get(fault, 0) + 1
            if fault.first <= met < fault.first + fault.times:
                with self._log.open("a") as log:
                    log.write(f"{call} {fault.error} {paths!r}\n")
                return fault
        return None

    def wait_while(self, fault: Fault) -> None:
        """
        Hang until it is withdrawn.
        """
        while fault in self.now().faults:
            time.sleep(0.01)


def call(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    A call that may be told to fail, before or after it is carried out.

    :param name: as in :class:`~tests.support.fuse.switches.Fault`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def maybe(self: Below, *arguments: Any) -> Any:
            fault = self.orders.fault(name, paths_of(self.root, arguments))
            if fault is None:
                return function(self, *arguments)
            if fault.after:
                function(self, *arguments)
            if fault.error == HANG:
                self.orders.wait_while(fault)
                raise OSError(errno.EINTR, name)
            raise OSError(getattr(errno, fault.error), name)

        return maybe

    return decorate


def paths_of(root: str, arguments: Sequence[Any]) -> list[str]:
    """
    What a call is about: names, or the handle of what is open, which comes last.
    """
    paths = [each for each in arguments[:2] if isinstance(each, str)]
    if not paths:
        with suppress(OSError):
            at = os.readlink(f"/proc/self/fd/{arguments[-1]}")
            paths = [at.removeprefix(root)]
    return paths


class Below(mfusepy.Operations):  # type: ignore[misc]  # is not annotated
    """
    The calls.
    """

    use_ns = True
    flag_nullpath_ok = True
    flag_nopath = True

    def __init__(self, root: str, orders: Orders) -> None:
        self.root = root
        self.orders = orders
        self._numbers = itertools.count(1000)
        #: What was unlinked while it was open, by the name that libfuse gave it.
        self._unlinked: dict[str, str] = {}
        self._limbo = f"{root}.unlinked-{os.getpid()}"
        os.mkdir(self._limbo)
        if self.switches.locks == "mount":
            self.flock = None

    @property
    def switches(self) -> Switches:
        """
        Those of now.
        """
        return self.orders.now().switches

    def at(self, path: str) -> str:
        """
        Where it is below.
        """
        if path in self._unlinked:
            return self._unlinked[path]
        return names.resolve(self.root, path, self.switches)

    def init_with_config(self, conn_info: Any, config_3: Any) -> None:
        """
        Inode numbers are ours, and so is how long anything may be believed.
        """
        config_3.use_ino = config_3.readdir_ino = 1
        config_3.nullpath_ok = 1
        self._config = config_3
        self._tell_cache()

    def _tell_cache(self) -> None:
        config, seconds = self._config, self.switches.cache_s
        config.attr_timeout = config.entry_timeout = seconds
        config.negative_timeout = seconds

    # -- what there is

    @call("getattr")
    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, int]:
        self._tell_cache()
        at = self.at(path) if path is not None else None
        found = os.fstat(fh) if at is None else os.lstat(at)
        switches = self.switches
        status = {name: getattr(found, name) for name in _STATUS}
        if switches.chmod == "ignored" and not stat.S_ISLNK(found.st_mode):
            status["st_mode"] = stat.S_IFMT(found.st_mode) | 0o755
        times = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
        if not switches.ctimes:
            times = (*times[:2], found.st_mtime_ns)
        step = switches.step_s * 1_000_000_000 or 1
        for name, value in zip(
            ("st_atime", "st_mtime", "st_ctime"), times, strict=True
        ):
            status[name] = value // step * step
        if switches.inodes == "path":
            status["st_ino"] = hash(at) & 0x7FFFFFFF
        elif switches.inodes == "look":
            status["st_ino"] = next(self._numbers)
        return status

    @call("readdir")
    def readdir(
        self, path: str | None, fh: int
    ) -> Iterator[tuple[str, dict[str, int], int]]:
        with os.scandir(fh) as entries:
            found = [(each.name, each.inode(), _kind(each)) for each in entries]
        for name, inode, kind in [
            (".", 1, stat.S_IFDIR),
            ("..", 1, stat.S_IFDIR),
            *found,
        ]:
            yield name, {"st_mode": kind, "st_ino": inode}, 0

    @call("readlink")
    def readlink(self, path: str) -> str:
        return os.readlink(self.at(path))

    @call("statfs")
    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self.root)
        space = {name: getattr(found, name) for name in _SPACE}
        return space | {"f_namemax": self.switches.longest}

    # -- files

    @call("open")
    def open(self, path: str, flags: int) -> int:
        return os.open(self.at(path), flags & ~(os.O_NOFOLLOW | os.O_NOATIME))

    @call("create")
    def create(self, path: str, mode: int, fi: int | None = None) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        fd = os.open(self.at(path), flags, mode)
        self._own(self.at(path))
        return fd

    @call("read")
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    @call("write")
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    @call("mknod")
    def mknod(self, path: str, mode: int, dev: int) -> None:
        os.mknod(self.at(path), mode, dev)
        self._own(self.at(path))

    @call("truncate")
    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        where = self.at(path) if path is not None else fh
        assert where is not None
        os.truncate(where, length)

    @call("fsync")
    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    @call("flush")
    def flush(self, path: str, fh: int) -> None:
        pass

    @call("release")
    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def flock(self, path: str | None, fh: int, op: int) -> None:
        if self.switches.locks == "refused":
            raise OSError(errno.ENOLCK, "flock")
        if self.switches.locks == "below":
            fcntl.flock(fh, op)

    # -- names

    @call("mkdir")
    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.at(path), mode)
        self._own(self.at(path))

    @call("symlink")
    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self.at(target))
        self._own(self.at(target))

    @call("link")
    def link(self, target: str, source: str) -> None:
        if self.switches.link == "refused":
            raise OSError(errno.EPERM, target)
        os.link(self.at(source), self.at(target), follow_symlinks=False)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        if os.path.basename(new).startswith(HIDDEN):
            # What libfuse makes of the unlinking of something that is open.
            self._unlink_open(old, new)
        else:
            self._rename(old, new, flags)

    @call("rename")
    def _rename(self, old: str, new: str, flags: int) -> None:
        switches = self.switches
        if flags and (flags != _NOREPLACE or switches.noreplace == "refused"):
            raise OSError(errno.EINVAL, new)
        here, there = self.at(old), self.at(new)
        taken = here != there and os.path.lexists(there)
        if flags and taken:
            raise OSError(errno.EEXIST, new)
        if here == there:
            # Under another name of the same: that one it has from now on.
            name = names.stored(os.path.basename(new), switches)
            there = f"{os.path.dirname(there)}/{name}"
        os.rename(here, there)

    @call("unlink")
    def _unlink_open(self, old: str, new: str) -> None:
        if self.switches.unlink == "hides":
            os.rename(self.at(old), self.at(new))
        elif self._may_unlink(old):
            limbo = f"{self._limbo}/{next(self._numbers)}"
            os.rename(self.at(old), limbo)
            self._unlinked[new] = limbo

    def unlink(self, path: str) -> None:
        if path in self._unlinked:
            os.unlink(self._unlinked.pop(path))
        elif os.path.basename(path).startswith(HIDDEN):
            os.unlink(self.at(path))
        else:
            self._unlink(path)

    @call("unlink")
    def _unlink(self, path: str) -> None:
        if self._may_unlink(path):
            os.unlink(self.at(path))

    def _may_unlink(self, path: str) -> bool:
        if self.switches.unlink == "refused":
            raise OSError(errno.EPERM, path)
        return self.switches.unlink != "ignored"

    @call("rmdir")
    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    # -- directories

    @call("opendir")
    def opendir(self, path: str) -> int:
        return os.open(self.at(path), os.O_RDONLY | os.O_DIRECTORY)

    def releasedir(self, path: str | None, fh: int) -> None:
        os.close(fh)

    @call("fsyncdir")
    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> None:
        if self.switches.fsyncdir == "refused":
            raise OSError(errno.EINVAL, "fsyncdir")
        if self.switches.fsyncdir == "done":
            os.fsync(fh)

    # -- attributes

    @call("chmod")
    def chmod(self, path: str, mode: int) -> None:
        if self._answer(self.switches.chmod, path):
            os.chmod(self.at(path), mode)

    @call("chown")
    def chown(self, path: str, uid: int, gid: int) -> None:
        if self._answer(self.switches.chmod, path):
            os.chown(self.at(path), uid, gid, follow_symlinks=False)

    @call("utimens")
    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        if not self._answer(self.switches.utimens, path):
            return
        at = self.at(path)
        if times is not None:
            # The binding knows no "now" and no "as it was".
            was, now = os.lstat(at), time.time_ns()
            old = was.st_atime_ns, was.st_mtime_ns
            times = tuple(
                {_NOW: now, _OMIT: before}.get(given, given)
                for given, before in zip(times, old, strict=True)
            )
        os.utime(at, ns=times, follow_symlinks=False)

    def _answer(self, how: str, path: str) -> bool:
        if how == "refused":
            raise OSError(errno.EPERM, path)
        return how == "done"

    def _own(self, at: str) -> None:
        uid, gid, _ = mfusepy.fuse_get_context()
        parent = os.stat(os.path.dirname(at))
        os.chown(
            at,
            uid,
            parent.st_gid if parent.st_mode & stat.S_ISGID else gid,
            follow_symlinks=False,
        )


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir():
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file() else stat.S_IFIFO


class Mount(mfusepy.FUSE):  # type: ignore[misc]  # is not annotated
    """
    What the binding leaves out.
    """

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        """
        With its flags.
        """
        self.operations.rename(os.fsdecode(old), os.fsdecode(new), flags)
        return 0

    def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> int:
        """
        With the handle, where there is one.
        """
        return self.ftruncate(path, length, fip)  # type: ignore[no-any-return]

    def flock(self, path: bytes | None, fip: Any, op: int) -> int:
        """
        Without a path, which is not told of what is open.
        """
        self.operations.flock(None, fip.contents.fh, op)
        return 0


def main(root: str, point: str, control: str, log: str) -> None:
    """
    Mount, and serve until it is unmounted.
    """
    os.umask(0)
    orders = Orders(Path(control), Path(log))
    options: dict[str, Any] = {"allow_other": True} if os.geteuid() == 0 else {}
    Mount(
        Below(root, orders),
        point,
        foreground=True,
        default_permissions=True,
        fsname="switches",
        **options,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
