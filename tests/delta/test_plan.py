"""
Plans: they make the new version, cheaply, and in time that grows with the file.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realize.delta.chunks import Cutting
from realize.delta.matching import narrow, refine
from realize.delta.outline import outline
from realize.delta.plan import (
    Compare,
    Fetch,
    Reuse,
    Span,
    Step,
    join,
)
from realize.delta.signature import SHORT_DIGEST, Groups, Part, Signature
from tests.delta.test_chunks import DATA, MIB
from tests.delta.versions import make

CUTTING = Cutting(2048)

#: What a change in one place may cost: the chunk around it and one or two beside it.
NEARBY = 24 * 1024


def noise(size: int, seed: int) -> bytes:
    """
    Bytes that nothing else has.
    """
    return random.Random(seed).randbytes(size)  # noqa: S311


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from([0, 1, 500, 70_000, 2 * MIB]),
            st.sampled_from([0, 1, 500, 70_000]),
            st.sampled_from(["noise", "zeros", "moved"]),
        ),
        max_size=8,
    ),
    st.sampled_from([2048, 8192, 65536]),
)
@settings(max_examples=60, deadline=None)
def test_any_version_can_be_made(
    edits: list[tuple[float, int, int, str]], chunk: int
) -> None:
    """
    Whatever was removed, inserted, moved or repeated: the result is the new version,
    and at most what was inserted crosses, with a little about it.
    """
    new = DATA
    inserted = 0
    for where, removed, added, kind in edits:
        at = int(where * len(new))
        filling = {
            "noise": noise(added, at),
            "zeros": bytes(added),
            "moved": DATA[at // 2 : at // 2 + added],
        }[kind]
        new = new[:at] + filling + new[at + removed :]
        inserted += added

    made = make(new, DATA, Cutting(chunk))

    assert made.data == new
    assert made.fetched <= inserted + len(edits) * 20 * chunk


@pytest.mark.parametrize("present", [b"", b"x", bytes(3 * MIB), DATA])
@pytest.mark.parametrize(
    "new", [b"", b"x", b"y", bytes(MIB), bytes(7 * MIB), b"ab" * MIB, DATA[: 2 * MIB]]
)
def test_extremes(new: bytes, present: bytes) -> None:
    """
    Nothing, next to nothing, and the same over and over.
    """
    assert make(new, present, CUTTING).data == new


def test_the_same_again_costs_nothing() -> None:
    """
    An equal file is one step.
    """
    made = make(DATA, DATA, CUTTING)
    assert (made.fetched, made.steps) == (0, 1)


def test_an_insertion_costs_what_was_inserted() -> None:
    """
    At the front, where every later byte has moved.
    """
    made = make(noise(100_000, 1) + DATA, DATA, CUTTING)
    assert made.fetched <= 100_000 + NEARBY


def test_scattered_edits_cost_a_chunk_each() -> None:
    """
    Also when not one group is left as it was.
    """
    new = bytearray(DATA)
    for number in range(32):
        at = number * len(new) // 32 + 1000
        new[at : at + 16] = noise(16, number)

    made = make(bytes(new), DATA, CUTTING)

    assert made.data == new
    assert made.fetched <= 32 * 2 * 2048


def test_scattered_edits_are_found_beside_insertions() -> None:
    """
    Also when they lie in bytes that moved by more than a window's slack.
    """
    new = bytearray(DATA)
    for number in range(32):
        new[number * 262_144 + 1000] ^= 1
    for changed in (noise(7 * MIB, 1) + new, new + noise(7 * MIB, 2)):
        made = make(bytes(changed), DATA, CUTTING)
        assert made.data == changed
        assert made.fetched <= 7 * MIB + 33 * 2 * 2048 + NEARBY


def test_what_was_cut_off_is_not_looked_at() -> None:
    """
    Signatures of a few groups are enough, however many the present version has.
    """
    present = DATA + noise(24 * MIB, 3)
    made = make(DATA[:-1000], present, CUTTING)

    assert made.fetched <= NEARBY
    assert made.signed < 32 * 512 * 19 // 2


def test_parts_that_changed_places_are_found() -> None:
    """
    Groups match wherever they are.
    """
    half = len(DATA) // 2
    made = make(DATA[half:] + DATA[:half], DATA, CUTTING)
    assert made.fetched <= 4 * NEARBY


def test_zeros_are_one_step() -> None:
    """
    Of equal groups and chunks the next one is taken, so that runs stay together.
    """
    made = make(bytes(5 * MIB), bytes(9 * MIB), CUTTING)
    assert made.fetched == 0
    assert made.steps <= 2

    sparse = DATA[:MIB] + bytes(4 * MIB) + DATA[MIB:]
    made = make(sparse[:500] + b"!" + sparse[501:], sparse, CUTTING)
    assert made.fetched <= NEARBY
    assert made.steps <= 3


class CountingGroups(Groups):
    """
    Groups that count how often they are looked at.
    """

    looks = 0

    def __getitem__(self, number: int) -> Part:
        """
        One look.
        """
        CountingGroups.looks += 1
        return super().__getitem__(number)

    def offset(self, number: int) -> int:
        """
        One look.
        """
        CountingGroups.looks += 1
        return super().offset(number)


def numbered(contents: Iterator[int], count: int) -> CountingGroups:
    """
    Groups of 1 MiB; equal numbers are equal contents.
    """
    groups = CountingGroups(count * MIB, CUTTING)
    for number in range(count):
        digest = next(contents).to_bytes(SHORT_DIGEST, "big")
        groups.add(Signature(number * MIB, [MIB], digest))
    return groups


def zeros() -> Iterator[int]:
    """
    All the same.
    """
    while True:
        yield 0


def news(modulus: int, offset: int) -> Iterator[int]:
    """
    One in *modulus* is known, in descending order; the others are new.
    """
    number = 2**60
    while True:
        number -= 1
        yield number if number % modulus == 0 else number + offset


@pytest.mark.parametrize(
    "kind",
    [
        "zeros",
        "other zeros",
        "new",
        "every other",
        "every fifth",
        "backwards",
        "back again",
    ],
)
def test_time_grows_with_the_number_of_groups(kind: str) -> None:
    """
    Four times the groups are looked at about four times as often, at worst.
    """

    def looks(count: int) -> int:
        source, present = {
            "zeros": lambda: (zeros(), zeros()),
            "other zeros": lambda: (zeros(), news(1, 0)),
            "new": lambda: (news(1, 0), news(2**61, 2**62)),
            "every other": lambda: (news(2, 0), news(2, 2**62)),
            "every fifth": lambda: (news(5, 0), news(5, 2**62)),
            "backwards": lambda: (
                iter([n if n % 2 else -n + 2**62 for n in range(count)]),
                iter([n if n % 2 else n + 2**63 for n in reversed(range(count))]),
            ),
            "back again": lambda: (
                iter([n if n % 2 else 0 for n in range(count)]),
                iter([2**62 + n if n else 0 for n in range(count)]),
            ),
        }[kind]()
        pair = numbered(source, count), numbered(present, count)
        CountingGroups.looks = 0
        for step in outline(*pair):
            if isinstance(step, Compare):
                CountingGroups.looks += len(step.source) + len(step.present)
        return CountingGroups.looks

    few, many = looks(1000), looks(4000)
    assert few < 100 * 1000
    assert many < 5 * few


def test_what_is_compared_at_a_time_is_bounded() -> None:
    """
    A long stretch is taken in windows, each with the present groups that lie where its
    bytes should be.
    """
    steps = list(
        outline(numbered(news(1, 0), 3000), numbered(news(2**61, 2**62), 3000))
    )

    compares = [step for step in steps if isinstance(step, Compare)]
    assert compares == [step for step in steps if step is not None]
    assert [span.offset for step in compares for span in step.source] == [
        number * MIB for number in range(3000)
    ]
    assert max(len(step.source) for step in compares) <= 256
    assert max(len(step.present) for step in compares) <= 256 * 3 // 2 + 1
    for step in compares:
        offsets = [span.offset for span in step.present]
        assert set(offsets) >= {span.offset for span in step.source}
        assert offsets == sorted(set(offsets))


def test_with_nothing_to_compare_the_bytes_are_fetched() -> None:
    """
    Nobody is asked for chunks that could match nothing.
    """
    source = numbered(iter([1, 2, 3, 4]), 4)
    present = numbered(iter([1, 4]), 2)
    assert list(join(outline(source, present))) == [
        Reuse(0, MIB, 0),
        Fetch(MIB, 2 * MIB),
        Reuse(3 * MIB, MIB, MIB),
    ]


def blocks(offset: int, *contents: int) -> Signature:
    """
    Blocks of 1,000 bytes; equal numbers are equal contents.
    """
    digests = (number.to_bytes(SHORT_DIGEST, "big") for number in contents)
    return Signature(offset, [1000] * len(contents), b"".join(digests))


def test_only_blocks_that_differ_are_left() -> None:
    """
    Blocks in a row as one stretch; of the present ones none that is equal to one that
    was found.
    """
    source = [blocks(0, 1, 2, 3), blocks(3000, 4, 5)]
    present = [blocks(7000, 1, 6, 7), blocks(10_000, 8, 5, 5)]
    assert [step for step in narrow(source, present, CUTTING) if step] == [
        Reuse(0, 1000, 7000),
        Reuse(4000, 1000, 11_000),
        Compare([Span(1000, 3000)], [Span(8000, 3000)]),
    ]


def test_blocks_that_nothing_is_left_for_are_fetched() -> None:
    """
    If all present ones were found.
    """
    found = narrow([blocks(0, 1, 2)], [blocks(0, 1)], CUTTING)
    assert [step for step in found if step] == [Reuse(0, 1000, 0), Fetch(1000, 1000)]


def test_stretches_are_bounded() -> None:
    """
    None is longer than a group may be.
    """
    longest = CUTTING.largest_group // 1000
    source = [blocks(0, *range(longest)), blocks(longest * 1000, -1 % 2**64)]
    found = narrow(source, [blocks(0, 2**65)], CUTTING)
    (compare,) = (step for step in found if step)
    assert isinstance(compare, Compare)
    assert compare.source == [Span(0, longest * 1000), Span(longest * 1000, 1000)]


def test_equal_digests_of_other_lengths_are_not_equal() -> None:
    """
    A peer that makes up lengths can't have bytes reused beyond the present version.
    """
    ours = Signature(0, [1000], bytes(16))
    theirs = Signature(0, [10], bytes(16))
    assert [step for step in refine([ours], [theirs]) if step] == [Fetch(0, 1000)]


def test_time_between_pauses_is_bounded() -> None:
    """
    However much there is to match: whoever makes a plan can do other things meanwhile.
    """
    for present in (numbered(news(1, 0), 5000), numbered(news(2**61, 2**62), 5000)):
        CountingGroups.looks = 0
        most = before = 0
        for _ in outline(numbered(news(1, 0), 5000), present):
            most = max(most, CountingGroups.looks - before)
            before = CountingGroups.looks
        assert most < 4000

    chunks = Signature(0, [1024] * 512, bytes(SHORT_DIGEST * 512))
    matched = 0
    for step in refine([chunks] * 64, [chunks] * 64):
        matched = matched + 1 if step else 0
        assert matched <= 512


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 3), st.sampled_from([0, 1, 50])),
        max_size=20,
    )
)
def test_join_changes_nothing_but_the_number_of_steps(
    kinds: list[tuple[bool, int, int]],
) -> None:
    """
    Byte for byte the same, and no two neighbours could be one.
    """
    steps: list[Step] = []
    offset, present = 0, 0
    for reuse, length, jump in kinds:
        present += jump
        steps.append(Reuse(offset, length, present) if reuse else Fetch(offset, length))
        offset += length
        present += length

    joined = list(join(steps))

    def each(plan: list[Step]) -> list[tuple[int, int | None]]:
        return [
            (step.offset + n, step.present + n if isinstance(step, Reuse) else None)
            for step in plan
            for n in range(step.length)
        ]

    assert each(joined) == each(steps)
    for first, then in pairwise(joined):
        if isinstance(first, Reuse) and isinstance(then, Reuse):
            assert first.present + first.length != then.present
        else:
            assert type(first) is not type(then)
