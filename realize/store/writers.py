"""
Who has files open for writing, as far as ``/proc`` shows: root sees all processes of
this host, others their own.

Nothing here touches a file: another's may be on a server that does not answer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

#: Least seconds for which one look at all processes is good, and most that it may take.
LOOK_SECONDS: Final = 1.0
MOST_SECONDS: Final = 2.0

_PROC: Final = Path("/proc")


class Writers:
    """
    Files that are open for writing, or mapped so.  Called from several threads.

    :param seconds: a clock that never steps.
    """

    def __init__(
        self, seconds: Callable[[], float] = time.monotonic, proc: Path = _PROC
    ) -> None:
        self._seconds = seconds
        self._proc = proc
        self._lock = threading.Lock()
        self._files: set[tuple[int, int]] = set()
        self._good_until = 0.0

    def have(self, status: os.stat_result) -> bool:
        """
        Whether somebody was seen who may write to a file, at most some seconds ago.
        """
        with self._lock:
            if self._seconds() >= self._good_until:
                began = self._seconds()
                self._files = self._look()
                now = self._seconds()
                # Where there are many processes it is not done all the time.
                self._good_until = now + max(LOOK_SECONDS, 10 * (now - began))
            return (status.st_dev, status.st_ino) in self._files

    def _look(self) -> set[tuple[int, int]]:
        until = self._seconds() + MOST_SECONDS
        mounts = self._mounts()
        found: set[tuple[int, int]] = set()
        for name in os.listdir(self._proc):
            if name.isdigit() and self._seconds() < until:
                found.update(self._opened(self._proc / name / "fdinfo", mounts))
                found.update(self._mapped(self._proc / name / "maps"))
        return found

    def _mounts(self) -> dict[str, int]:
        """
        Device numbers by the numbers of our mounts.  What is mounted nowhere, such as
        pipes, is not among them.
        """
        devices: dict[str, int] = {}
        for line in _lines(self._proc / "self" / "mountinfo"):
            number, _, device = line.split(" ", 3)[:3]
            devices[number] = os.makedev(*map(int, device.split(":")))
        return devices

    def _opened(
        self, folder: Path, mounts: dict[str, int]
    ) -> Iterator[tuple[int, int]]:
        try:
            names = os.listdir(folder)
        except OSError:
            return
        for name in names:
            told = dict(line.split(":\t", 1) for line in _lines(folder / name, ":\t"))
            device = mounts.get(told.get("mnt_id", ""))
            if device is not None and "ino" in told:
                flags = int(told.get("flags", "0"), 8)
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    yield device, int(told["ino"])

    def _mapped(self, maps: Path) -> Iterator[tuple[int, int]]:
        for line in _lines(maps):
            # Addresses, permissions, offset, device, inode.
            _, allowed, _, device, inode = line.split(" ", 5)[:5]
            if allowed[1] == "w" and allowed[3] == "s" and inode.strip() != "0":
                numbers = (int(number, 16) for number in device.split(":"))
                yield os.makedev(*numbers), int(inode)


def _lines(path: Path, having: str = "") -> list[str]:
    """
    The lines of a file that have this in them; none if it cannot be read, or has gone.
    """
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if having in line]
