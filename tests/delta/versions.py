"""
Make the new version of a file as a move does, in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from attrs import frozen

from realize.delta.chunks import Cutting
from realize.delta.plan import Compare, Reuse, Span, Step, join, outline, refine
from realize.delta.signature import (
    SHORT_DIGEST,
    Groups,
    Signature,
    check_chunks,
    sign_chunks,
    sign_groups,
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


def groups(data: bytes, cutting: Cutting, count: int = 3) -> Groups:
    """
    The groups of a file.
    """
    all_groups = Groups(len(data), cutting)
    for page in sign_groups(io.BytesIO(data), 0, cutting, count):
        all_groups.add(page)
    assert all_groups.complete
    return all_groups


def signatures(data: bytes, spans: list[Span], cutting: Cutting) -> list[Signature]:
    """
    The chunks of some groups, as a peer would send them.
    """
    found = []
    for span in spans:
        group = memoryview(data)[span.offset : span.offset + span.length]
        signature = sign_chunks(group, span.offset, cutting)
        check_chunks(signature, span.offset, span.length, cutting)
        found.append(signature)
    return found


def make(new: bytes, present: bytes, cutting: Cutting) -> Made:
    """
    Make *new* out of what is *present* and the bytes that are missing.
    """
    parts = groups(present, cutting)
    signed = 4 * len(parts) + SHORT_DIGEST * len(parts)

    def steps() -> Iterator[Step | None]:
        nonlocal signed
        for step in outline(groups(new, cutting), parts):
            if isinstance(step, Compare):
                theirs = signatures(present, step.present, cutting)
                chunks = sum(len(signature.lengths) for signature in theirs)
                signed += chunks * (3 + SHORT_DIGEST)
                yield from refine(signatures(new, step.source, cutting), theirs)
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
