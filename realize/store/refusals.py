"""
Whether files can be removed from a directory, found out before they are sent.

What cannot be removed would be sent for nothing, and be found at its destination by
each run that follows.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from realize.store.filesystem import FileSystem, is_unchangeable
from realize.store.hidden import PROBE, PROBED, is_seen, tidy_probe
from realize.store.root import OPEN_DIRECTORY

#: What trying it out may answer without being a refusal: the disk is full, or somebody
#: else tries it out too, or there are no directories to be made.
_NO_REFUSAL: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMLINK,
        errno.ENOENT,
        errno.ENOTEMPTY,
        errno.EEXIST,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EIO,
        errno.ESTALE,
    }
)


def refusal(directory: int, known: FileSystem) -> str:
    """
    Why files cannot be removed from a directory; empty if there is no reason.

    :param directory: descriptor.
    :param known: what may be believed of its file system.
    """
    try:
        if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
            return os.strerror(errno.EROFS)
        if is_unchangeable(directory):
            return "it is immutable, or may only be appended to"
        if not os.access(b".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
            return os.strerror(errno.EACCES)
    except OSError:
        return ""  # The files themselves will tell.
    return _try_out(directory) if known.cached else ""


def _try_out(directory: int) -> str:
    """
    Make, rename and remove something of ours: on a file system that is somebody else's
    program, permissions tell little.
    """
    doing = "make a directory in it"
    before, after = PROBED
    try:
        with suppress(FileExistsError):
            os.mkdir(PROBE, 0o700, dir_fd=directory)
        doing = "make a file in it"
        probe = os.open(PROBE, OPEN_DIRECTORY, dir_fd=directory)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(before, flags, 0o600, dir_fd=probe))
            doing = "rename a file in it"
            os.rename(before, after, src_dir_fd=probe, dst_dir_fd=probe)
            doing = "remove a file from it"
            os.unlink(after, dir_fd=probe)
            if is_seen(probe, after):
                return "it says that a file was removed, and keeps it"
        finally:
            os.close(probe)
        doing = "remove a directory from it"
        os.rmdir(PROBE, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_REFUSAL or _is_closed_to_us(directory, error):
            return ""
        tidy_probe(directory)
        return f"cannot {doing}: {os.strerror(error.errno or 0)}"
    return ""


def _is_closed_to_us(directory: int, error: OSError) -> bool:
    """
    Whether what another user has left there of trying it out is in the way.
    """
    if error.errno not in (errno.EACCES, errno.EPERM):
        return False
    try:
        left = os.stat(PROBE, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return left.st_uid != os.geteuid()
