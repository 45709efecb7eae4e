"""
What a file and the one it replaces have in common, asked of both ends.

Both sign their groups at the same time, page by page, and some pages are asked for
ahead.  What the beginning of a file is made of is known before all pages are there, and
goes on its way at once: the destination copies while both sign the rest.  Of groups
that differ both tell the blocks, which they remember, and of blocks that differ they
sign the chunks; many such requests are on their way at once.  Nothing waits for one
answer per group.

**When it is worth it.**  Comparing costs both ends a pass over their file, at 1 GB/s or
so, and a few round trips; what it saves are bytes on the line.  A file that crosses in
one slice is not compared (:attr:`~realize.move.window.Window.slice`, which is smaller
the slower the line is).  Every other is: whoever pays for the line, or shares it,
gains, and where the line is as fast as the passes, sending all would take the ends
about as long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Any, Final

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure as TwistedFailure

from realize.delta.chunks import Cutting
from realize.delta.exchange import Signed
from realize.delta.matching import narrow, refine
from realize.delta.outline import Wait, early, outline
from realize.delta.plan import (
    Compare,
    Fetch,
    Reuse,
    Span,
    Step,
    join,
)
from realize.delta.signature import Signature
from realize.move.ahead import in_order, together
from realize.move.outcome import Side
from realize.move.signing import End, Signs

#: Pages of a signature on their way from one end.
PAGES: Final = 3

#: Groups of the new version that are compared together, and entries of an outline that
#: are taken together.
GROUPS: Final = 64
ENTRIES: Final = 256

#: Such comparisons in progress for one file; each takes two requests of either end, or
#: a few, one after the other.
COMPARISONS: Final = 16

#: Bytes after which no more chunks are compared, if nothing was found until then.
IN_VAIN: Final = 256 * 1024 * 1024


@define(eq=False)
class Comparison:
    """
    One file.
    """

    _source: End
    _present: End
    _clock: IReactorTime
    #: Groups that both files begin with.
    _common: int = 0
    #: Bytes whose chunks were compared, and bytes that were found.
    _compared: int = 0
    _found: int = 0
    #: Whether signing has ended, and how if that was a failure.
    _ended: TwistedFailure | bool = False
    #: Whether pages have come that were not looked at, and who waits for some.
    _told: bool = False
    _waiting: Deferred[None] | None = None

    @classmethod
    def of(
        cls,
        path: bytes,
        source: tuple[Signs, bytes, int],
        present: tuple[Signs, bytes, int],
        clock: IReactorTime,
        sparse: bool = False,
    ) -> Comparison:
        """
        :param source: the end, the version of the file there, and its size in bytes.
        :param present: the same for the file that is to be replaced.
        :param clock: gives others a turn while there is much to be compared.
        :param sparse: which digest of the source's version is wanted.
        """
        cutting = Cutting.of(max(source[2], present[2]))
        return cls(
            End("source", source[0], path, *source[1:], cutting, sparse),
            End("destination", present[0], path, present[1], present[2], cutting),
            clock,
        )

    @property
    def digest(self) -> bytes:
        """
        Of the source's version, once it is signed.
        """
        return self._source.digest

    @property
    def same(self) -> bool:
        """
        Whether both signatures are equal: so are the files, it seems.
        """
        self._look_for_common()
        return self._source.size == self._present.size and self._common == len(
            self._source.groups
        )

    async def steps(
        self, behind: int = 0, *, unless_same: bool = False
    ) -> AsyncGenerator[list[Step], None]:
        """
        Sign both versions, and plan; to be closed.

        The plan comes in order, and its first steps before all is signed.

        :param behind: bytes of the new version that need no plan.
        :param unless_same: there is none if both signatures turn out to be equal.
        :raises CannotCompare: one of the ends does not sign; also after some steps.
        """
        begun: deque[Deferred[list[Step]]] = deque()
        batch: list[Step | Compare] = []
        groups = 0
        signing = Deferred.fromCoroutine(
            together(self._sign(self._source), self._sign(self._present))
        )
        signing.addBoth(self._signed)
        try:
            async with aclosing(self._entries(behind, unless_same)) as entries:
                async for entry in entries:
                    if entry is not None:
                        batch.append(entry)
                        groups += len(entry.source) if isinstance(entry, Compare) else 0
                    if batch and (
                        entry is None or groups >= GROUPS or len(batch) >= ENTRIES
                    ):
                        begun.append(Deferred.fromCoroutine(self._resolve(batch)))
                        batch, groups = [], 0
                    while begun and (entry is None or len(begun) >= COMPARISONS):
                        yield await begun.popleft()
            begun.append(Deferred.fromCoroutine(self._resolve(batch)))
            while begun:
                yield await begun.popleft()
        finally:
            signing.cancel()
            for each in begun:
                each.addErrback(lambda _: None)
                each.cancel()

    async def _entries(
        self, behind: int, unless_same: bool
    ) -> AsyncGenerator[Step | Compare | None, None]:
        """
        What to do for each part of the new version; None where it takes a while until
        more is known.
        """
        beginning = early(self._source.groups, self._present.groups)
        done = behind
        while not self._ended:
            if self._differs():
                for entry in beginning:
                    if entry is Wait.MORE:
                        break
                    if entry is Wait.PAUSE:
                        await self._pause()
                    elif (end := self._account(entry)) > behind:
                        yield entry
                        done = end
            yield None
            await self._news()
        beginning.close()
        if isinstance(self._ended, TwistedFailure):
            self._ended.raiseException()
        if unless_same and self.same:
            return
        for planned in outline(self._source.groups, self._present.groups):
            if planned is None:
                await self._pause()
            elif self._account(planned) > done:
                yield planned

    def _account(self, entry: Step | Compare) -> int:
        """
        Where a part of the new version ends.
        """
        if isinstance(entry, Reuse):
            self._found += entry.length
        last = entry.source[-1] if isinstance(entry, Compare) else entry
        return last.offset + last.length

    def _differs(self) -> bool:
        """
        Whether the files differ, as far as is known.
        """
        self._look_for_common()
        source, present = self._source, self._present
        return source.size != present.size or self._common < min(
            len(source.groups), len(present.groups)
        )

    def _signed(self, result: object) -> None:
        self._ended = result if isinstance(result, TwistedFailure) else True
        self._tell()

    def _tell(self) -> None:
        """
        There are more pages, or no more will come.
        """
        self._told = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def _news(self) -> None:
        """
        Wait for that, if nothing has come since the last time.
        """
        if not self._told:
            self._waiting = Deferred()
            await self._waiting
        self._told = False

    async def _sign(self, end: End) -> None:
        def requests() -> Iterator[Coroutine[Deferred[Any], Any, Signed]]:
            number = 0
            while not end.groups.complete:
                yield end.page(number)
                number += 1

        async with aclosing(in_order(requests(), PAGES)) as pages:
            async for signed in pages:
                if end.groups.complete:
                    break
                end.add(signed)
                self._tell()
                if end is self._present and self._is_cut_off():
                    break

    def _is_cut_off(self) -> bool:
        """
        Whether the new version turns out to be a beginning of the present one, give or
        take its last group: then the rest of that need not be looked at.
        """
        self._look_for_common()
        source, present = self._source.groups, self._present.groups
        return (
            source.complete
            and present.end >= source.size
            and self._common >= len(source) - 1
        )

    def _look_for_common(self) -> None:
        source, present = self._source.groups, self._present.groups
        both = min(len(source), len(present))
        while self._common < both and (source[self._common] == present[self._common]):
            self._common += 1

    async def _resolve(self, entries: list[Step | Compare]) -> list[Step]:
        """
        What to do for consecutive parts of the new version.
        """
        steps: list[Step] = []
        compares: list[Compare] = []
        for entry in entries:
            if not isinstance(entry, Compare):
                steps.append(entry)
                continue
            length = sum(span.length for span in entry.source)
            if not self._found and self._compared >= IN_VAIN:
                steps.append(Fetch(entry.source[0].offset, length))
            else:
                self._compared += length
                compares.append(entry)
        rests: list[Compare] = []
        cutting = self._source.cutting
        for source, present in await self._ask(compares, blocks=True):
            for found in narrow(source, present, cutting):
                if found is None:
                    await self._pause()
                elif isinstance(found, Compare):
                    rests.append(found)
                else:
                    steps.append(found)
        for source, present in await self._ask(rests, blocks=False):
            for step in refine(source, present):
                if step is None:
                    await self._pause()
                else:
                    steps.append(step)
        steps.sort(key=lambda step: step.offset)
        self._found += sum(step.length for step in steps if isinstance(step, Reuse))
        return [step for step in join(steps) if step]

    async def _ask(
        self, compares: list[Compare], *, blocks: bool
    ) -> list[tuple[list[Signature], list[Signature]]]:
        """
        The parts of what is to be compared, of both ends.
        """
        if not compares:
            return []
        signatures: dict[Side, Iterator[Signature]] = {}

        async def ask(end: End, spans: list[Span]) -> None:
            signatures[end.side] = iter(await end.parts(spans, blocks))

        await together(
            ask(self._source, [span for each in compares for span in each.source]),
            ask(self._present, [span for each in compares for span in each.present]),
        )
        source, present = signatures["source"], signatures["destination"]
        return [
            (
                list(islice(source, len(each.source))),
                list(islice(present, len(each.present))),
            )
            for each in compares
        ]

    async def _pause(self) -> None:
        """
        Let everybody else have a turn.
        """
        turn: Deferred[None] = Deferred()
        call = self._clock.callLater(0, turn.callback, None)
        try:
            await turn
        finally:
            if call.active():
                call.cancel()
