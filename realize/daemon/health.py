"""
Looks after the directories: are they there, how full are they, do their disks answer.

A disk that hangs is a warning and a metric, never a reason to end the daemon: that
would be in the middle of a commit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from txaio.tx import make_logger

from realize.config import DirectorySettings
from realize.errors import PeerError
from realize.observe.events import (
    DIRECTORY_BACK,
    DIRECTORY_GONE,
    DISK_ANSWERS,
    DISK_NEARLY_FULL,
    DISK_SLOW,
)
from realize.observe.recorder import Records

#: Seconds from one look at a directory to the next.
INTERVAL: Final = 15.0

#: A disk that has not answered for so many seconds is slow.
SLOW: Final = 30.0

#: Nearly full is: less than twice the reserve, or less than this part of the disk.
NEARLY_FULL: Final = 0.02


class Watched(Protocol):
    """
    A directory of this host.
    """

    name: str
    settings: DirectorySettings
    records: Records

    def look(self) -> os.statvfs_result:
        """
        See :meth:`realize.store.directory.LocalDirectory.look`.
        """


@define(eq=False)
class Health:
    """
    The health of one directory.

    :ivar in_thread: runs a function in a thread that nothing else waits for.
    """

    directory: Watched
    in_thread: Callable[[Callable[[], os.statvfs_result]], Deferred[os.statvfs_result]]
    clock: IReactorTime
    _asked: float | None = field(init=False, default=None)
    _slow: bool = field(init=False, default=False)
    _gone: bool = field(init=False, default=False)
    _full: bool = field(init=False, default=False)

    log = make_logger()

    def check(self) -> None:
        """
        Look at the directory; called every :data:`INTERVAL` seconds.
        """
        if self._asked is None:
            self._asked = self.clock.seconds()
            Deferred.fromCoroutine(self._look())
        elif not self._slow and self._waited() > SLOW:
            self._slow = True
            DISK_SLOW.log(
                self.log, directory=self.directory.name, seconds=self._waited()
            )

    def _waited(self) -> float:
        return self.clock.seconds() - (self._asked or 0.0)

    async def _look(self) -> None:
        try:
            status = await self.in_thread(self.directory.look)
        except PeerError as error:
            self._is_gone(str(error))
        else:
            self._is_there(status)
        finally:
            if self._slow:
                self._slow = False
                DISK_ANSWERS.log(
                    self.log, directory=self.directory.name, seconds=self._waited()
                )
            self._asked = None

    def _is_gone(self, reason: str) -> None:
        name = self.directory.name
        self.directory.records.metrics.available.labels(name).set(0)
        if not self._gone:
            self._gone = True
            DIRECTORY_GONE.log(self.log, directory=name, reason=reason)

    def _is_there(self, status: os.statvfs_result) -> None:
        name = self.directory.name
        metrics = self.directory.records.metrics
        free = status.f_bavail * status.f_frsize
        metrics.available.labels(name).set(1)
        metrics.free_bytes.labels(name).set(free)
        metrics.free_inodes.labels(name).set(status.f_favail)
        if self._gone:
            self._gone = False
            DIRECTORY_BACK.log(self.log, directory=name)
        reserve = self.directory.settings.min_free
        part = status.f_blocks * status.f_frsize * NEARLY_FULL
        full = free < max(2 * reserve, part)
        if full and not self._full:
            DISK_NEARLY_FULL.log(self.log, directory=name, free=free, min_free=reserve)
        self._full = full
