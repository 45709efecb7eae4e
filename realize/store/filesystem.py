"""
What may be believed of a file system: one table, and one value for each that is met.

The same call promises different things on different file systems.  Which kind one is
of, the kernel says by a number (``statfs(2)``); :data:`TABLE` says what that means.  A
kind that is not in it gets the careful answers, :data:`UNKNOWN`: nobody has looked at
it, so nothing is taken for granted.

What a kind leaves open is found by a look where a look can decide: whether a directory
ignores case, and how long names may be.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import sys
from pathlib import Path
from typing import Final, Literal

from attrs import evolve, frozen

from realize.store.syscalls import file_system_type
from realize.units import format_duration

#: For so many nanoseconds after a change, another one may not show in the times of the
#: file, however fine they are: the kernel's clock for them moves in steps.
TICK_NS: Final = 50_000_000

#: The coarsest step there is, that of FAT.
COARSE_NS: Final = 2_000_000_000

_SECOND_NS: Final = 1_000_000_000

_GET_FLAGS: Final = 0x80086601 if struct.calcsize("l") == 8 else 0x80046601
_CASEFOLD: Final = 0x40000000
_IMMUTABLE: Final = 0x10
_APPEND_ONLY: Final = 0x20

#: Asks XFS what it was made with, and where in the answer it says whether case counts.
_XFS_GEOMETRY: Final = 0x80705864
_XFS_GEOMETRY_SIZE: Final = 112
_XFS_FLAGS_AT: Final = 92
_XFS_ASCII_CI: Final = 0x1000

_NO_SUCH_REQUEST: Final = frozenset(
    {errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
)

_MOUNTS: Final = Path("/proc/self/mountinfo")
_TYPE: Final = re.compile(rb"\S+ \S+ (\d+:\d+) .* - (\S+) ")


@frozen(kw_only=True)
class FileSystem:
    """
    What may be believed of a file system.  False is the careful answer to each
    question that is answered by yes or no, but for *cached* and *folds*.

    :ivar kind: its name, for people.
    :ivar leases: a read lease that was granted means that nobody has the file open for
        writing, or mapped.
    :ivar locks: a ``flock`` is seen by everybody who can see the file.
    :ivar step_ns: step of its times, in nanoseconds; 0 if they are as fine as the
        kernel's clock.  See :meth:`settling_ns`.
    :ivar ctime: the change time tells of each change, and nobody can set it.
    :ivar inodes: an inode number stays that of its file while that is renamed, linked,
        or not open.
    :ivar cached: attributes and names may come from a cache, and be old.
    :ivar folds: it may take two names for one: case, normal forms, endings.  Right for
        the directory that was asked about, and no other.
    :ivar name_unit: in what the length of a name is counted.
    :ivar name_max: longest name, in that unit.
    :ivar durable_names: names are on the disk when ``fsync`` of their directory has
        answered.
    :ivar remote: the files are on another host, which can copy them there.
    :ivar syncs_together: ``syncfs`` answers for files as ``fsync`` of each would.
    """

    kind: str
    leases: bool = False
    locks: bool = False
    step_ns: int = COARSE_NS
    ctime: bool = False
    inodes: bool = False
    cached: bool = True
    folds: bool = True
    name_unit: Literal["bytes", "utf-16"] = "bytes"
    name_max: int = 255
    durable_names: bool = False
    remote: bool = False
    syncs_together: bool = False

    @classmethod
    def of(cls, fd: int) -> FileSystem:
        """
        What may be believed where an open file or directory is.

        :raises OSError: it cannot be looked at.
        """
        known = cls.known_at(fd)
        name_max = known.name_max
        if known.name_unit == "bytes":
            # Encryption makes names longer: below it 255 bytes hold fewer.
            name_max = min(name_max, os.fstatvfs(fd).f_namemax or name_max)
        kind = mounted_as(os.fstat(fd).st_dev) or known.kind
        return evolve(known, kind=kind, name_max=name_max).in_directory(fd)

    @classmethod
    def known_at(cls, fd: int) -> FileSystem:
        """
        What the table has of the kind of file system where an open file is: for who
        needs to know no more, and soon.

        :raises OSError: it cannot be looked at.
        """
        return TABLE.get(file_system_type(fd) & 0xFFFFFFFF, UNKNOWN)

    def in_directory(self, fd: int) -> FileSystem:
        """
        The same for another directory on it, which may ignore case by itself.
        """
        if self.folds or not _ignores_case(fd):
            return self
        return evolve(self, folds=True)

    def doubts_as_source(self, settle_ns: int) -> list[str]:
        """
        What is not believed of files that are taken from here, and what follows.

        :param settle_ns: as of :class:`~realize.store.guard.Guard`.
        """
        doubts = []
        if not self.leases:
            follows = "nothing is waited for, as was asked"
            if settle_ns:
                follows = f"files settle for {format_duration(settle_ns / 1e9)}"
            doubts.append(f"leases do not tell of all who write; {follows}")
        if self.step_ns:
            step = f"{self.step_ns / 1e9:g}s"
            doubts.append(f"times may have steps of {step}; files wait for one to pass")
        if not self.ctime:
            doubts.append(
                "change times may not tell; a file is read again before it is removed"
            )
        return self._named(doubts)

    def doubts_as_destination(self) -> list[str]:
        """
        What is not believed of files that are put here, and what follows.
        """
        doubts = []
        if self.folds:
            doubts.append(
                "two names may be one; a name counts as taken as its directory shows it"
            )
        if not self.durable_names:
            doubts.append("names may not be on the disk when it says so")
        return self._named(doubts)

    def _named(self, doubts: list[str]) -> list[str]:
        return [f"{self.kind}: {doubt}" for doubt in doubts]

    def settling_ns(self, changed_ns: int) -> int:
        """
        For how many nanoseconds after a change another one may not show.

        Times in whole seconds are taken for coarse, whatever the table says: ext4 has
        such where its inodes have 128 bytes.

        :param changed_ns: change time of a file.
        """
        if changed_ns % _SECOND_NS:
            return self.step_ns + TICK_NS
        return COARSE_NS + TICK_NS


UNKNOWN: Final = FileSystem(kind="unknown")

#: All who use these files do so through this kernel, by the same inodes.
_LOCAL: Final = FileSystem(
    kind="local",
    leases=True,
    locks=True,
    step_ns=0,
    ctime=True,
    inodes=True,
    cached=False,
    folds=False,
    durable_names=True,
)

#: Has neither inode numbers nor change times on the disk, and names for people.
_FAT: Final = evolve(_LOCAL, ctime=False, inodes=False, folds=True, name_unit="utf-16")

#: By the number that ``statfs`` gives.
TABLE: Final[dict[int, FileSystem]] = {
    0xEF53: evolve(_LOCAL, kind="ext2, ext3, ext4", syncs_together=True),
    0x58465342: evolve(_LOCAL, kind="xfs", syncs_together=True),
    0x9123683E: evolve(_LOCAL, kind="btrfs"),
    0xF2F52010: evolve(_LOCAL, kind="f2fs"),
    0xCA451A4E: evolve(_LOCAL, kind="bcachefs"),
    # Names may be folded, by a property that no call tells of.
    0x2FC12FC1: evolve(_LOCAL, kind="zfs", folds=True),
    0x3153464A: evolve(_LOCAL, kind="jfs", folds=True),
    0x3434: evolve(_LOCAL, kind="nilfs2"),
    0x24051905: evolve(_LOCAL, kind="ubifs"),
    0x52654973: evolve(_LOCAL, kind="reiserfs", step_ns=_SECOND_NS),
    0x01021994: evolve(_LOCAL, kind="tmpfs", durable_names=False),
    0x858458F6: evolve(_LOCAL, kind="ramfs", durable_names=False),
    0x4D44: evolve(_FAT, kind="vfat", step_ns=COARSE_NS),
    0x2011BAB0: evolve(_FAT, kind="exfat", step_ns=10_000_000),
    0x7366746E: evolve(_LOCAL, kind="ntfs3", folds=True, name_unit="utf-16"),
    0x482B: evolve(
        _LOCAL, kind="hfsplus", step_ns=_SECOND_NS, folds=True, name_unit="utf-16"
    ),
    # Others write to the same files on the server, in the layers below, on the host.
    0x6969: evolve(UNKNOWN, kind="nfs", ctime=True, durable_names=True, remote=True),
    0xFF534D42: evolve(UNKNOWN, kind="cifs", name_unit="utf-16", remote=True),
    0xFE534D42: evolve(UNKNOWN, kind="smb3", name_unit="utf-16", remote=True),
    0x01021997: evolve(UNKNOWN, kind="9p"),
    0x65735546: evolve(UNKNOWN, kind="fuse, virtiofs"),
    0x794C7630: evolve(UNKNOWN, kind="overlay", ctime=True, durable_names=True),
}


def mounted_as(device: int) -> str:
    """
    What the kernel calls the file system of a device number, such as ``fuse.sshfs``;
    empty if that is not to be found out.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return ""
    for line in lines:
        found = _TYPE.match(line)
        if found and found[1] == wanted:
            return found[2].decode("ascii", "replace")
    return ""


def is_unchangeable(fd: int) -> bool:
    """
    Whether nothing can be removed from a directory because of its flags, as ``chattr``
    sets them; also for root.

    :raises OSError: it does not answer.
    """
    flags = bytearray(8)
    return bool(
        _asked(fd, _GET_FLAGS, flags)
        and _number(flags, 0) & (_IMMUTABLE | _APPEND_ONLY)
    )


def _ignores_case(fd: int) -> bool:
    """
    Whether a directory, or the whole of its file system, was made to ignore case.
    """
    flags, geometry = bytearray(8), bytearray(_XFS_GEOMETRY_SIZE)
    try:
        return bool(
            (_asked(fd, _GET_FLAGS, flags) and _number(flags, 0) & _CASEFOLD)
            or (
                _asked(fd, _XFS_GEOMETRY, geometry)
                and _number(geometry, _XFS_FLAGS_AT) & _XFS_ASCII_CI
            )
        )
    except OSError:
        return True  # for all we know


def _asked(fd: int, request: int, answer: bytearray) -> bool:
    """
    :returns: False if there is no such thing here.
    """
    try:
        fcntl.ioctl(fd, request, answer)
    except OSError as error:
        if error.errno in _NO_SUCH_REQUEST:
            return False
        raise
    return True


def _number(answer: bytearray, at: int) -> int:
    return int.from_bytes(answer[at : at + 4], sys.byteorder)
