"""
Stopping a move, gently and at once.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.support.moving import Scene

BIG = bytes(range(256)) * (40 * 1024)


def many(scene: Scene, count: int = 5000) -> dict[bytes, bytes]:
    """
    Files to be moved.
    """
    files = {b"%d" % number: b"x" * 4096 for number in range(count)}
    for path, content in files.items():
        scene.here.put(path, content)
    return files


def test_stop_finishes_what_is_in_progress() -> None:
    """
    Every file that was begun ends; none is begun after.
    """
    scene = Scene(delay=(0.0, 0.1))
    files = many(scene)
    writes = 0

    def each() -> None:
        nonlocal writes
        if scene.there.files and not scene.mover.stopped:
            scene.mover.stop()
            writes = scene.destination.link.asked["write"]

    scene.run(each)
    assert scene.destination.link.asked["write"] == writes
    assert scene.there.partials == {}
    moved = scene.mover.totals.files["moved"]
    assert 0 < moved < len(files)
    assert len(scene.there.files) == moved
    assert scene.here.contents().keys() == files.keys() - scene.there.files.keys()
    assert scene.mover.totals.left == scene.mover.totals.listed - moved


def test_stop_finishes_the_large_files_in_progress() -> None:
    """
    And begins no other.
    """
    scene = Scene()
    files = {b"%d" % number: BIG for number in range(8)}
    for path in files:
        scene.here.put(path, BIG)

    def each() -> None:
        if scene.mover.totals.sent and not scene.mover.stopped:
            begun.update(path for path, _, _ in scene.seen.larges)
            scene.mover.stop()

    begun = set[bytes]()
    scene.run(each)
    assert scene.there.files.keys() == begun
    assert scene.there.partials == {}
    assert scene.here.files.keys() == files.keys() - begun != set()


def test_stop_before_running_lists_nothing() -> None:
    """
    There is nothing in progress then.
    """
    scene = Scene()
    many(scene, 3)
    scene.mover.stop()
    scene.run()
    assert scene.source.link.asked.total() == 0
    assert len(scene.here.files) == 3


@pytest.mark.parametrize("how", ["abort", "cancel"])
def test_abort_ends_at_once(how: str) -> None:
    """
    Nothing is waited for; everything is at one place or the other, and goes on in
    the next run.
    """
    scene = Scene(delay=(0.0, 0.1))
    files = many(scene)
    files[b"big"] = BIG
    scene.here.put(b"big", BIG)
    results: list[object] = []
    run = Deferred.fromCoroutine(scene.mover.run(scene.source, scene.destination))
    run.addBoth(results.append)
    while not scene.there.files:
        scene.clock.advance(0.05)
    if how == "abort":
        scene.mover.abort()
        assert results == [None]
    else:
        run.cancel()
        (failure,) = results
        assert failure.check(CancelledError)  # type: ignore[attr-defined]  # a Failure
    assert scene.clock.getDelayedCalls() == []
    assert {**scene.there.contents(), **scene.here.contents()} == files

    again = Scene(here=scene.here, there=scene.there)
    again.run()
    assert again.there.contents() == files
    assert again.here.contents() == {}


def test_abort_before_running() -> None:
    """
    Nothing happens then.
    """
    scene = Scene()
    many(scene, 3)
    scene.mover.abort()
    scene.run()
    assert scene.source.link.asked["list"] == 0


def test_stopping_twice_is_stopping() -> None:
    """
    And an abort after a stop ends at once.
    """
    scene = Scene(delay=(0.0, 0.1))
    many(scene)
    results: list[object] = []
    Deferred.fromCoroutine(scene.mover.run(scene.source, scene.destination)).addBoth(
        results.append
    )
    while not scene.there.files:
        scene.clock.advance(0.05)
    scene.mover.stop()
    scene.mover.stop()
    assert results == []
    scene.mover.abort()
    assert results == [None]


def test_abort_while_asking_where_the_stores_are() -> None:
    """
    A store that does not answer does not hold up the end.
    """
    scene = Scene(delay=(1000.0, 0.0))
    results: list[object] = []
    Deferred.fromCoroutine(scene.mover.run(scene.source, scene.destination)).addBoth(
        results.append
    )
    assert results == []
    scene.mover.abort()
    assert results == [None]
