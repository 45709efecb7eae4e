"""
What the server does when it is asked.

A responder checks the right, hands the request to the store without waiting for
anything first, and packs the answer.  That nothing is waited for is what keeps
operations on one file in the order in which they were sent: the store orders them in
the order of its calls.

Stores belong to their connection.  When it ends they are closed at once; a connection
that takes the place of another opens none before those of the other are closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from realize.conflicts import CHOICES, Asked, OnConflict
from realize.delta.exchange import Sign, weight_of
from realize.errors import BadRequest, DirectoryGone, NotAllowed
from realize.model import MAX_BATCH_BYTES
from realize.observe.metrics import CommandMetrics
from realize.observe.recorder import Party
from realize.paths import printable
from realize.store.interface import Destination, Source
from realize.texts import Line
from realize.wire import commands
from realize.wire.commands import Granted
from realize.wire.complaints import Complaints
from realize.wire.compression import Compression
from realize.wire.flow import Budget
from realize.wire.link import Link
from realize.wire.payload import Unpacked, pack

#: Most stores that are open on one connection.
MAX_STORES: Final = 16

Answer = dict[str, Any]


class Directory(Protocol):
    """
    A directory that is offered.
    """

    async def open_source(
        self, below: bytes = ..., settle_ns: int = ..., party: Party = ...
    ) -> Source:
        """
        Open it, or what is below it, to take files from.
        """

    async def open_destination(
        self,
        below: bytes = ...,
        replace: bool = ...,
        party: Party = ...,
        conflicts: Asked = ...,
    ) -> Destination:
        """
        Open it, or a directory below it, to put files into.
        """


class Service(Protocol):
    """
    What a server offers, and to whom.  Asked anew for each request, so that a right
    that was taken away is gone at once.
    """

    def peer_name(self, key: bytes) -> str | None:
        """
        The name of the peer with this public key; None if it is no peer of ours.
        """

    def granted(self, peer: str) -> Mapping[str, Granted]:
        """
        The directories that a peer may use in some way, by their ids.
        """

    def directory(self, name: str) -> Directory:
        """
        The directory with this id.
        """

    def is_offered(self, name: str, directory: Directory) -> bool:
        """
        Whether this id still stands for the same place as when *directory* was got by
        it.
        """


@frozen(eq=False)
class _OpenSource:
    name: str
    directory: Directory
    store: Source


@frozen(eq=False)
class _OpenDestination:
    name: str
    directory: Directory
    store: Destination
    replace: bool


Opened = TypeVar("Opened", _OpenSource, _OpenDestination)


class Responders(Link):
    """
    The stores of one connection and the responders that use them.
    """

    def __init__(
        self,
        service: Service,
        clock: IReactorTime,
        budget: Budget,
        complaints: Complaints,
        metrics: CommandMetrics,
        compression: Compression | None = None,
    ) -> None:
        super().__init__(clock, budget, complaints, metrics, compression)
        self._service = service
        self._open: dict[int, _OpenSource | _OpenDestination] = {}
        self._numbers = 0
        self._busy_with_stores = 0
        self._closed = False
        self._await_closed: list[Deferred[None]] = []
        self.predecessor: Responders | None = None

    @property
    def party(self) -> Party:
        """
        For whom stores are opened.
        """
        return Party(self.peer)

    # -- opening and closing

    @commands.OpenSource.responder
    async def open_source(
        self, directory: str, below: bytes, settle: int | None
    ) -> Answer:
        self._require(directory, "take")

        async def begin() -> _OpenSource:
            self._require(directory, "take")
            offered = self._service.directory(directory)
            asked = {} if settle is None else {"settle_ns": settle}
            store = await offered.open_source(below, party=self.party, **asked)
            return _OpenSource(directory, offered, store)

        return await self._opened(begin)

    @commands.OpenDestination.responder
    async def open_destination(
        self,
        directory: str,
        below: bytes,
        on_conflict: str | None = None,
        backup: bytes | None = None,
    ) -> Answer:
        self._require(directory, "put")
        asked = Asked(_choice(on_conflict), backup or b"")

        async def begin() -> _OpenDestination:
            replace = self._require(directory, "put").replace
            offered = self._service.directory(directory)
            store = await offered.open_destination(below, replace, self.party, asked)
            return _OpenDestination(directory, offered, store, replace)

        return await self._opened(begin)

    async def _opened(
        self, begin: Callable[[], Awaitable[_OpenSource | _OpenDestination]]
    ) -> Answer:
        if len(self._open) + self._busy_with_stores >= MAX_STORES:
            raise BadRequest(f"{MAX_STORES} stores are open on this connection")
        self._busy_with_stores += 1
        try:
            if self.predecessor is not None:
                await self.predecessor.when_closed()
                self.predecessor = None
            opened = await begin()
            self._numbers += 1
            number = self._numbers
            self._open[number] = opened
            place = await opened.store.place()
        finally:
            self._busy_with_stores -= 1
            self._close_if_lost()
        return {"store": number, "payload": pack(place)}

    @commands.CloseStore.responder
    async def close_store(self, store: int) -> Answer:
        opened = self._open.pop(store, None)
        if opened is not None:
            self._busy_with_stores += 1
            try:
                await opened.store.close()
            finally:
                self._busy_with_stores -= 1
                self._close_if_lost()
        return {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._close_if_lost()

    def when_closed(self) -> Deferred[None]:
        """
        Fires when the connection is gone and all its stores are closed.
        """
        waiting: Deferred[None] = Deferred()
        if self._closed:
            waiting.callback(None)
        else:
            self._await_closed.append(waiting)
        return waiting

    def _close_if_lost(self) -> None:
        if self.gone and not self._busy_with_stores:
            Deferred.fromCoroutine(self._close_all())

    async def _close_all(self) -> None:
        self._busy_with_stores += 1
        opened, self._open = self._open, {}
        if self.predecessor is not None:
            await self.predecessor.when_closed()
        closing = [
            Deferred.fromCoroutine(each.store.close()) for each in opened.values()
        ]
        for succeeded, result in await DeferredList(closing, consumeErrors=True):
            if not succeeded:
                self.complaints.failed(self.peer, "Closing a store", result)
        self._closed = True
        waiting, self._await_closed = self._await_closed, []
        for each in waiting:
            each.callback(None)

    def store_names(self) -> list[Line]:
        """
        What is open, for people.
        """
        return [
            Line(f"{'take' if isinstance(each, _OpenSource) else 'put'} {each.name}")
            for each in self._open.values()
        ]

    # -- rights

    def _require(self, directory: str, right: str) -> Granted:
        """
        What the peer may do with a directory, if it has the right.

        :raises NotAllowed: it has not, or there is no such directory; the answer is
            the same.
        """
        granted = self._service.granted(self.peer).get(directory)
        if granted is None or not getattr(granted, right):
            self._deny(directory, right)
        return granted

    def _deny(self, directory: str, right: str) -> NoReturn:
        raise NotAllowed(
            f"{printable(directory)}: no such directory, or {self.peer} may not "
            f"{right} there"
        )

    def _source(self, number: int) -> Source:
        opened = self._open.get(number)
        if not isinstance(opened, _OpenSource):
            raise BadRequest(f"{number} is no open source")
        self._require(opened.name, "take")
        return self._still_offered(opened).store

    def _destination(self, number: int) -> Destination:
        opened = self._open.get(number)
        if not isinstance(opened, _OpenDestination):
            raise BadRequest(f"{number} is no open destination")
        granted = self._require(opened.name, "put")
        if opened.replace and not granted.replace:
            self._deny(opened.name, "replace")
        return self._still_offered(opened).store

    def _still_offered(self, opened: Opened) -> Opened:
        """
        What is open, unless it is another place by now that is offered.
        """
        if not self._service.is_offered(opened.name, opened.directory):
            raise DirectoryGone(f"{opened.name} is another directory by now")
        return opened

    # -- both

    def _either(self, number: int) -> Source | Destination:
        if isinstance(self._open.get(number), _OpenDestination):
            return self._destination(number)
        return self._source(number)

    @commands.Signing.responder
    async def sign(self, store: int, payload: Unpacked) -> Answer:
        wanted: Sign = payload.head
        either = self._either(store)
        with self._intake.holding(weight_of(wanted)):
            return {"payload": pack(await either.sign(wanted))}

    @commands.Mark.responder
    async def mark(self, store: int) -> Answer:
        return {"mark": await self._either(store).mark()}

    @commands.Unmark.responder
    async def unmark(self, store: int) -> Answer:
        await self._either(store).unmark()
        return {}

    @commands.See.responder
    async def see(self, store: int, mark: bytes, above: bool) -> Answer:
        return {"seen": await self._either(store).sees(mark, above)}

    # -- sources

    @commands.List.responder
    async def list_page(
        self, store: int, cursor: int, restore: bool, payload: Unpacked
    ) -> Answer:
        page = await self._source(store).list(cursor, restore, payload.head)
        return {"payload": pack(page)}

    @commands.Digest.responder
    async def digest(self, store: int, payload: Unpacked) -> Answer:
        return {"payload": pack(await self._source(store).digest(payload.head))}

    @commands.Read.responder
    async def read(self, store: int, payload: Unpacked) -> Answer:
        source = self._source(store)
        nbytes = sum(wanted.carried for wanted in payload.head)
        if nbytes > MAX_BATCH_BYTES:
            raise BadRequest(f"{nbytes} bytes are more than a batch may be")
        with self._intake.holding(nbytes):
            extents, data = await source.read(payload.head)
            return {"payload": pack(extents, data)}

    @commands.Remove.responder
    async def remove(self, store: int, payload: Unpacked) -> Answer:
        return {"payload": pack(await self._source(store).remove(payload.head))}

    @commands.Prune.responder
    async def prune(self, store: int, payload: Unpacked) -> Answer:
        await self._source(store).prune(payload.head)
        return {}

    # -- destinations

    @commands.Offering.responder
    async def offer(self, store: int, reserve: bool, payload: Unpacked) -> Answer:
        head: commands.Offers = payload.head
        destination = self._destination(store)
        held = await destination.offer(head.files, head.directories, reserve)
        return {"payload": pack(held)}

    @commands.Compare.responder
    async def compare(self, store: int, payload: Unpacked) -> Answer:
        return {"payload": pack(await self._destination(store).compare(payload.head))}

    @commands.Write.responder
    async def write(self, store: int, payload: Unpacked) -> Answer:
        destination = self._destination(store)
        if sum(piece.carried for piece in payload.head) != len(payload.data):
            raise BadRequest("the bytes are not as many as the pieces say")
        written = await destination.write(payload.head, payload.data)
        return {"payload": pack(written)}

    @commands.Reusing.responder
    async def reuse(self, store: int, payload: Unpacked) -> Answer:
        result = await self._destination(store).reuse(payload.head, payload.data)
        return {"payload": pack(result)}

    @commands.Finishing.responder
    async def finish(self, store: int, payload: Unpacked) -> Answer:
        return {"payload": pack(await self._destination(store).finish(payload.head))}

    @commands.Confirm.responder
    async def confirm(self, store: int, payload: Unpacked) -> Answer:
        return {"payload": pack(await self._destination(store).confirm(payload.head))}


def _choice(word: str | None) -> OnConflict | None:
    for choice in CHOICES:
        if word == choice:
            return choice
    if word is not None:
        raise BadRequest(f"on_conflict is one of {', '.join(CHOICES)}")
    return None
