"""
Where the sockets of running moves are: ``$XDG_RUNTIME_DIR/realize/PID.sock``.

The folder is the user's alone, so whoever can open a socket in it may control the
move.  It is not believed to be without a look: XDG_RUNTIME_DIR may be another user's,
as after ``sudo``, or a folder where anybody may put something.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")


def folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """
    Where the sockets are; None without XDG_RUNTIME_DIR.
    """
    runtime = environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "realize") if runtime and os.path.isabs(runtime) else None


def open_folder(path: Path) -> int:
    """
    A descriptor of the folder, which is this user's, and nobody else may write to it.

    :raises PermissionError: it is not.
    :raises OSError: it cannot be opened.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise _not_ours(path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(fd)
        raise _not_ours(path)
    return fd


def own_folder(path: Path) -> int:
    """
    As :func:`open_folder`; makes it, and closes one to others that is ours.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        path.chmod(0o700)
    return open_folder(path)


def _not_ours(path: Path) -> PermissionError:
    return PermissionError(1, "not a directory of this user's alone", os.fspath(path))


def is_own_socket(folder_fd: int, name: str) -> bool:
    """
    Whether a name in the folder is a socket of this user's.
    """
    try:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()


def peer_user(connection: socket.socket) -> int:
    """
    The user id of whoever has the other end of a connection.
    """
    option = socket.SOL_SOCKET, socket.SO_PEERCRED
    _pid, uid, _gid = _CREDENTIALS.unpack(
        connection.getsockopt(*option, _CREDENTIALS.size)
    )
    return int(uid)
