"""
What the steps of a run share: reading no faster than it may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from realize.model import Digests, Extent, Failure, File, Prefix, Range
from realize.move.run import Run
from realize.move.tally import Item


class Source:
    """
    Notes what is asked.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def read(
        self, _ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes]:
        """
        Nothing.
        """
        self.asked.append("read")
        return [], b""

    async def digest(self, _files: Sequence[Prefix]) -> Sequence[Digests | Failure]:
        """
        Nothing.
        """
        self.asked.append("digest")
        return []


def run_of(source: Source, clock: Clock, taken: list[int]) -> Run:
    """
    A run that may read 100 bytes a second.
    """

    def take(nbytes: int) -> float:
        taken.append(nbytes)
        return nbytes / 100

    nothing = cast(Any, None)
    ends = cast(Any, source), nothing
    return Run(nothing, *ends, nothing, clock, nothing, nothing, take)


def test_reading_waits_until_it_may() -> None:
    """
    For as many bytes as are carried.
    """
    source, clock, taken = Source(), Clock(), list[int]()
    run = run_of(source, clock, taken)
    wanted = [Range(b"f", b"", 0, 200), Range(b"g", b"", 0, 100)]
    Deferred.fromCoroutine(run.read(wanted))
    clock.advance(2.9)
    assert (source.asked, taken) == ([], [300])
    clock.advance(0.2)
    assert source.asked == ["read"]


def test_digesting_waits_for_data_but_not_for_holes() -> None:
    """
    A sparse file costs what its data costs.
    """
    source, clock, taken = Source(), Clock(), list[int]()
    run = run_of(source, clock, taken)
    size = 1 << 60
    file = File(b"f", size, 0, 0o644, b"", holes=size - 100)
    item = Item(file, 0.0)
    Deferred.fromCoroutine(run.digests([item], [item.prefix(size)])).addErrback(
        lambda _: None
    )
    assert (source.asked, taken) == ([], [100])
    clock.advance(1.1)
    assert source.asked == ["digest"]
