"""
Make the new version of a file as a move does, in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from attrs import frozen

from realize.delta.chunks import Cutting
from realize.delta.matching import narrow, refine
from realize.delta.outline import outline
from realize.delta.plan import (
    Compare,
    Reuse,
    Span,
    Step,
    join,
)
from realize.delta.signature import (
    SHORT_DIGEST,
    Groups,
    Signature,
    check_parts,
    pages_of,
    sign_blocks,
    sign_chunks,
    sign_group,
)


@frozen
class Made:
    """
    A new version, and what it took.

    :ivar fetched: bytes that came from the source.
    :ivar signed: bytes of the present version's signatures, give or take.
    :ivar steps: how many.
    """

    data: bytes
    fetched: int
    signed: int
    steps: int


def pages(data: bytes, cutting: Cutting, count: int = 3) -> Iterator[Signature]:
    """
    The groups of a file, as a peer would send them.
    """
    return pages_of(sign_blocks(io.BytesIO(data), 0, cutting), 0, count)


def groups(data: bytes, cutting: Cutting, count: int = 3) -> Groups:
    """
    The groups of a file.
    """
    all_groups = Groups(len(data), cutting)
    for page in pages(data, cutting, count):
        all_groups.add(page)
    assert all_groups.complete
    return all_groups


def blocks(data: bytes, spans: list[Span], cutting: Cutting) -> list[Signature]:
    """
    The blocks of some groups, as a peer would send them.
    """
    found = []
    for span in spans:
        stream = io.BytesIO(data[span.offset : span.offset + span.length])
        signature = sign_group(stream, span.offset, cutting)
        check_parts(
            signature, span.offset, span.length, cutting.most_blocks(span.length)
        )
        found.append(signature)
    return found


def chunks(data: bytes, spans: list[Span], cutting: Cutting) -> list[Signature]:
    """
    The chunks of some stretches, as a peer would send them.
    """
    found = []
    for span in spans:
        assert span.length <= cutting.largest_group
        stretch = memoryview(data)[span.offset : span.offset + span.length]
        signature = sign_chunks(stretch, span.offset, cutting)
        check_parts(
            signature, span.offset, span.length, cutting.most_chunks(span.length)
        )
        found.append(signature)
    return found


def make(new: bytes, present: bytes, cutting: Cutting) -> Made:
    """
    Make *new* out of what is *present* and the bytes that are missing.
    """
    parts = groups(present, cutting)
    signed = 4 * len(parts) + SHORT_DIGEST * len(parts)

    def count_signed(theirs: list[Signature]) -> list[Signature]:
        nonlocal signed
        signed += sum(len(each.lengths) for each in theirs) * (3 + SHORT_DIGEST)
        return theirs

    def resolved(step: Compare) -> Iterator[Step | None]:
        theirs = count_signed(blocks(present, step.present, cutting))
        for part in narrow(blocks(new, step.source, cutting), theirs, cutting):
            if isinstance(part, Compare):
                theirs = count_signed(chunks(present, part.present, cutting))
                yield from refine(chunks(new, part.source, cutting), theirs)
            else:
                yield part

    def steps() -> Iterator[Step | None]:
        for step in outline(groups(new, cutting), parts):
            if isinstance(step, Compare):
                found = [part for part in resolved(step) if part]
                yield from sorted(found, key=lambda part: part.offset)
            else:
                yield step

    made = bytearray()
    fetched = count = 0
    for step in join(steps()):
        if step is None:
            continue
        assert step.offset == len(made)
        assert step.length > 0
        count += 1
        if isinstance(step, Reuse):
            assert step.present + step.length <= len(present)
            made += present[step.present : step.present + step.length]
        else:
            made += new[step.offset : step.offset + step.length]
            fetched += step.length
    return Made(bytes(made), fetched, signed, count)
