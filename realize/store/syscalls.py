"""
Linux system calls that Python's ``os`` does not have.

All take descriptors, release the interpreter's lock while they run, and raise
``OSError`` as ``os`` does.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: What a file system answers that cannot rename without replacing.
UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

#: What a file system answers that has no hard links.
NO_LINKS: Final = UNSUPPORTED | {errno.EPERM, errno.EMLINK}

_RENAME_NOREPLACE: Final = 1
_SYNC_FILE_RANGE_WRITE: Final = 2
#: AT_EMPTY_PATH and AT_STATX_FORCE_SYNC; what ``stat`` has; bytes of the answer.
_STATX_FRESH: Final = 0x1000 | 0x2000
_STATX_BASIC: Final = 0x7FF
_STATX_SIZE: Final = 256

_FICLONERANGE: Final = 0x4020940D
_MAP_FAILED: Final = 2 ** (8 * ctypes.sizeof(ctypes.c_void_p)) - 1

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

_statx = _libc.statx
_statx.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
)

_fstatfs = _libc.fstatfs
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)

_munmap = _libc.munmap
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

_mincore = _libc.mincore
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


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


def refresh_attributes(fd: int) -> None:
    """
    Have a file system on another host, or in another process, asked for the attributes
    of an open file: what ``fstat`` says next is not older than this.

    :raises OSError: it does not answer.
    """
    answer = ctypes.create_string_buffer(_STATX_SIZE)
    if _statx(fd, b"", _STATX_FRESH, _STATX_BASIC, answer):
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


@contextmanager
def mapped(fd: int, offset: int, length: int, populate: bool) -> Iterator[int]:
    """
    Map a part of a file, for reading, for the length of a ``with`` block.

    Nothing may look at the memory: it is no longer there if the file is truncated.

    :param offset: bytes; a multiple of the size of a page.
    :param length: bytes, at least one.
    :param populate: whether all pages are brought in and put into our tables.
    :returns: the address.
    :raises OSError: it cannot be mapped.
    """
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if populate else 0)
    address = _mmap(None, length, mmap.PROT_READ, flags, fd, offset)
    if address is None or address == _MAP_FAILED:
        raise _fail()
    try:
        yield address
    finally:
        _munmap(address, length)


def any_resident(address: int, length: int) -> bool:
    """
    Whether any page of a mapping is in memory.  True also if we may not know, because
    we neither own the file nor may write to it.

    :param address: of a mapping of *length* bytes.
    """
    pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    if _mincore(address, length, pages):
        raise _fail()
    return any(byte & 1 for byte in pages.raw)


def flush(fd: int) -> None:
    """
    What closing a descriptor would say: some file systems tell only then that bytes
    could not be written.  It stays open.

    :raises OSError: some were not.
    """
    os.close(os.dup(fd))


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
