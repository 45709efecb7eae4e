"""
Receipts: written when a file is safe and before its source goes, or it stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from attrs import define, field
from blake3 import blake3
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from realize.errors import DiskError, NoSpace, PeerGone
from realize.move.mover import Mover
from realize.move.tally import Item
from tests.support.moving import Scene

FULL = DiskError("the audit log cannot be written: No space left on device")


@define
class Kept:
    """
    Receipts that take a while to write, and what was where when each was.

    :ivar full: events that cannot be written.
    """

    scene: Scene
    full: set[str] = field(factory=set)
    lines: list[tuple[str, bytes]] = field(factory=list)

    def begin(self, single_file: bool) -> None:
        """
        Both ends are open.
        """
        assert not single_file

    async def final(self, items: Sequence[Item]) -> None:
        """
        The source is there before and after the writing.
        """
        await self._write("final", items, at_source=True)

    async def removed(self, items: Sequence[Item]) -> None:
        """
        The source has gone.
        """
        await self._write("removed", items, at_source=False)

    async def _write(self, event: str, items: Sequence[Item], at_source: bool) -> None:
        scene = self.scene
        for when in ("before", "after"):
            for item in items:
                path = item.file.path
                content = scene.there.contents()[path]
                assert item.digest == blake3(content).digest(), when
                if not scene.there.file_system:
                    assert (path in scene.here.contents()) is at_source, when
            if when == "before":
                clock: IReactorTime = scene.clock
                await deferLater(clock, 1.0)  # type: ignore[arg-type]
        if event in self.full:
            raise FULL
        self.lines += [(event, item.file.path) for item in items]


@pytest.fixture(params=["copied", "present", "renamed"])
def scene(request: pytest.FixtureRequest) -> Scene:
    """
    Files that become final in each possible way, and one that does not.
    """
    scene = Scene()
    for name in (b"a", b"b", b"c"):
        scene.here.put(name, b"content of " + name)
        if request.param == "present":
            scene.there.put(name, b"content of " + name)
    if request.param == "renamed":
        scene.here.file_system = scene.there.file_system = "disk"
    scene.here.put(b"x", b"x")
    for operation in ("finish", "adopt"):
        scene.trouble.fail(operation, NoSpace("full"), b"x", times=2)
    return scene


def keeping(scene: Scene, *full: str) -> Kept:
    """
    Let the scene's mover keep receipts.
    """
    kept = Kept(scene, set(full))
    scene.mover = Mover(scene.settings, scene.clock, scene.seen, kept)
    return kept


def test_one_of_each_kind(scene: Scene) -> None:
    """
    For every file that was moved, and no other.
    """
    kept = keeping(scene)
    scene.run()
    for event in ("final", "removed"):
        assert sorted(path for each, path in kept.lines if each == event) == [
            b"a",
            b"b",
            b"c",
        ]
    assert set(scene.here.contents()) == {b"x"}


def test_without_its_receipt_a_file_stays(scene: Scene) -> None:
    """
    And has failed; one that was renamed could not stay, and has failed all the same.
    """
    kept = keeping(scene, "final")
    seen = scene.run()
    assert kept.lines == []
    if not scene.there.file_system:
        assert {b"a", b"b", b"c"} < set(scene.here.contents())
    assert seen.kinds()[b"a"] == "failed"
    assert "the audit log cannot be written" in seen.of(b"a").text
    assert scene.mover.totals.failed == 4
    # The next run finds the files there, proves them, and has its receipts.
    scene.open()
    kept = keeping(scene)
    scene.seen.outcomes.clear()
    scene.run()
    assert set(scene.here.contents()) == {b"x"}


def test_a_removal_without_receipt_has_failed(scene: Scene) -> None:
    """
    The file is where it should be, but the log is not complete.
    """
    keeping(scene, "removed")
    seen = scene.run()
    assert set(scene.here.contents()) == {b"x"}
    assert seen.kinds()[b"a"] == "failed"
    assert "it is at its destination, but" in seen.of(b"a").text


def test_a_connection_that_is_lost_costs_no_receipt(scene: Scene) -> None:
    """
    What was final before, and not removed, is removed and written down afterwards.
    What had been hidden and put back is proven once more, with one more receipt.
    """
    kept = keeping(scene)
    scene.trouble.before("remove", None, scene.source.link.lose)
    if not scene.there.file_system:
        with pytest.raises(PeerGone):
            scene.run()
        assert sorted(kept.lines) == [("final", b"a"), ("final", b"b"), ("final", b"c")]
        scene.open()
    seen = scene.run()
    present = "present" in seen.kinds().values()
    assert sorted(kept.lines) == [
        (event, path)
        for event in ("final", "removed")
        for path in (b"a", b"b", b"c")
        for _ in range(2 if present and event == "final" else 1)
    ]
