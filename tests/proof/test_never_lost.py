"""
The never-lost machine of ``tests/move/test_never_lost.py`` with real stores, on the
file system of switches: whatever is switched, fails or is aborted, and whenever.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from realize.errors import RealizeError
from realize.store.guard import ignore_lease_signals
from tests.move.test_real_stores import Place
from tests.proof.holding import content_of, digests, is_ours
from tests.proof.test_switched import ANY_FAULT, SWITCHES
from tests.support.changing import append, overwrite, replace, truncate
from tests.support.fuse.mounting import Mounted, mount, needs_fuse
from tests.support.fuse.switches import Switches

pytestmark = needs_fuse

#: Some that a file system may take for each other.
PATHS = (
    b"a",
    b"A",
    b"d/c",
    b"d/d",
    b"e/f/g",
    "e/\u00e4".encode(),
    "e/a\u0308".encode(),
)

#: Seconds after which nothing is remembered any more, nor has just changed.
REMEMBERED: Final = 30.0

paths = st.sampled_from(PATHS)
sizes = st.sampled_from([0, 1, 100, 40_000, 3_000_000])


class Moving(RuleBasedStateMachine):
    """
    A move, disturbed in every way between any two answers of the disks.

    ``truth`` has, by path, the digest that must not be lost.
    """

    mounted: Mounted

    @initialize(role=st.sampled_from(["source", "destination", "both"]))
    def begin(self, role: str) -> None:
        """
        Two directories.
        """
        ignore_lease_signals()
        self.stack = ExitStack()
        folder = Path(tempfile.mkdtemp(dir=self.mounted.below))
        outside = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.mounted.fail()
        self.mounted.switch(Switches())
        self.below, seen = [], []
        for end in ("source", "destination"):
            if role in (end, "both"):
                self.below.append(folder / end)
                seen.append(self.mounted.root / folder.name / end)
            else:
                self.below.append(Path(outside) / end)
                seen.append(self.below[-1])
            self.below[-1].mkdir()
        self.source = seen[0]
        self.place = Place(seen[0], seen[1], copying=role != "both")
        self.truth: dict[bytes, bytes] = {}
        self.numbers = Random(1)

    @rule(abort_after=st.none() | st.integers(0, 40))
    def move(self, abort_after: int | None) -> None:
        """
        A run, to its end or until it is aborted.
        """
        with suppress(RealizeError):
            self.place.move(abort_after)

    @rule(path=paths, size=sizes)
    def write_new(self, path: bytes, size: int) -> None:
        """
        Somebody makes a file, unless there is one.
        """
        whole = self.source / os.fsdecode(path)
        try:
            whole.parent.mkdir(parents=True, exist_ok=True)
            with whole.open("xb") as file:
                file.write(content_of(path)[:20] + self.numbers.randbytes(size))
        except OSError:
            return
        self.note()

    @rule(path=paths, change=st.sampled_from([append, overwrite, truncate, replace]))
    def change(self, path: bytes, change: object) -> None:
        """
        Somebody changes a file that is there.
        """
        whole = self.source / os.fsdecode(path)
        try:
            change(whole)  # type: ignore[operator]
        except OSError:
            return
        finally:
            self.note()

    @rule(path=paths)
    def delete(self, path: bytes) -> None:
        """
        Somebody deletes a file: it may be lost now.
        """
        try:
            (self.source / os.fsdecode(path)).unlink()
        except OSError:
            return
        finally:
            self.note()

    @rule(switches=SWITCHES)
    def switch(self, switches: Switches) -> None:
        """
        The file system is another one from now on.
        """
        self.mounted.switch(switches)

    @rule(faults=st.lists(ANY_FAULT, max_size=3))
    def fail(self, faults: object) -> None:
        """
        These calls go wrong from now on, and no others.
        """
        self.mounted.fail(*faults)  # type: ignore[misc]

    def note(self) -> None:
        """
        What is at the source now is what must not be lost; what is not there any more
        was moved, or deleted by its user.
        """
        here = digests(self.below[0])
        there = set(digests(self.below[1]).values())
        moved = {path: each for path, each in self.truth.items() if each in there}
        self.truth = {**moved, **here}

    @invariant()
    def nothing_is_lost(self) -> None:
        """
        Not even between two runs.
        """
        if not hasattr(self, "truth"):
            return
        found = {each for end in self.below for each in digests(end).values()}
        assert [path for path, each in self.truth.items() if each not in found] == []

    def teardown(self) -> None:
        """
        Left alone, on an ordinary file system, everything arrives.
        """
        if not hasattr(self, "truth"):
            return
        try:
            self.mounted.fail()
            self.mounted.switch(Switches())
            until = time.monotonic() + REMEMBERED
            while left := self.run_undisturbed():
                assert time.monotonic() < until, left
                time.sleep(1)
        finally:
            self.stack.close()

    def run_undisturbed(self) -> list[bytes]:
        """
        :returns: what is still at the source.
        """
        self.place.move()
        self.nothing_is_lost()
        return [path for path in digests(self.below[0]) if not is_ours(path)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """
    One for all examples.
    """
    with ExitStack() as stack:

        @cache
        def mounted() -> Mounted:
            return stack.enter_context(mount(tmp_path_factory.mktemp("fuse") / "fs"))

        yield mounted()


@pytest.mark.parametrize(
    ("examples", "steps"),
    [
        pytest.param(6, 8, id="soon"),
        pytest.param(150, 20, id="nightly", marks=pytest.mark.nightly),
    ],
)
def test_never_lost(shared: Mounted, examples: int, steps: int) -> None:
    """
    Every file is at the source or at the destination, whole.
    """
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        type("Machine", (Moving,), {"mounted": shared}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
