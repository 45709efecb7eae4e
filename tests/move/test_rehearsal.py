"""
A dry run says what would be and changes nothing.
"""

from __future__ import annotations

import copy

import pytest

from realize.errors import Busy, DirectoryGone, DiskError, PeerGone
from realize.model import Place
from realize.move.outcome import MoveSettings
from realize.texts import Line
from tests.support.memory.disk import NOW_NS
from tests.support.moving import Scene, without

BIG = bytes(range(256)) * (20 * 1024)


def rehearsal(**more: object) -> Scene:
    """
    A scene for a dry run.
    """
    return Scene(MoveSettings(dry_run=True, **more))  # type: ignore[arg-type]


def test_every_kind() -> None:
    """
    Moved, replaced, present, deferred and refused, each as a real run would say.
    """
    scene = rehearsal(selection=without("*.tmp"), settle=30.0)
    for path in (b"new", b"longer", b"differs", b"open", b"x.tmp", b"blocked", b"held"):
        scene.here.put(path, b"content")
    scene.here.put(b"same", BIG)
    scene.here.put(b"young", b"x", NOW_NS)
    scene.here.files[b"open"].writers = 1
    scene.there.put(b"longer", b"other content")
    scene.there.put(b"differs", b"CONTENT")
    scene.there.put(b"same", BIG)
    scene.there.directories[b"blocked"] = 0o755
    scene.trouble.fail("ask", Busy("laptop has it"), b"held")
    before = copy.deepcopy((scene.here, scene.there))
    seen = scene.run()
    assert seen.kinds() == {
        b"new": "moved",
        b"longer": "replaced",
        b"differs": "replaced",
        b"same": "present",
        b"open": "deferred",
        b"young": "deferred",
        b"held": "deferred",
        b"blocked": "failed",
    }
    assert (seen.of(b"blocked").side, seen.of(b"blocked").code) == (
        "destination",
        "NAME_TAKEN",
    )
    assert seen.of(b"open").side == "source"
    assert (scene.here, scene.there) == before
    changing = {"offer", "write", "finish", "adopt", "remove", "read"}
    asked = scene.source.link.asked + scene.destination.link.asked
    assert not changing & set(asked)
    assert scene.mover.totals.excluded == 1


def test_adopting_is_not_rehearsed_by_doing_it() -> None:
    """
    Two ends on one file system are not touched either.
    """
    scene = rehearsal()
    scene.here.file_system = scene.there.file_system = "ext4"
    scene.here.put(b"a", b"a")
    assert scene.run().kinds() == {b"a": "moved"}
    assert scene.here.contents() == {b"a": b"a"}


@pytest.mark.parametrize(
    ("operation", "side"),
    [("ask", "destination"), ("digest", "source"), ("compare", "destination")],
)
@pytest.mark.parametrize("path", [None, b"a"])
def test_refusals(operation: str, side: str, path: bytes | None) -> None:
    """
    Of one file or of a whole call, the end and the reason are told.
    """
    scene = rehearsal()
    scene.here.put(b"a", b"same")
    scene.there.put(b"a", b"same")
    scene.trouble.fail(operation, DiskError("broken"), path)
    outcome = scene.run().of(b"a")
    assert (outcome.kind, outcome.side, outcome.text) == ("failed", side, "broken")


def test_many_files_in_few_round_trips() -> None:
    """
    Nothing waits for one file.
    """
    scene = rehearsal()
    scene.delay = (0.05, 0.05)
    scene.open()
    for number in range(20_000):
        scene.here.put(b"%d" % number, b"x")
    scene.run()
    assert scene.mover.totals.files["moved"] == 20_000
    assert scene.clock.seconds() < 30 * 0.05


def test_lost_and_stopped() -> None:
    """
    A dry run goes on after a lost connection, and can be stopped.
    """
    scene = rehearsal()
    scene.page_size = 10
    scene.open()
    for number in range(50):
        scene.here.put(b"%d" % number, b"x")
    scene.source.link.lose_at(9)
    with pytest.raises(PeerGone):
        scene.run()
    scene.open()
    scene.mover.stop()
    scene.run()
    assert scene.mover.totals.left == scene.mover.totals.listed


def test_a_root_that_vanishes_ends_it() -> None:
    """
    As in a real run.
    """
    scene = rehearsal()
    scene.here.put(b"a", b"a")
    scene.there.gone = True
    with pytest.raises(DirectoryGone):
        scene.run()


@pytest.mark.parametrize("dry_run", [True, False])
def test_doubts_are_told(dry_run: bool) -> None:
    """
    What is not believed of the two ends, and of which; a real run has notices of what
    came of it.
    """
    scene = Scene(MoveSettings(dry_run=dry_run))
    scene.here.place = Place(b"here", [], [Line("fuse: leases")])
    scene.there.place = Place(b"there", [], [Line("nfs: names")])
    seen = scene.run()
    told = [
        f"{scene.source.name}: fuse: leases",
        f"{scene.destination.name}: nfs: names",
    ]
    assert seen.doubts == (told if dry_run else [])
