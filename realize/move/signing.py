"""
Signatures of one file, as an end gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import aclosing
from typing import Final, Protocol

from attrs import define, field

from realize.delta.chunks import Cutting
from realize.delta.exchange import MAX_SPANS, Sign, Signed
from realize.delta.plan import Span
from realize.delta.signature import Groups, Signature
from realize.errors import InternalError, PeerError
from realize.model import Failure
from realize.move.ahead import in_order
from realize.move.outcome import Side

#: Bytes in the groups or stretches that are asked for in one request.
SIGNED: Final = 32 * 1024 * 1024


class Signs(Protocol):
    """
    An end, as far as it is needed here.
    """

    async def sign(self, wanted: Sign) -> Signed:
        """
        See :class:`realize.store.interface.Source`.
        """


class CannotCompare(Exception):
    """
    One of the ends could not sign its file.
    """

    def __init__(self, side: Side, failure: Failure) -> None:
        super().__init__(failure.text)
        self.side = side
        self.failure = failure


@define(eq=False)
class End:
    """
    One end and its version of the file.

    :ivar version: an identity, or what an offer called it.
    :ivar size: bytes.
    :ivar sparse: which digest is wanted of it.
    :ivar groups: those of the pages that were added.
    :ivar digest: of the whole file, once a source has signed all of it.
    """

    side: Side
    store: Signs
    path: bytes
    version: bytes
    size: int
    cutting: Cutting
    groups: Groups = field(init=False)
    sparse: bool = False
    digest: bytes = b""

    def __attrs_post_init__(self) -> None:
        self.groups = Groups(self.size, self.cutting)

    async def page(self, number: int) -> Signed:
        """
        Ask for a page.

        :raises CannotCompare: the end does not sign.
        """
        return await self._sign(
            Sign(
                self.path,
                self.version,
                self.cutting.chunk,
                number,
                sparse=self.sparse,
            )
        )

    async def parts(self, spans: list[Span], blocks: bool) -> list[Signature]:
        """
        Ask for the blocks of groups, or for the chunks of stretches.

        :raises CannotCompare: the end does not sign.
        """
        signatures: list[Signature] = []
        requests = (
            self._sign(
                Sign(self.path, self.version, self.cutting.chunk, 0, part, blocks)
            )
            for part in _parts(spans)
        )
        async with aclosing(in_order(requests, 2)) as answers:
            async for signed in answers:
                signatures += signed.signatures
        return signatures

    def add(self, signed: Signed) -> None:
        """
        Take in a page.

        :raises CannotCompare: it is not the one that follows.
        """
        try:
            self.groups.add(signed.signatures[0])
        except ValueError as error:
            failure = Failure.of(InternalError(f"answered with {error}"))
            raise CannotCompare(self.side, failure) from None
        self.digest = signed.digest

    async def _sign(self, wanted: Sign) -> Signed:
        try:
            return await self.store.sign(wanted)
        except PeerError as error:
            raise CannotCompare(self.side, Failure.of(error)) from None


def _parts(spans: Iterable[Span]) -> Iterator[list[Span]]:
    part: list[Span] = []
    nbytes = 0
    for span in spans:
        if part and (nbytes + span.length > SIGNED or len(part) == MAX_SPANS):
            yield part
            part, nbytes = [], 0
        part.append(span)
        nbytes += span.length
    yield part
