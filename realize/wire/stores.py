"""
Stores that are a peer's.

Each method is one request.  A batch whose paths are so long that it does not fit into
one payload becomes several, all sent before the first is answered, so that the order
of operations on a file stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

from realize.delta.exchange import Patch, Sign, Signed, check_signed
from realize.errors import BadRequest, PeerGone
from realize.model import (
    EVERYTHING,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    Claim,
    Confirmed,
    Digests,
    Directory,
    Extent,
    Failure,
    File,
    Finish,
    Finished,
    Held,
    Offer,
    Page,
    Piece,
    Place,
    Prefix,
    Range,
    Removal,
    Removed,
    Subset,
    Written,
    prefix_steps,
)
from realize.paths import is_hidden_directory, parent_of, printable
from realize.store.interface import Source
from realize.wire import commands
from realize.wire.payload import MAX_PAYLOAD, Packed, Unpacked, pack

#: Heads of requests, and of answers as far as we can tell, are kept below this many
#: bytes, so that they fit into a payload with a batch of data.
MAX_HEAD: Final = MAX_PAYLOAD - MAX_BATCH_BYTES - 64 * 1024

# No item takes more than this in a head, beside its path and what else can be long.
_ITEM: Final = 128
_DIGEST: Final = 34
_NUMBER: Final = 9

Item = TypeVar("Item")
Result = TypeVar("Result")


class Asks(Protocol):
    """
    The connection that a store belongs to.
    """

    async def ask(
        self, command: type[commands.Request], quick: bool = ..., **arguments: Any
    ) -> Any:
        """
        Send a request and wait for its answer.
        """

    def broken(self, why: str) -> PeerGone:
        """
        Close at once; returns what to raise.
        """


def store_name(peer: str, directory: str, below: bytes) -> str:
    """
    What people call a store of a peer.
    """
    slash = "" if directory.endswith("/") else "/"
    return f"{peer}:{directory}" + (f"{slash}{printable(below)}" if below else "")


class _RemoteStore:
    """
    What is common to both kinds.
    """

    def __init__(self, connection: Asks, name: str, number: int, place: Place) -> None:
        self._connection = connection
        self._name = name
        self._number = number
        self._place = place

    @property
    def name(self) -> str:
        return self._name

    async def place(self) -> Place:
        return self._place

    async def mark(self) -> bytes:
        answer = await self._connection.ask(commands.Mark, store=self._number)
        mark: bytes = answer["mark"]
        if mark and not is_hidden_directory(mark):
            raise self._connection.broken("Mark has a name that is no mark")
        return mark

    async def unmark(self) -> None:
        await self._connection.ask(commands.Unmark, store=self._number)

    async def sees(self, mark: bytes, above: bool = True) -> bool:
        answer = await self._connection.ask(
            commands.See, store=self._number, mark=mark, above=above
        )
        seen: bool = answer["seen"]
        return seen

    async def close(self) -> None:
        # The stores of a connection are closed when it is lost.
        with suppress(PeerGone):
            await self._connection.ask(commands.CloseStore, store=self._number)

    async def sign(self, wanted: Sign) -> Signed:
        answer = await self._connection.ask(
            commands.Signing, store=self._number, payload=pack(wanted)
        )
        signed: Signed = answer["payload"].head
        try:
            check_signed(wanted, signed)
        except ValueError as error:
            raise self._connection.broken(f"Sign has {error}") from None
        return signed

    async def _ask(
        self,
        command: type[commands.Request],
        payload: Packed,
        results: int,
        **arguments: Any,
    ) -> Unpacked:
        answer = await self._connection.ask(
            command, store=self._number, payload=payload, **arguments
        )
        unpacked: Unpacked = answer["payload"]
        if len(unpacked.head) != results:
            name = command.commandName.decode()
            raise self._connection.broken(f"{name} has another number of results")
        return unpacked

    async def _batch(
        self,
        command: type[commands.Request],
        items: Sequence[Any],
        weigh: Callable[[Any], int],
        **arguments: Any,
    ) -> list[Any]:
        """
        Send *items*, in as many requests as it takes, and return their results.
        """
        _check_count(items)
        answers = await _all_at_once(
            self._ask(command, pack(part), len(part), **arguments)
            for part in _parts(items, weigh)
        )
        return [result for answer in answers for result in answer.head]


class RemoteSource(_RemoteStore):
    """
    A :class:`~realize.store.interface.Source` of a peer.
    """

    async def list(
        self, cursor: int, restore: bool = True, subset: Subset = EVERYTHING
    ) -> Page:
        answer = await self._connection.ask(
            commands.List,
            quick=True,
            store=self._number,
            cursor=cursor,
            restore=restore,
            payload=pack(subset),
        )
        page: Page = answer["payload"].head
        return page

    async def digest(self, files: Sequence[Prefix]) -> Sequence[Digests | Failure]:
        return await self._batch(commands.Digest, files, _weigh_prefix)

    async def read(
        self, ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes | memoryview]:
        _check_count(ranges)
        _check_bytes(ranges)
        answers = await _all_at_once(
            self._read(part) for part in _parts(ranges, _weigh_file)
        )
        if len(answers) == 1:
            return answers[0].head, answers[0].data
        extents = [extent for answer in answers for extent in answer.head]
        return extents, b"".join(answer.data for answer in answers)

    async def _read(self, ranges: Sequence[Range]) -> Unpacked:
        answer = await self._ask(commands.Read, pack(ranges), len(ranges))
        nbytes = 0
        for wanted, extent in zip(ranges, answer.head, strict=True):
            if isinstance(extent, Extent):
                nbytes += extent.carried
                if extent.length > wanted.length or extent.carried > wanted.carried:
                    raise self._connection.broken("Read has more bytes than asked for")
                if extent.runs and sum(extent.runs) != extent.length:
                    raise self._connection.broken("Read has runs of another length")
        if nbytes != len(answer.data):
            raise self._connection.broken("Read has not as many bytes as it says")
        return answer

    async def remove(self, files: Sequence[Removal]) -> Sequence[Removed | Failure]:
        return await self._batch(commands.Remove, files, _weigh_file)

    async def prune(self, directories: Sequence[bytes]) -> None:
        _check_count(directories)
        for part in _parts(directories, len):
            await self._connection.ask(
                commands.Prune, store=self._number, payload=pack(part)
            )


class RemoteDestination(_RemoteStore):
    """
    A :class:`~realize.store.interface.Destination` of a peer.
    """

    async def offer(
        self,
        files: Sequence[Offer],
        directories: Sequence[Directory],
        reserve: bool = True,
    ) -> Sequence[Held | Failure]:
        _check_count(files)
        answers = await _all_at_once(
            self._ask(commands.Offering, pack(part), len(part.files), reserve=reserve)
            for part in _offers(files, directories)
        )
        return [result for answer in answers for result in answer.head]

    async def compare(self, files: Sequence[Finish]) -> Sequence[Held | Failure]:
        return await self._batch(commands.Compare, files, _weigh_file)

    async def write(
        self, pieces: Sequence[Piece], payload: bytes | memoryview
    ) -> Sequence[Written | Failure]:
        _check_count(pieces)
        _check_bytes(pieces)
        if sum(piece.carried for piece in pieces) != len(payload):
            raise BadRequest("the bytes are not as many as the pieces say")
        answers = await _all_at_once(
            self._ask(commands.Write, pack(part, data), len(part))
            for part, data in _with_data(_parts(pieces, _weigh_piece), payload)
        )
        return [result for answer in answers for result in answer.head]

    async def reuse(
        self, patch: Patch, payload: bytes | memoryview
    ) -> Written | Failure:
        answer = await self._connection.ask(
            commands.Reusing, store=self._number, payload=pack(patch, payload)
        )
        result: Written | Failure = answer["payload"].head
        return result

    async def finish(self, files: Sequence[Finish]) -> Sequence[Finished | Failure]:
        return await self._batch(commands.Finishing, files, _weigh_file)

    async def confirm(self, claims: Sequence[Claim]) -> Sequence[Confirmed | Failure]:
        return await self._batch(commands.Confirm, claims, _weigh_claim)

    async def adopt(
        self, source: Source, files: Sequence[File], directories: Sequence[Directory]
    ) -> None:
        """
        Never possible: the two stores are not on one host.
        """


async def _all_at_once(
    requests: Iterable[Coroutine[Deferred[Any], Any, Result]],
) -> list[Result]:
    """
    Begin all requests, in order, and wait for all answers.
    """
    first, *others = requests
    if not others:
        return [await first]
    begun = [Deferred.fromCoroutine(request) for request in (first, *others)]
    try:
        return await gatherResults(begun, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


def _check_count(items: Sequence[object]) -> None:
    if len(items) > MAX_BATCH:
        raise BadRequest(f"{len(items)} items are more than a batch may have")


def _check_bytes(items: Sequence[Range] | Sequence[Piece]) -> None:
    nbytes = sum(item.carried for item in items)
    if nbytes > MAX_BATCH_BYTES:
        raise BadRequest(f"{nbytes} bytes are more than a batch may be")


def _weigh_file(item: Any) -> int:
    return _ITEM + len(item.path) + len(getattr(item, "identity", b""))


def _weigh_claim(item: Claim) -> int:
    return _weigh_file(item) + len(item.version) + len(item.mark)


def _weigh_prefix(item: Prefix) -> int:
    return _weigh_file(item) + _DIGEST * prefix_steps(item.length)


def _weigh_piece(item: Piece) -> int:
    return _weigh_file(item) + _DIGEST * len(item.keep) + _NUMBER * len(item.runs)


def _parts(
    items: Sequence[Item], weigh: Callable[[Item], int]
) -> Iterator[Sequence[Item]]:
    """
    Cut *items* into as few parts as fit into a head each; at least one.
    """
    start = weight = 0
    for at, item in enumerate(items):
        added = weigh(item)
        if weight + added > MAX_HEAD and at > start:
            yield items[start:at]
            start, weight = at, 0
        weight += added
    yield items[start:]


def _with_data(
    parts: Iterable[Sequence[Piece]], payload: bytes | memoryview
) -> Iterator[tuple[Sequence[Piece], bytes | memoryview]]:
    """
    Each part and its share of the bytes.
    """
    at = 0
    for part in parts:
        end = at + sum(piece.carried for piece in part)
        whole = at == 0 and end == len(payload)
        yield part, payload if whole else memoryview(payload)[at:end]
        at = end


def _offers(
    files: Sequence[Offer], directories: Sequence[Directory]
) -> Iterator[commands.Offers]:
    """
    The files, and with each part of them the directories above those.
    """
    weight = sum(map(_weigh_file, files)) + sum(map(_weigh_file, directories))
    if weight <= MAX_HEAD and len(directories) <= commands.MAX_DIRECTORIES:
        yield commands.Offers(list(files), list(directories))
        return
    by_path = {directory.path: directory for directory in directories}

    def above(path: bytes) -> list[Directory]:
        found: list[Directory] = []
        while path := parent_of(path):
            if path in by_path:
                found.append(by_path[path])
        return found[::-1]

    def weigh(offer: Offer) -> int:
        return _weigh_file(offer) + sum(map(_weigh_file, above(offer.path)))

    for part in _parts(files, weigh):
        needed = {each.path: each for offer in part for each in above(offer.path)}
        yield commands.Offers(list(part), list(needed.values()))
