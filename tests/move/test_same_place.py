"""
Two ends that are one place, and files that are one file.
"""

from __future__ import annotations

import pytest

from realize.errors import SameFile, SamePlace
from realize.model import Place
from realize.move.outcome import MoveSettings
from tests.support.moving import Scene, drive


def test_the_same_place_is_refused_before_anything_is_listed() -> None:
    """
    In a dry run as well, and whichever contains the other.
    """
    outer, inner = Place(b"o", [b"o"]), Place(b"i", [b"i", b"o"])
    for here, there in ((outer, inner), (inner, outer), (outer, outer)):
        for dry_run in (False, True):
            scene = Scene(MoveSettings(dry_run=dry_run))
            scene.here.place, scene.there.place = here, there
            scene.here.put(b"a", b"a")
            with pytest.raises(SamePlace, match="here and there are the same"):
                scene.run()
            assert scene.source.link.asked["list"] == 0
            assert scene.destination.link.asked.total() == 1
            assert scene.here.contents() == {b"a": b"a"}


def test_the_same_place_in_disguise_stops_the_run() -> None:
    """
    A file that vanishes at the destination when the source hides it is put back.
    """
    scene = Scene()
    for number in range(5):
        scene.here.put(b"%d" % number, b"precious")
    scene.there.files = scene.here.files
    marks = scene.here.marks
    # Not seen before the first file is hidden.
    scene.trouble.before("confirm", None, lambda: setattr(scene.there, "marks", marks))
    with pytest.raises(SameFile, match=r"it is hidden at there too: they are the same"):
        scene.run()
    assert scene.here.contents() == {b"%d" % n: b"precious" for n in range(5)}
    assert scene.here.hidden == {}


def test_changed_at_the_destination_while_hidden() -> None:
    """
    If the destination no longer has what it answered for, the source is put back.
    """
    scene = Scene()
    for path in (b"a", b"b"):
        scene.here.put(path, b"same")
        scene.there.put(path, b"same")
    scene.trouble.before("confirm", b"a", lambda: scene.there.append(b"a", b"!"))
    # Closing the source would put it back as well.
    drive(scene.clock, scene.mover.run(scene.source, scene.destination))
    seen = scene.seen
    assert (seen.of(b"a").kind, seen.of(b"a").side) == ("failed", "destination")
    assert seen.of(b"b").kind == "present"
    assert scene.here.contents() == {b"a": b"same"}
    assert scene.here.hidden == {}
