"""
Files that are sent in part, because the destination has an older version of them.
"""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from realize.errors import (
    DigestMismatch,
    DiskError,
    NoSpace,
    NotAllowed,
    PeerGone,
    SourceChanged,
)
from realize.move import patching
from realize.move.patching import PATCHES
from tests.support.memory import store
from tests.support.memory.disk import NOW_NS
from tests.support.moving import Scene, drive

MIB = 1024 * 1024
OLD = Random(1).randbytes(4 * MIB)  # noqa: S311  # no secret
NEW = (
    OLD[: MIB + 5] + b"edited" + OLD[MIB + 11 : 3 * MIB] + b"inserted" + OLD[3 * MIB :]
)


def scene(new: bytes = NEW, old: bytes = OLD, **kwargs) -> Scene:
    """
    A file and its older version.
    """
    made = Scene(**kwargs)
    made.here.put(b"d/x", new)
    made.there.put(b"d/x", old, NOW_NS)
    return made


def assert_moved(made: Scene, new: bytes = NEW) -> None:
    """
    The new version is where it should be, and nowhere else.
    """
    assert made.there.contents() == {b"d/x": new}
    assert made.here.contents() == {}
    assert made.there.partials == {}


class TestEdited:
    """
    What is sent, and what is not.
    """

    def test_only_what_changed_is_sent(self):
        """
        The rest is reused, and counted apart.
        """
        made = scene()
        seen = made.run()
        assert_moved(made)
        outcome = seen.of(b"d/x")
        assert outcome.kind == "replaced"
        assert outcome.sent + outcome.reused == len(NEW)
        assert outcome.sent < 200_000
        assert outcome.digest == blake3(NEW).digest()
        totals = made.mover.totals
        assert (totals.sent, totals.reused) == (outcome.sent, outcome.reused)
        assert (seen.arrived, seen.found_there) == (outcome.sent, outcome.reused)
        assert seen.larges == [(b"d/x", len(NEW), 0)]

    @pytest.mark.parametrize(
        "new",
        [
            b"inserted" * 1000 + OLD,
            OLD + b"appended" * 1000,
            OLD[: len(OLD) * 6 // 10],
            OLD[2 * MIB :] + OLD[: 2 * MIB],
            OLD[: 2 * MIB] + bytes(2 * MIB) + OLD[2 * MIB :],
        ],
        ids=["inserted", "appended", "cut off", "swapped", "zeros"],
    )
    def test_kinds_of_edits(self, new):
        """
        Each costs about what changed.
        """
        made = scene(new)
        outcome = made.run().of(b"d/x")
        assert_moved(made, new)
        assert outcome.sent < 300_000 + new.count(bytes(MIB)) * MIB

    def test_repeated(self):
        """
        Parts that occur more often than before are found once at least.
        """
        made = scene(OLD * 3)
        outcome = made.run().of(b"d/x")
        assert_moved(made, OLD * 3)
        assert outcome.reused > len(OLD)

    def test_nothing_in_common(self):
        """
        All of it is sent, once.
        """
        new = Random(2).randbytes(3 * MIB)  # noqa: S311  # no secret
        made = scene(new)
        outcome = made.run().of(b"d/x")
        assert_moved(made, new)
        assert (outcome.sent, outcome.reused) == (len(new), 0)

    def test_same_size(self):
        """
        A file that was modified at another time is not proven first.
        """
        new = OLD[:MIB] + b"edited" + OLD[MIB + 6 :]
        made = scene(new)
        outcome = made.run().of(b"d/x")
        assert_moved(made, new)
        assert 0 < outcome.sent < 100_000
        assert made.source.link.asked["digest"] == 0

    def test_same_content(self):
        """
        Nothing is written if it turns out that only the time differs.
        """
        made = scene(OLD)
        outcome = made.run().of(b"d/x")
        assert outcome.kind == "present"
        assert (outcome.sent, outcome.reused) == (0, 0)
        assert made.here.contents() == {}
        assert made.destination.link.asked["reuse"] == 0

    def test_same_content_beside_a_partial(self):
        """
        A partial of another version, of which nothing is kept, is not finished: its
        bytes are taken from the present file.
        """
        made = scene(OLD)
        made.there.partials[b"d/x"] = bytearray(NEW[::-1])
        outcome = made.run().of(b"d/x")
        assert_moved(made, OLD)
        assert (outcome.kept, outcome.sent, outcome.reused) == (0, 0, len(OLD))

    def test_same_size_and_time(self):
        """
        It is proven, and compared once that has failed.
        """
        new = OLD[:MIB] + b"edited" + OLD[MIB + 6 :]
        made = Scene()
        made.here.put(b"d/x", new)
        made.there.put(b"d/x", OLD)
        outcome = made.run().of(b"d/x")
        assert_moved(made, new)
        assert outcome.sent < 100_000

    def test_small_files_are_simply_sent(self):
        """
        What crosses in one slice is not compared.
        """
        made = scene(NEW[:MIB], OLD[: MIB - 1])
        outcome = made.run().of(b"d/x")
        assert (outcome.sent, outcome.reused) == (MIB, 0)
        assert made.source.link.asked["sign"] == 0

    def test_slow_lines_compare_smaller_files(self):
        """
        The same file is compared where it takes its time to cross.
        """
        made = scene(NEW[:MIB], OLD[: MIB - 1])
        made.mover.limit(256 * 1024)
        outcome = made.run().of(b"d/x")
        assert outcome.sent < 100_000

    def test_partial_is_kept(self):
        """
        What an earlier run has left goes first, the rest is compared.
        """
        made = scene()
        made.there.partials[b"d/x"] = bytearray(NEW[: 2 * MIB])
        outcome = made.run().of(b"d/x")
        assert_moved(made)
        assert outcome.kept == 2 * MIB
        assert outcome.sent + outcome.reused == len(NEW) - 2 * MIB
        assert outcome.sent < 100_000

    def test_what_was_kept_is_not_compared(self):
        """
        No chunks are asked for of what the partial has.
        """
        asked = []
        for kept in (0, 2 * MIB):
            made = scene(NEW[: 2 * MIB] + OLD[2 * MIB :])
            if kept:
                made.there.partials[b"d/x"] = bytearray(NEW[:kept])
            assert made.run().of(b"d/x").kept == kept
            asked.append(made.source.link.asked["sign"])
        assert asked[1] < asked[0]

    def test_others_have_their_turn(self):
        """
        While thousands of chunks are matched, the reactor gets on.
        """
        made = scene(Random(2).randbytes(8 * MIB), OLD * 2)  # noqa: S311
        pauses = 0
        call_later = made.clock.callLater

        def counted(delay, *call):
            nonlocal pauses
            pauses += delay == 0
            return call_later(delay, *call)

        made.clock.callLater = counted
        made.run()
        assert pauses > 10

    def test_many_files(self):
        """
        More than are compared at once, beside files that are new.
        """
        made = Scene()
        for n in range(20):
            made.here.put(b"%d" % n, NEW[n:])
            made.there.put(b"%d" % n, OLD, NOW_NS)
            made.here.put(b"new%d" % n, NEW[n : n + 2 * MIB])
        seen = made.run()
        assert made.here.contents() == {}
        for n in range(20):
            assert made.there.files[b"%d" % n].content == NEW[n:]
            assert seen.of(b"%d" % n).sent < 200_000

    def test_begins_while_the_rest_is_signed(self, monkeypatch):
        """
        What the beginning is made of is known before all pages have come.
        """
        monkeypatch.setattr(store, "PAGE", 1)
        monkeypatch.setattr(patching, "REUSED", 2 * MIB)
        old = Random(3).randbytes(24 * MIB)  # noqa: S311  # no secret
        for new in (b"inserted" + old, old + b"appended"):
            made = scene(new, old, delay=(0.1, 0.1))
            begun = []

            def begins(made=made, begun=begun) -> None:
                begun.append(made.destination.link.asked["sign present"])

            made.trouble.before("reuse", b"d/x", begins)
            outcome = made.run().of(b"d/x")
            assert_moved(made, new)
            assert outcome.sent < 100_000
            assert begun[0] < made.destination.link.asked["sign present"] - 2

    def test_same_content_in_many_pages(self, monkeypatch):
        """
        Files of the same size are not begun before they are known to differ.
        """
        monkeypatch.setattr(store, "PAGE", 1)
        monkeypatch.setattr(patching, "REUSED", 2 * MIB)
        old = Random(3).randbytes(24 * MIB)  # noqa: S311  # no secret
        made = scene(old, old, delay=(0.1, 0.1))
        assert made.run().of(b"d/x").kind == "present"
        assert made.destination.link.asked["reuse"] == 0

    def test_a_failure_after_the_beginning(self, monkeypatch):
        """
        What cannot be signed to its end is sent; of a source it is not.
        """
        monkeypatch.setattr(store, "PAGE", 1)
        monkeypatch.setattr(patching, "REUSED", 2 * MIB)
        old = Random(3).randbytes(24 * MIB)  # noqa: S311  # no secret
        new = old + b"appended"
        for end in ("sign present", "sign"):
            made = scene(new, old, delay=(0.1, 0.1))

            def fail(made=made, end=end) -> None:
                made.trouble.fail(end, DiskError("no"), b"d/x", times=9)

            made.trouble.before("reuse", b"d/x", fail)
            outcome = made.run().of(b"d/x")
            if end == "sign present":
                assert_moved(made, new)
            else:
                assert outcome.code == DiskError.code
                assert made.here.contents() == {b"d/x": new}
                assert made.there.contents() == {b"d/x": old}

    def test_nothing_waits_for_single_answers(self):
        """
        A hundred edits take no more round trips than a few.
        """
        old = Random(3).randbytes(24 * MIB)  # noqa: S311  # no secret
        new = bytearray(old)
        for n in range(100):
            new[n * 200_000 + 7] ^= 1
        made = scene(bytes(new), old, delay=(0.1, 0.1))
        made.run()
        assert_moved(made, bytes(new))
        assert made.clock.seconds() < 3.5


class TestTrouble:
    """
    The present file is not to be relied on, and neither is anything else.
    """

    @pytest.mark.parametrize("operation", ["sign present", "reuse"])
    @pytest.mark.parametrize("how", ["changes", "vanishes"])
    def test_present_file(self, operation, how):
        """
        It changes, or vanishes, when it is needed: the file is sent without it.
        """
        made = scene()

        def strike() -> None:
            if how == "changes":
                made.there.put(b"d/x", b"x" + OLD, NOW_NS)
            else:
                del made.there.files[b"d/x"]

        made.trouble.before(operation, b"d/x", strike)
        outcome = made.run().of(b"d/x")
        assert outcome.kind == ("replaced" if how == "changes" else "moved")
        assert_moved(made)
        assert made.destination.link.asked["offer"] == 2

    def test_changes_in_the_middle(self):
        """
        What was patched by then is kept.
        """
        new = b"".join(OLD[n:] for n in range(8))
        made = scene(new)
        for _ in range(2):
            made.trouble.before("reuse", b"d/x", lambda: None)
        made.trouble.before(
            "reuse", b"d/x", lambda: made.there.put(b"d/x", b"other", NOW_NS)
        )
        outcome = made.run().of(b"d/x")
        assert outcome.kind == "replaced"
        assert made.there.files[b"d/x"].content == new
        assert made.here.contents() == {}

    def test_present_vanishes_at_last(self):
        """
        It seemed to be the same, and then it was gone.
        """
        made = scene(OLD)
        made.trouble.before("finish", b"d/x", lambda: made.there.files.clear())
        assert made.run().of(b"d/x").kind == "moved"
        assert_moved(made, OLD)

    def test_may_not_be_signed(self):
        """
        The file is sent whole.
        """
        made = scene()
        made.trouble.fail("sign present", NotAllowed("no"), b"d/x", times=9)
        outcome = made.run().of(b"d/x")
        assert (outcome.kind, outcome.sent) == ("replaced", len(NEW))
        assert_moved(made)

    def test_source_cannot_be_signed(self):
        """
        Then it cannot be moved.
        """
        made = scene()
        made.trouble.fail("sign", SourceChanged("changed"), b"d/x", times=9)
        outcome = made.run().of(b"d/x")
        assert (outcome.kind, outcome.side) == ("deferred", "source")
        assert made.there.contents() == {b"d/x": OLD}

    def test_source_changes_while_it_is_read(self):
        """
        It stays.
        """
        made = scene()
        made.trouble.before("read", b"d/x", lambda: made.here.append(b"d/x", b"more"))
        assert made.run().of(b"d/x").kind == "deferred"
        assert made.here.contents() == {b"d/x": NEW + b"more"}

    @pytest.mark.parametrize("operation", ["reuse", "read"])
    def test_disk(self, operation):
        """
        What has nothing to do with the present file fails the file.
        """
        made = scene()
        made.trouble.fail(operation, DiskError("broken"), b"d/x")
        outcome = made.run().of(b"d/x")
        assert (outcome.kind, outcome.code) == ("failed", "DISK")
        assert made.here.contents() == {b"d/x": NEW}
        assert made.there.contents() == {b"d/x": OLD}

    def test_no_space(self):
        """
        The same.
        """
        made = scene()
        made.trouble.fail("reuse", NoSpace("full"), b"d/x")
        assert made.run().of(b"d/x").code == "NO_SPACE"

    def test_mismatch_sends_the_whole_file_once(self):
        """
        And once only.
        """
        made = scene()
        made.trouble.fail("finish", DigestMismatch("not that"), b"d/x")
        outcome = made.run().of(b"d/x")
        assert outcome.kind == "replaced"
        assert outcome.sent > len(NEW)
        assert_moved(made)
        made = scene()
        made.trouble.fail("finish", DigestMismatch("not that"), b"d/x", times=2)
        assert made.run().of(b"d/x").code == "DIGEST_MISMATCH"
        assert made.here.contents() == {b"d/x": NEW}

    def test_stop(self):
        """
        What has begun is done, what has not begun stays.
        """
        made = Scene()
        for n in range(20):
            made.here.put(b"%d" % n, NEW[n:])
            made.there.put(b"%d" % n, OLD, NOW_NS)
        made.trouble.before("reuse", b"3", made.mover.stop)
        seen = made.run()
        assert 0 < len(seen.outcomes) < 20
        assert len(made.here.files) == 20 - len(seen.outcomes)

    def test_no_patch_after_a_gap(self):
        """
        If the source's connection is lost, what was read already of later parts does
        not go to the destination.
        """
        new = Random(2).randbytes(8 * MIB)  # noqa: S311  # no secret
        lost = 0
        for event in range(12, 36):
            made = scene(new, delay=(0.1, 0.01))
            made.source.link._jitter = Random(event).random  # noqa: S311
            made.source.link.lose_at(event)
            seen = []
            reuse = made.destination.reuse

            async def watched(patch, payload, reuse=reuse, seen=seen):
                seen.append((patch.steps[0].offset, patch.steps[-1]))
                return await reuse(patch, payload)

            made.destination.reuse = watched
            with contextlib.suppress(PeerGone):
                made.run()
            lost += bool(made.here.files and seen)
            end = 0
            for offset, last in seen:
                assert offset == end
                end = last.offset + last.length
        assert lost

    def test_abort(self):
        """
        Nothing is left waiting.
        """
        made = scene()
        made.trouble.before("reuse", b"d/x", made.mover.abort)
        made.run()
        assert made.here.contents() == {b"d/x": NEW}
        assert made.there.contents() == {b"d/x": OLD}

    def test_patches_on_their_way_are_bounded(self):
        """
        However long the file is.
        """
        new = b"".join(OLD[n:] for n in range(60))
        made = scene(new, delay=(0.001, 1.0))
        most = 0

        def each() -> None:
            nonlocal most
            most = max(most, len(made.destination.link._waiting))

        made.run(each)
        assert_moved(made, new)
        assert most <= PATCHES + 16


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from([0, 1, 500, 70_000, MIB]),
            st.sampled_from([0, 1, 500, 70_000]),
        ),
        max_size=6,
    ),
    st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=4),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_any_edits_and_lost_connections(edits, losses, slow):
    """
    The new version arrives whatever was edited, and wherever connections are lost; in
    the meantime both versions are where they were.
    """
    new = OLD
    for where, removed, added in edits:
        at = int(where * len(new))
        filling = Random(at).randbytes(added)  # noqa: S311  # no secret
        new = new[:at] + filling + new[at + removed :]
    made = scene(new)
    made.mover.limit(256 * 1024 if slow else None)

    def whole() -> None:
        there = made.there.contents()[b"d/x"]
        assert there in (OLD, new)
        assert there == new or made.here.contents()[b"d/x"] == new

    for at_source, event in losses:
        end = made.source if at_source else made.destination
        end.link.lose_at(event)
        with contextlib.suppress(PeerGone):
            drive(made.clock, made.mover.run(made.source, made.destination), each=whole)
        made.open()
    made.run(whole)
    assert made.there.contents() == {b"d/x": new}
    assert made.here.contents() == {}
