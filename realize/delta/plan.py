"""
Plans: how to make the new version of a file out of the one that is present.

A plan is made in three passes, each of them a stream:

1. :func:`~realize.delta.outline.outline` matches groups.  What matches is a
   :class:`Reuse`; a stretch that does not is a :class:`Compare`, which names the groups
   of the present version that its bytes may have come from.
2. :func:`~realize.delta.matching.narrow` matches the blocks of one :class:`Compare`.
   What matches is a :class:`Reuse`; what is left, of both versions, is a
   :class:`Compare` of stretches, which are blocks in a row.
3. :func:`~realize.delta.matching.refine` matches the chunks of that: :class:`Reuse`
   and :class:`Fetch`.

Nothing that is done for one :class:`Compare` depends on another, so that a caller may
ask for the blocks and chunks of many stretches before the first answer has come.
:func:`join` makes one step of what belongs together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from realize.delta.signature import Length, Offset
from realize.model import Natural, Value


class Span(Value, frozen=True):
    """
    A group or a stretch, by its place in its file.

    :ivar offset: bytes.
    :ivar length: bytes.
    """

    offset: Offset
    length: Length


class Reuse(Value, frozen=True, tag="reuse"):
    """
    Bytes of the new version that the present one has too.

    :ivar offset: where they begin in the new version, in bytes.
    :ivar length: bytes; any number of groups or chunks.
    :ivar present: where they begin in the present version, in bytes.
    """

    offset: Natural
    length: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    present: Natural


class Fetch(Value, frozen=True, tag="fetch"):
    """
    Bytes of the new version that have to come from the source.

    :ivar offset: where they begin in the new version, in bytes.
    :ivar length: bytes; any number.
    """

    offset: Natural
    length: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Compare(Value, frozen=True):
    """
    Groups of the new version whose blocks have to be looked at, or stretches whose
    chunks have to be.

    :ivar source: in order; groups are without a gap between them.  Never empty.
    :ivar present: those of the present version to compare them with, in order; never
        empty.
    """

    source: list[Span]
    present: list[Span]


Step = Reuse | Fetch


def join(steps: Iterable[Step | None]) -> Iterator[Step | None]:
    """
    Make one step of those that continue each other; pauses stay.
    """
    held: Step | None = None
    for step in steps:
        if step is None:
            yield None
            continue
        joined = held and joined_step(held, step)
        if held and not joined:
            yield held
        held = joined or step
    if held:
        yield held


def part_of(step: Step, skip: int, length: int) -> Step:
    """
    The part of a step that begins after *skip* bytes of it and has *length*.
    """
    if isinstance(step, Reuse):
        return Reuse(step.offset + skip, length, step.present + skip)
    return Fetch(step.offset + skip, length)


def joined_step(first: Step, then: Step) -> Step | None:
    """
    One step that does what two do, of which one follows the other; None if there is
    none.
    """
    if isinstance(first, Fetch) and isinstance(then, Fetch):
        return Fetch(first.offset, first.length + then.length)
    if (
        isinstance(first, Reuse)
        and isinstance(then, Reuse)
        and first.present + first.length == then.present
    ):
        return Reuse(first.offset, first.length + then.length, first.present)
    return None
