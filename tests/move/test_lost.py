"""
A connection is lost, and the move goes on over another.
"""

from __future__ import annotations

import pytest

from realize.errors import DiskError, PeerGone
from realize.model import Notice
from realize.move.outcome import MoveSettings
from tests.support.moving import Scene, without

BIG = bytes(range(256)) * (20 * 1024)


@pytest.mark.parametrize("end", ["source", "destination"])
@pytest.mark.parametrize("event", range(1, 40, 3))
def test_lost_at_any_event(event: int, end: str) -> None:
    """
    Each file has one outcome in the end, and each is at one of the two places
    all the time.
    """
    scene = Scene(page_size=3)
    files = {b"%d" % number: b"%d" % number for number in range(10)}
    files[b"big"] = BIG
    files[b"there"] = b"there already"
    for path, content in files.items():
        scene.here.put(path, content)
    scene.there.put(b"there", files[b"there"])
    getattr(scene, end).link.lose_at(event)

    def all_safe() -> None:
        present = {**scene.there.contents(), **scene.here.contents()}
        assert present == files

    try:
        scene.run(all_safe)
    except PeerGone:
        scene.open()
        scene.run(all_safe)
        assert scene.seen.restarts <= 1
    assert scene.here.contents() == {}
    assert scene.there.contents() == files
    assert set(scene.seen.kinds()) == set(files)
    assert scene.mover.totals.listed == scene.mover.totals.ended == len(files)
    assert scene.mover.totals.listed_bytes == scene.mover.totals.ended_bytes


def test_an_unanswered_removal_is_asked_again() -> None:
    """
    Before anything is listed; a file that is gone by then counts as moved.
    """
    for removed in (False, True):
        scene = Scene()
        for number in range(3):
            scene.here.put(b"%d" % number, b"x")
        scene.trouble.before("remove", None, scene.source.link.lose)
        with pytest.raises(PeerGone):
            scene.run()
        scene.open()
        assert scene.mover.totals.ended == 0
        if removed:
            scene.here.files.clear()
        pending = list[int]()

        def note(scene: Scene = scene, pending: list[int] = pending) -> None:
            pending.append(len(scene.mover._pending))

        for operation in ("remove", "list"):
            scene.trouble.before(operation, None, note)
        scene.run()
        assert pending == [3, 0]
        # What was hidden and put back is found again.
        kind = "moved" if removed else "present"
        assert set(scene.seen.kinds().values()) == {kind}
        assert scene.destination.link.asked["write"] == 0
        assert scene.here.contents() == {}


def test_an_unanswered_unlink_of_a_present_file_is_asked_again() -> None:
    """
    It counts as present, although nobody finds it any more.
    """
    scene = Scene()
    for number in range(3):
        scene.here.put(b"%d" % number, b"x")
        scene.there.put(b"%d" % number, b"x")

    def each() -> None:
        if not scene.here.contents():
            scene.source.link.lose()

    with pytest.raises(PeerGone):
        scene.run(each)
    scene.open()
    scene.run()
    assert set(scene.seen.kinds().values()) == {"present"}
    assert len(scene.seen.outcomes) == 3


@pytest.mark.parametrize("answered", [True, False])
def test_hidden_files_are_put_back_and_go_on(answered: bool) -> None:
    """
    A connection lost between hiding and unlinking leaves nothing hidden, whether or
    not the answer was heard.  They look changed, and are not taken for changed.
    """
    scene = Scene()
    scene.here.put(b"a", b"x")
    scene.there.put(b"a", b"x")

    def each() -> None:
        if scene.here.hidden and not answered:
            scene.source.link.lose()

    if answered:
        scene.trouble.before("confirm", None, scene.destination.link.lose)
    with pytest.raises(PeerGone):
        scene.run(each)
    assert (b"a" in scene.mover._pending) == (not answered)
    scene.open()
    assert scene.here.files.keys() == {b"a"}
    assert scene.here.hidden == {}
    scene.run()
    assert scene.seen.kinds() == {b"a": "present"}
    assert scene.mover.totals.listed == scene.mover.totals.ended == 1
    assert scene.here.contents() == {}


def test_what_failed_or_was_deferred_is_not_tried_again() -> None:
    """
    Nor are notices given twice, or excluded files counted twice.
    """
    scene = Scene(MoveSettings(selection=without("*.tmp")), page_size=2)
    for path in (b"fails", b"open", b"x.tmp", b"later"):
        scene.here.put(path, b"x")
    scene.here.files[b"open"].writers = 1
    scene.here.notices = [Notice(b"link", "symlink")]
    scene.trouble.fail("offer", DiskError("no"), b"fails")
    scene.trouble.before("finish", b"later", scene.destination.link.lose)
    with pytest.raises(PeerGone):
        scene.run()
    assert set(scene.seen.kinds()) == {b"fails", b"open"}
    scene.here.files[b"open"].writers = 0
    scene.open()
    scene.run()
    assert (
        scene.seen.kinds()
        == {
            b"fails": "failed",
            b"open": "deferred",
            b"later": "moved",
        }
        or scene.seen.kinds()[b"later"] == "present"
    )
    totals = scene.mover.totals
    assert (totals.listed, totals.ended, totals.excluded) == (3, 3, 1)
    assert totals.notices["symlink"] == len(scene.seen.notices) == 1
    assert scene.here.files.keys() == {b"fails", b"open", b"x.tmp"}


def test_the_partial_is_continued_over_the_new_connection() -> None:
    """
    What had been written before the loss is not sent again.
    """
    scene = Scene()
    scene.here.put(b"a", BIG)

    def each() -> None:
        if len(scene.there.partials.get(b"a", b"")) >= 2 * 1024 * 1024:
            scene.destination.link.lose()

    with pytest.raises(PeerGone):
        scene.run(each)
    written = len(scene.there.partials[b"a"])
    scene.open()
    scene.run()
    assert scene.seen.of(b"a").kept == written
    assert scene.there.contents() == {b"a": BIG}


def test_lost_while_asking_where_the_stores_are() -> None:
    """
    Then nothing has begun, and the next run is the first.
    """
    scene = Scene()
    scene.here.put(b"a", b"a")
    scene.source.link.lose()
    with pytest.raises(PeerGone):
        scene.run()
    scene.open()
    scene.run()
    assert scene.seen.restarts == 0
    assert scene.seen.kinds() == {b"a": "moved"}
