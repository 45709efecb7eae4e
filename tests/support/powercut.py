"""
File systems whose power can be cut.

    with CrashDisk.create(tmp_path / "disk", "ext4") as disk:
        write_to(disk.root)
        disk.cut_power()
        look_at(disk.root)

What had not reached the disk is gone after a cut, as after a real one: the file
system is told to stop at once, writing nothing that is still in memory, neither data
nor journal (``EXT4_IOC_SHUTDOWN`` and ``XFS_IOC_GOINGDOWN``, by which the kernel's
own tests simulate it).  Then it is mounted again, which replays its journal.

Needs root and loop devices.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import define, field

from tests.support.requirements import SEARCH_PATH

#: The same number for both file systems: ``_IOR('X', 125, __u32)``.
_SHUTDOWN: Final = 0x8004587D

#: Write nothing more, not even the journal.
_NO_LOG_FLUSH: Final = struct.pack("I", 2)

#: Seconds for a process that was killed to be gone.
_MOMENT: Final = 10.0

#: How to make each kind, and the smallest size that it accepts, in bytes.
KINDS: Final = {
    "ext4": (("mkfs.ext4", "-q", "-F"), 128 << 20),
    "xfs": (("mkfs.xfs", "-q", "-f"), 320 << 20),
}


@define
class CrashDisk:
    """
    A file system of its own, in a sparse image file, mounted.

    :ivar folder: holds the image and the mount point.
    :ivar options: further mount options, such as ``data=writeback``.
    :ivar cuts: how often its power was cut.
    """

    kind: str
    folder: Path
    options: str = ""
    cuts: int = field(default=0, init=False)

    @classmethod
    @contextmanager
    def create(
        cls, folder: Path, kind: str = "ext4", options: str = ""
    ) -> Iterator[CrashDisk]:
        """
        Make one, mount it, and unmount it in the end, whatever happened.

        :param folder: created; new.
        """
        folder.mkdir(parents=True)
        disk = cls(kind, folder, options)
        disk.root.mkdir()
        command, size = KINDS[kind]
        disk.image.touch()
        os.truncate(disk.image, size)
        _run(*command, disk.image)
        disk.mount()
        try:
            yield disk
        finally:
            # Lazily: a program that was killed may need a moment to be gone.
            with suppress(subprocess.CalledProcessError):
                _run("umount", "-l", disk.root)
            with suppress(FileNotFoundError):
                os.unlink(disk.image)

    @property
    def image(self) -> Path:
        """
        The file that is its disk.
        """
        return self.folder / "image"

    @property
    def root(self) -> Path:
        """
        Where it is mounted.
        """
        return self.folder / "mounted"

    def mount(self) -> None:
        """
        Mount it.
        """
        options = f"loop,{self.options}" if self.options else "loop"
        _run("mount", "-t", self.kind, "-o", options, self.image, self.root)

    def unmount(self) -> None:
        """
        Unmount it.  Whoever uses it is given a moment to end.
        """
        deadline = time.monotonic() + _MOMENT
        while True:
            try:
                _run("umount", self.root)
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """
        Cut its power: whoever uses it gets errors from now on.
        """
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)
        self.cuts += 1

    def cut_power(self) -> None:
        """
        Cut its power and start it again.
        """
        self.stop()
        self.unmount()
        self.mount()

    def settle(self) -> None:
        """
        Make everything durable that is on it now.
        """
        _run("sync", "-f", self.root)


def _run(*command: str | Path) -> None:
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PATH": SEARCH_PATH},
    )
