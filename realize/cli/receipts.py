"""
``realize move --audit-log FILE``: a receipt for each file of a move.

The command writes them for both ends, so the same move may leave receipts on three
hosts: here, and in the audit logs of the daemons.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal

import attrs
from attrs import define, field
from twisted.internet.threads import deferToThreadPool

from realize.cli.endpoints import (
    LocalPlace,
    Place,
    SshPlace,
    other_party,
    place_name,
)
from realize.errors import ConfigError, DiskError
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.tally import Item
from realize.observe.audit import AuditLog
from realize.observe.receipts import Receipt
from realize.paths import join, parent_of


@define(eq=False)
class MoveReceipts:
    """
    Implements :class:`realize.move.receipts.Receipts`.

    A file that became final in a directory of a peer's has that directory's id and
    the peer's name.  At a local end the directory is ``local``, and the peer is who
    has the other end, or ``local``.  The place tells which one it is.

    :ivar in_thread: runs a function in a thread.
    :ivar session: the same for all that one run does.
    """

    audit: AuditLog
    in_thread: Callable[[Callable[[], None]], Awaitable[None]]
    source: Place
    destination: Place
    session: str
    _names: dict[Place, bytes] = field(init=False)
    _single_file: bool = False

    def __attrs_post_init__(self) -> None:
        self._names = {
            place: place_name(place) for place in (self.source, self.destination)
        }

    def begin(self, single_file: bool) -> None:
        """
        See :class:`~realize.move.receipts.Receipts`.
        """
        self._single_file = single_file
        if single_file and isinstance(self.source, SshPlace):
            above = attrs.evolve(self.source, path=parent_of(self.source.path))
            self._names[self.source] = place_name(above)

    async def final(self, items: Sequence[Item]) -> None:
        """
        See :class:`~realize.move.receipts.Receipts`.
        """
        await self._write("final", self.destination, _below(self.destination), items)

    async def removed(self, items: Sequence[Item]) -> None:
        """
        See :class:`~realize.move.receipts.Receipts`.
        """
        below = _below(self.source)
        if self._single_file:
            below = parent_of(below)
        await self._write("removed", self.source, below, items)

    async def _write(
        self,
        event: Literal["final", "removed"],
        place: Place,
        below: bytes,
        items: Sequence[Item],
    ) -> None:
        directory = "local" if isinstance(place, LocalPlace) else place.directory
        where = self._names[place]
        receipts = [
            Receipt(
                event,
                directory,
                where,
                join(below, item.path_there if event == "final" else item.file.path),
                item.file.size,
                item.digest,
                other_party(place, self.destination, self.source),
                self.session,
            )
            for item in items
        ]
        try:
            await self.in_thread(lambda: self.audit.write(receipts))
        except OSError as error:
            raise DiskError(
                f"the audit log cannot be written: {error.strerror}"
            ) from None


def _below(place: Place) -> bytes:
    return b"" if isinstance(place, LocalPlace) else place.below


def begin_receipts(
    path: str | None, reactor: Any, source: Place, destination: Place, session: str
) -> Receipts:
    """
    What ``--audit-log`` asks for.

    :param path: of the file; None if nobody asked.
    :raises ConfigError: it cannot be opened.
    """
    if path is None:
        return NO_RECEIPTS
    try:
        audit = AuditLog(path)
    except OSError as error:
        raise ConfigError(f"--audit-log: {path}: {error.strerror}") from None
    in_thread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    return MoveReceipts(audit, in_thread, source, destination, session)
