"""
Moves that are granted less than they would take.
"""

from __future__ import annotations

import pytest
from attrs import define

from realize.errors import OverShare
from realize.model import Finish, Finished, Held, Offer, Piece
from realize.move.pace import LONGEST_REST
from tests.support.memory.destination import MemoryDestination
from tests.support.moving import Scene

#: Large enough for several slices.
BIG = bytes(range(256)) * (20 * 1024)


class Scarce(MemoryDestination):
    """
    A destination that has room for so many offers and so many partials.

    :ivar refused: how often there was none.
    """

    def __init__(self, scene: Scene, offers: int, partials: int) -> None:
        super().__init__(scene.there, scene.destination.link, scene.trouble)
        self.offers, self.partials = offers, partials
        self.refused = 0

    def _offer(self, item: Offer, reserve: bool) -> Held:
        if item.path not in self._offered and len(self._offered) >= self.offers:
            self.refused += 1
            raise OverShare("has to wait for memory")
        return super()._offer(item, reserve)

    def _write(self, piece: Piece, data: bytes) -> int:
        if piece.path not in self._writing and len(self._writing) >= self.partials:
            self.refused += 1
            raise OverShare("has to wait for descriptors")
        return super()._write(piece, data)

    def _finish(self, item: Finish) -> Finished:
        assert len(self._writing) <= self.partials
        return super()._finish(item)


@define
class Case:
    """
    What is granted, and what is moved.
    """

    offers: int
    partials: int
    files: int
    content: bytes


@pytest.mark.parametrize(
    "case",
    [
        Case(10_000, 1, 40, b"small"),
        Case(1, 1, 40, b"small"),
        Case(10_000, 40, 3000, b"small"),
        Case(50, 40, 3000, b"small"),
        Case(10_000, 1, 5, BIG),
        Case(2, 1, 5, BIG),
    ],
    ids=lambda case: f"{case.offers}-{case.partials}-{case.files}",
)
def test_everything_moves_in_one_run(case: Case) -> None:
    """
    However little is granted; and what is refused is soon not even asked for.
    """
    scene = Scene()
    for number in range(case.files):
        scene.here.put(b"%d" % number, case.content)
    scene.destination = scarce = Scarce(scene, case.offers, case.partials)
    seen = scene.run()
    assert set(seen.kinds().values()) == {"moved"}
    assert scene.here.contents() == {}
    assert len(scene.there.contents()) == case.files
    assert scarce.refused > 0
    assert scene.mover.totals.sent < 4 * case.files * len(case.content)


@pytest.mark.parametrize("operation", ["offer", "write", "finish"])
@pytest.mark.parametrize("whole_call", [False, True])
@pytest.mark.parametrize("content", [b"small", BIG])
def test_refused_for_now(operation: str, whole_call: bool, content: bytes) -> None:
    """
    A file, or a whole request: asked for again, and nothing is said of it.
    """
    scene = Scene()
    scene.here.put(b"a", content)
    scene.here.put(b"b", b"other")
    error = OverShare("has to wait")
    scene.trouble.fail(operation, error, None if whole_call else b"a", times=3)
    seen = scene.run()
    assert seen.kinds() == {b"a": "moved", b"b": "moved"}
    assert scene.there.contents() == {b"a": content, b"b": b"other"}


def test_asks_less_and_less_often() -> None:
    """
    While there is nothing to be had, every five seconds at last.
    """
    scene = Scene()
    scene.here.put(b"a", b"content")
    scene.trouble.fail("offer", OverShare("has to wait"), b"a", times=100)
    scene.run()
    asked = scene.destination.link.asked["offer"]
    assert asked == 101
    assert 80 * LONGEST_REST < scene.clock.seconds() < 101 * LONGEST_REST


def test_stopped_while_waiting() -> None:
    """
    Ends, although files wait.
    """
    scene = Scene()
    scene.here.put(b"a", b"content")
    scene.trouble.fail("offer", OverShare("has to wait"), b"a", times=10**6)

    def stop() -> None:
        if scene.clock.seconds() > 60:
            scene.mover.stop()

    seen = scene.run(stop)
    assert seen.outcomes == []
    assert scene.here.contents() == {b"a": b"content"}
