"""
Which version of a file this is.

A version is told by device, inode, size, times and the number of links.  Renaming or
removing one of two links changes the change time of the other: then only the content
can tell that it is still the same (:func:`differs_by_links`).
"""

from __future__ import annotations

import os
import struct
from typing import Final

from realize.errors import BadRequest

#: Device, inode, size, mtime_ns, ctime_ns, links.  Of the times the last 64 bits, since
#: years beyond 2262 need more.
_IDENTITY: Final = struct.Struct("<QQQQQI")
_SIZE: Final = struct.Struct("<16xQ20x")
_CHANGED: Final = struct.Struct("<32xQ4x")
_LINKS: Final = struct.Struct("<40xI")
_64_BITS: Final = 2**64 - 1

#: Of an identity, the bytes that a rename leaves as they are.
_MOVED: Final = slice(0, 32)

#: Where the inode is, and what stands there where it does not count.
_INODE: Final = slice(8, 16)
_UNCOUNTED: Final = bytes(8)


def identity_of(status: os.stat_result, inodes: bool = True) -> bytes:
    """
    The identity of a file of this status.

    :param inodes: whether its inode number counts: not where it may be another soon.
    """
    return _IDENTITY.pack(
        status.st_dev,
        status.st_ino if inodes else 0,
        status.st_size,
        status.st_mtime_ns & _64_BITS,
        status.st_ctime_ns & _64_BITS,
        status.st_nlink & 0xFFFFFFFF,
    )


def matches(status: os.stat_result, identity: bytes) -> bool:
    """
    Whether a file of this status is still the version of *identity*.
    """
    return identity_now(status, identity) == identity


def matches_moved(status: os.stat_result, identity: bytes) -> bool:
    """
    The same for a file that was just renamed, which changes its change time.
    """
    return identity_now(status, identity)[_MOVED] == identity[_MOVED]


def identity_now(status: os.stat_result, identity: bytes) -> bytes:
    """
    The identity that a file has now that once had *identity*.
    """
    return identity_of(status, identity[_INODE] != _UNCOUNTED)


def version_of(status: os.stat_result) -> bytes:
    """
    The version of a file at a destination.

    If it has several links its change time does not count: one of them may be the very
    source, whose removal changes it.
    """
    identity = identity_of(status)
    return identity if status.st_nlink == 1 else identity[_MOVED]


def is_version(status: os.stat_result, version: bytes) -> bool:
    """
    Whether a file of this status is still the one that *version* was taken of; it may
    have lost links since.
    """
    identity = identity_of(status)
    return version in (identity, identity[_MOVED])


def differs_by_links(status: os.stat_result, identity: bytes) -> bool:
    """
    Whether a file differs from *identity* as one does whose other links were renamed or
    removed: it may be the same version, but its change time cannot tell any more.
    """
    return (
        len(identity) == _IDENTITY.size
        and matches_moved(status, identity)
        and status.st_nlink <= links_of(identity) != 1
    )


def changed_of(identity: bytes) -> int:
    """
    Change time, in nanoseconds since 1970, of the file that *identity* was taken of.
    """
    changed_ns: int = _CHANGED.unpack(identity)[0]
    return changed_ns


def links_of(identity: bytes) -> int:
    """
    How many names the file had that *identity* was taken of.
    """
    links: int = _LINKS.unpack(identity)[0]
    return links


def size_of(identity: bytes) -> int:
    """
    Bytes in the file that *identity* was taken of.

    :raises BadRequest: it is not an identity.
    """
    if len(identity) != _IDENTITY.size:
        raise BadRequest("not an identity of this store")
    size: int = _SIZE.unpack(identity)[0]
    return size
