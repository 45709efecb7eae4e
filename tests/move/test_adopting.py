"""
Files that a rename moves.
"""

from __future__ import annotations

from realize.errors import DiskError, OtherFileSystem
from realize.move.outcome import MoveSettings
from tests.support.moving import Scene

#: Large enough for several slices.
BIG = bytes(range(256)) * (20 * 1024)


def test_adopted_inside_one_file_system() -> None:
    """
    Where the destination can rename, nothing is read, and directories can go too.
    """
    scene = Scene(MoveSettings(remove_directories=True))
    scene.here.file_system = scene.there.file_system = "ext4"
    for number in range(3000):
        scene.here.put(b"d/%d" % number, b"x")
    scene.here.put(b"big", BIG)
    scene.here.files[b"d/7"].writers = 1
    scene.trouble.fail("adopt", DiskError("no"), b"d/8")
    seen = scene.run()
    assert scene.source.link.asked["read"] == scene.destination.link.asked["offer"] == 0
    assert scene.mover.totals.files["renamed"] == 2999
    assert seen.of(b"d/7").kind == "deferred"
    assert seen.of(b"d/7").side == "source"
    assert (seen.of(b"d/8").kind, seen.of(b"d/8").side) == ("failed", "destination")
    assert set(scene.here.files) == {b"d/7", b"d/8"}
    assert set(scene.here.directories) == {b"d"}


def test_adopting_empties_directories() -> None:
    """
    Directories emptied by renaming go as well, if that was asked for.
    """
    scene = Scene(MoveSettings(remove_directories=True))
    scene.here.file_system = scene.there.file_system = "ext4"
    scene.here.put(b"d/e/x", b"x")
    scene.run()
    assert scene.here.directories == {}


def test_a_file_on_another_file_system_is_copied() -> None:
    """
    Where only some files can be renamed, the others take the long way.
    """
    scene = Scene()
    scene.here.file_system = scene.there.file_system = "ext4"
    for path in (b"a", b"b", b"big"):
        scene.here.put(path, BIG if path == b"big" else path)
    for path in (b"b", b"big"):
        scene.trouble.fail("adopt", OtherFileSystem("would be copied"), path)
    seen = scene.run()
    assert seen.kinds() == {b"a": "renamed", b"b": "moved", b"big": "moved"}
    assert scene.here.contents() == {}


def test_a_store_that_cannot_adopt_is_asked_once() -> None:
    """
    The answer None holds for the whole run, and until it is there, nothing else is
    offered.
    """
    for file_system in ("", "ext4"):
        scene = Scene(delay=(0.0, 0.01))
        scene.there.file_system = file_system
        for number in range(5000):
            scene.here.put(b"%d" % number, b"x")
        scene.run()
        assert scene.destination.link.asked["adopt"] == 1
        assert scene.mover.totals.files["moved"] == 5000
