"""
What the daemon says about its directories when somebody asks for its status.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as TooLate
from twisted.internet.interfaces import IReactorTime

from realize.errors import PeerError
from realize.store.directory import LocalDirectory
from realize.texts import Label, Line
from realize.wire.status import DirectoryStatus, PartialStatus

#: Seconds that a disk may take to answer; the status does not wait longer.
DISK_DEADLINE: Final = 1.0

#: Most partials of one directory that are listed; the largest.
MAX_PARTIALS: Final = 20


async def directories_status(
    directories: Iterable[LocalDirectory], clock: IReactorTime
) -> list[DirectoryStatus]:
    """
    All of them, after :data:`DISK_DEADLINE` at most.
    """
    return await gatherResults(
        [
            Deferred.fromCoroutine(_directory_status(directory, clock))
            for directory in directories
        ],
        consumeErrors=True,
    )


async def _directory_status(
    directory: LocalDirectory, clock: IReactorTime
) -> DirectoryStatus:
    trouble, free, doubts = Line(""), None, list[str]()
    asked = Deferred.fromCoroutine(_ask(directory))
    try:
        free, doubts = await asked.addTimeout(DISK_DEADLINE, clock)
    except TooLate:
        trouble = Line(f"its disk did not answer in {DISK_DEADLINE:.0f} s")
    except PeerError as error:
        trouble = Line(str(error))
    partials = [
        PartialStatus(path, size, have, Label(peer))
        for path, size, have, peer in directory.under_construction()
    ]
    return DirectoryStatus(
        name=Label(directory.name),
        trouble=trouble,
        free=free,
        partial_files=len(partials),
        partial_bytes=sum(each.have for each in partials),
        partials=heapq.nlargest(MAX_PARTIALS, partials, key=attrgetter("size")),
        doubts=[Line(each) for each in doubts],
    )


async def _ask(directory: LocalDirectory) -> tuple[int, list[str]]:
    return await directory.free(), await directory.doubts()
