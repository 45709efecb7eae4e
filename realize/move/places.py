"""
Whether the two ends are two places, and the same ones as before.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from attrs import define
from msgspec import structs
from twisted.internet.defer import Deferred, FirstError, gatherResults

from realize.errors import DirectoryGone, PeerError, SamePlace
from realize.model import Place
from realize.store.interface import Destination, Source, Store

Later = Callable[[Coroutine[Deferred[Any], Any, None]], None]


@define(eq=False)
class Places:
    """
    Where the ends of a move are, over all its connections.

    :ivar source: where it was at first; None before that.
    :ivar destination: the same.
    :ivar whole: whether all that is below the source is meant.
    """

    source: Place | None = None
    destination: Place | None = None
    whole: bool = True

    async def compare(
        self, source: Source, destination: Destination, whole: bool
    ) -> tuple[Place, Place]:
        """
        Look at what the ends say of where they are.

        :param whole: whether all that is below the source is meant.  Files of a
            directory may well be moved into one above or below.
        :returns: where they are.
        :raises SamePlace: one is the other, or inside it.
        :raises DirectoryGone: one is another than before the connection was lost.
        """
        here, there = await source.place(), await destination.place()
        self.whole = whole and bool(here.root)
        if not self.whole:
            here = structs.replace(here, root=b"", chain=here.chain[:1])
        if here.overlaps(there):
            raise SamePlace(
                f"{source.name} and {destination.name} are the same directory, or one "
                "is inside the other"
            )
        for store, now, before in (
            (source, here, self.source),
            (destination, there, self.destination),
        ):
            if before is not None and not now.is_still(before):
                raise DirectoryGone(
                    f"{store.name}: is another directory than before the connection was"
                    " lost; what is in the other one was not moved to its end. See that"
                    " the right one is there, and run the same command again"
                )
        self.source, self.destination = here, there
        return here, there

    async def try_out(
        self, source: Source, destination: Destination, later: Later
    ) -> None:
        """
        Let each end make something for a moment, and see whether it appears at the
        other: two mounts of one place can look like two.

        :param later: does what nobody waits for.
        :raises SamePlace: it does.
        """
        whole = self.whole
        looks = [
            Deferred.fromCoroutine(_appears(source, destination, whole, later)),
            Deferred.fromCoroutine(_appears(destination, source, whole, later)),
        ]
        try:
            appears = await gatherResults(looks, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        if any(appears):
            raise SamePlace(
                f"{source.name} and {destination.name} are the same place, or one is "
                "inside the other: what is made in one of them appears in the other"
            )


async def _appears(at: Store, elsewhere: Store, above: bool, later: Later) -> bool:
    mark = await at.mark()
    if not mark:
        return False
    try:
        return await elsewhere.sees(mark, above)
    finally:
        later(_tidy(at))


async def _tidy(at: Store) -> None:
    # If it goes wrong, closing the store does it, or the next listing.
    with suppress(PeerError):
        await at.unmark()
