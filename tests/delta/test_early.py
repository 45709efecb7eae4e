"""
The beginning of a plan, made while groups are still coming.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from realize.delta.chunks import Cutting
from realize.delta.matching import BREATH
from realize.delta.outline import Wait, early, outline
from realize.delta.plan import Compare, Fetch, Reuse, Step
from realize.delta.signature import SHORT_DIGEST, Groups, Signature
from tests.delta.test_chunks import DATA, MIB
from tests.delta.versions import pages

CUTTING = Cutting(2048)


def end_of(entry: Step | Compare) -> int:
    """
    Where a part of the new version ends.
    """
    last = entry.source[-1] if isinstance(entry, Compare) else entry
    return last.offset + last.length


def begin_of(entry: Step | Compare) -> int:
    """
    Where it begins.
    """
    return entry.source[0].offset if isinstance(entry, Compare) else entry.offset


def until_waiting(entries: Iterator[Step | Compare | Wait]) -> list[Step | Compare]:
    """
    What can be said for now.
    """
    said = list[Step | Compare]()
    for entry in entries:
        if entry is Wait.MORE:
            break
        if not isinstance(entry, Wait):
            said.append(entry)
    return said


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from([0, 1, 500, 2 * MIB]),
            st.sampled_from([0, 1, 500, 70_000, 2 * MIB]),
            st.booleans(),
        ),
        max_size=5,
    ),
    st.lists(st.booleans(), max_size=30),
)
@settings(max_examples=40, deadline=None)
def test_goes_on_with_the_outline(
    edits: list[tuple[float, int, int, bool]], turns: list[bool]
) -> None:
    """
    However pages come in, what is said early and what the outline says of the rest
    are one plan: no gap, no overlap, and what is reused is equal.
    """
    new = DATA
    for where, removed, added, moved in edits:
        at = int(where * len(new))
        noise = random.Random(at).randbytes(added)  # noqa: S311  # no secret
        filling = DATA[at // 3 : at // 3 + added] if moved else noise
        new = new[:at] + filling + new[at + removed :]
    versions = {True: new, False: DATA}
    groups = {which: Groups(len(data), CUTTING) for which, data in versions.items()}
    coming = {which: list(pages(data, CUTTING, 1)) for which, data in versions.items()}
    entries = early(groups[True], groups[False])
    plan: list[Step | Compare] = []
    for turn in [*turns, *[True, False] * 30]:
        if coming[turn]:
            groups[turn].add(coming[turn].pop(0))
            plan += until_waiting(entries)
    done = end_of(plan[-1]) if plan else 0
    plan += [
        entry
        for entry in outline(groups[True], groups[False])
        if entry is not None and end_of(entry) > done
    ]

    at = 0
    for entry in plan:
        assert begin_of(entry) == at
        at = end_of(entry)
        if isinstance(entry, Reuse):
            present = DATA[entry.present : entry.present + entry.length]
            assert new[entry.offset : at] == present
    assert at == len(new)


def numbered(*contents: int) -> Iterator[Signature]:
    """
    Pages of one group of 1 MiB each; equal numbers are equal contents.
    """
    for number, content in enumerate(contents):
        digest = content.to_bytes(SHORT_DIGEST, "big")
        yield Signature(number * MIB, [MIB], digest)


def said(source: list[int], present: list[int], known: int) -> list[Step | Compare]:
    """
    What is said of two files once so many of their groups are known.
    """
    both = (Groups(len(source) * MIB, CUTTING), Groups(len(present) * MIB, CUTTING))
    for groups, contents in zip(both, (source, present), strict=True):
        for page in list(numbered(*contents))[:known]:
            groups.add(page)
    return until_waiting(early(*both))


def test_stays_behind_what_is_known() -> None:
    """
    A group that is not found yet may still come.
    """
    contents = list(range(20))
    assert end_of(said(contents, contents, 10)[-1]) == 6 * MIB
    assert said(contents, contents, 3) == []


def test_much_that_was_inserted_is_left_to_the_outline() -> None:
    """
    As it may be equal to what comes later.
    """
    inserted = [*range(3), 100, 101, 102, *range(3, 40)]
    assert end_of(said(inserted, list(range(40)), 30)[-1]) == 3 * MIB
    little = [*range(3), 100, *range(3, 40)]
    assert said(little, list(range(40)), 30)[3] == Fetch(3 * MIB, MIB)


def test_going_back_is_left_to_the_outline() -> None:
    """
    Also for good.
    """
    back = [5, 6, 7, 0, 1, 2, *range(8, 40)]
    assert end_of(said(back, list(range(40)), 40)[-1]) == 3 * MIB


def test_edits_are_compared_in_their_place() -> None:
    """
    With the groups between the matches around them.
    """
    edited = [*range(3), 100, 101, *range(5, 40)]
    compare = said(edited, list(range(40)), 30)[3]
    assert isinstance(compare, Compare)
    assert [span.offset // MIB for span in compare.source] == [3, 4]
    assert [span.offset // MIB for span in compare.present] == [3, 4]


def test_many_groups_are_taken_in_with_pauses() -> None:
    """
    Also what was known before anybody asked.
    """
    groups = Groups(5000 * MIB, CUTTING), Groups(5000 * MIB, CUTTING)
    for each in groups:
        for page in numbered(*range(5000)):
            each.add(page)
    longest = since = pauses = 0
    for entry in early(*groups):
        if entry is Wait.MORE:
            break
        since = 0 if entry is Wait.PAUSE else since + 1
        pauses += entry is Wait.PAUSE
        longest = max(longest, since)
    assert longest <= BREATH
    # To take them in, and to match them.
    assert pauses >= 2 * (5000 // BREATH)
