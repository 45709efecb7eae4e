"""
Linux system calls that Python's ``os`` does not have.

All take descriptors, release the interpreter's lock while they run, and raise
``OSError`` as ``os`` does.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from typing import Final

#: What a file system answers that cannot rename without replacing.
UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

#: What :func:`file_system_type` says of files on another host: NFS, SMB, CIFS.
REMOTE: Final = frozenset({0x6969, 0xFE534D42, 0xFF534D42})

_RENAME_NOREPLACE: Final = 1
_SYNC_FILE_RANGE_WRITE: Final = 2
_FICLONERANGE: Final = 0x4020940D

_libc = ctypes.CDLL(None, use_errno=True)

_renameat2 = _libc.renameat2
_renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)

_sync_file_range = _libc.sync_file_range
_sync_file_range.argtypes = (
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_uint,
)

_syncfs = _libc.syncfs
_syncfs.argtypes = (ctypes.c_int,)

_fstatfs = _libc.fstatfs
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


class _StatFs(ctypes.Structure):
    # Only the first field is looked at; no machine's structure is as long.
    _fields_ = (("type", ctypes.c_long), ("rest", ctypes.c_char * 1024))


def _fail() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def rename_noreplace(
    from_directory: int, from_name: bytes, to_directory: int, to_name: bytes
) -> None:
    """
    Rename a name in one held directory to a name in another, which must be free.

    :raises FileExistsError: something has the new name; nothing was changed.
    :raises OSError: with an ``errno`` in :data:`UNSUPPORTED` if the file system
        cannot promise not to replace.
    """
    if _renameat2(from_directory, from_name, to_directory, to_name, _RENAME_NOREPLACE):
        raise _fail()


def start_writeback(fd: int, offset: int = 0, length: int = 0) -> None:
    """
    Start writing dirty pages of a file to the disk, without waiting for them.

    Makes nothing durable: it only lets a later ``fsync`` wait for less.

    :param length: bytes; 0 for everything from *offset* on.
    """
    if _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE):
        raise _fail()


def sync_file_system(fd: int) -> None:
    """
    Make everything durable that is in the file system of an open file.

    :raises OSError: some of it is not; also if any data in it could not be written
        since the file was opened, and no call for the same descriptor has said so.
    """
    if _syncfs(fd):
        raise _fail()


def file_system_type(fd: int) -> int:
    """
    The number by which the kernel tells kinds of file systems, of that of an open file.
    """
    status = _StatFs()
    if _fstatfs(fd, ctypes.byref(status)):
        raise _fail()
    number: int = status.type
    return number


def share_blocks(
    from_fd: int, from_offset: int, fd: int, offset: int, count: int
) -> None:
    """
    Have a file share blocks with another, until one of them is changed there.

    All numbers are bytes, and multiples of the file system's block.

    :raises OSError: they cannot.
    """
    wanted = struct.pack("qQQQ", from_fd, from_offset, count, offset)
    fcntl.ioctl(fd, _FICLONERANGE, wanted)
