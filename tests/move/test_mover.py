"""
What becomes of files when nothing comes in the way.
"""

from __future__ import annotations

import pytest
from blake3 import blake3

from realize.model import Finish, Finished, Notice
from realize.move.outcome import MoveSettings
from tests.support.memory.disk import NOW_NS
from tests.support.moving import Scene, without

#: Large enough for several slices.
BIG = bytes(range(256)) * (20 * 1024)


def test_everything_arrives() -> None:
    """
    Small, empty and large files, in directories and with awkward names.
    """
    scene = Scene()
    files = {
        b"empty": b"",
        b"a": b"content of a",
        b"deep/er/b": b"content of b",
        b"big": BIG,
        b"\xff\n{}": b"odd",
        b"-rf": b"odder",
    }
    for path, content in files.items():
        scene.here.put(path, content)
    scene.here.files[b"a"].mode = 0o640
    scene.here.directories[b"deep"] = 0o2750 & 0o777
    seen = scene.run()

    assert scene.here.contents() == {}
    assert scene.there.contents() == files
    assert scene.there.files[b"a"].mode == 0o640
    assert scene.there.files[b"a"].mtime_ns == NOW_NS - 3600 * 10**9
    assert scene.there.directories == {b"deep": 0o750, b"deep/er": 0o755}
    assert scene.there.partials == {}
    assert set(seen.kinds().values()) == {"moved"}
    outcome = seen.of(b"big")
    assert outcome.digest == blake3(BIG).digest()
    assert (outcome.sent, outcome.kept) == (len(BIG), 0)
    assert outcome.seconds > 0
    totals = scene.mover.totals
    assert (totals.listed, totals.ended, totals.left) == (6, 6, 0)
    assert totals.listed_bytes == totals.sent == seen.arrived == totals.ended_bytes
    assert totals.complete
    assert seen.larges == [(b"big", len(BIG), 0)]


def test_source_directories_stay_unless_asked_for() -> None:
    """
    Directories that the move emptied go only with ``remove_directories``, and
    those that hold something else never.
    """
    for remove in (False, True):
        scene = Scene(MoveSettings(remove_directories=remove))
        scene.here.put(b"gone/down/a", b"a")
        scene.here.put(b"stays/a", b"a")
        scene.here.put(b"stays/open", b"b")
        scene.here.files[b"stays/open"].writers = 1
        scene.run()
        assert b"stays" in scene.here.directories
        assert (b"gone" in scene.here.directories) is not remove


def test_directories_of_excluded_files_are_not_made() -> None:
    """
    Only directories above files that are moved are created.
    """
    scene = Scene(MoveSettings(selection=without("*.tmp")))
    scene.here.put(b"a/x.tmp", b"x")
    scene.here.put(b"b/y", b"y")
    scene.run()
    assert set(scene.there.directories) == {b"b"}
    assert set(scene.here.files) == {b"a/x.tmp"}
    assert scene.mover.totals.excluded == 1
    assert scene.mover.totals.listed == 1


def test_present_until_it_was_to_be_proven() -> None:
    """
    A file that vanishes at the destination after the offer is sent.
    """
    scene = Scene()
    scene.here.put(b"a", b"same")
    scene.there.put(b"a", b"same")
    real = scene.destination._finish

    def finish(item: Finish) -> Finished:
        if scene.destination.link.asked["finish"] == 1:
            scene.there.files.pop(item.path)
        return real(item)

    scene.destination._finish = finish  # type: ignore[method-assign]
    assert scene.run().of(b"a").kind == "moved"
    assert scene.there.contents() == {b"a": b"same"}


def test_present_with_the_same_content_is_not_sent() -> None:
    """
    The source is removed, after the destination made it durable.
    """
    scene = Scene()
    for path, content in ((b"a", b"same"), (b"big", BIG)):
        scene.here.put(path, content)
        scene.there.put(path, content)
        scene.there.files[path].durable = False
    seen = scene.run()
    assert set(seen.kinds().values()) == {"present"}
    assert scene.destination.link.asked["write"] == 0
    groups = scene.destination.link.asked["finish"]
    removals = scene.destination.link.asked["confirm"]
    assert 1 <= removals <= groups
    assert scene.source.link.asked["remove"] == 2 * removals
    assert all(node.durable for node in scene.there.files.values())
    assert scene.here.contents() == {}


@pytest.mark.parametrize("other", [b"elsewhere", b"elsewhere, and longer"])
@pytest.mark.parametrize("mine", [b"otherwise", BIG])
def test_other_content_is_replaced(mine: bytes, other: bytes) -> None:
    """
    Whether or not the size is the same.
    """
    scene = Scene()
    scene.here.put(b"a", mine)
    scene.there.put(b"a", other)
    seen = scene.run()
    assert seen.kinds() == {b"a": "replaced"}
    assert scene.there.contents() == {b"a": mine}
    assert scene.here.contents() == {}


def test_a_directory_that_keeps_its_files_is_told_of_once() -> None:
    """
    However many files are in it; none of them is moved.
    """
    scene = Scene()
    scene.here.notices = [
        Notice(path, "unremovable", "Permission denied")
        for path in (b"", b"d", b"empty")
    ]
    for number in range(5):
        scene.here.put(b"%d" % number, b"a")
        scene.here.put(b"d/%d" % number, b"a")
    scene.here.put(b"open/x", b"a")
    seen = scene.run()
    assert sorted(seen.notices, key=lambda each: each.path) == scene.here.notices[:2]
    assert seen.kinds() == {b"open/x": "moved"}


def test_notices_are_counted_and_told() -> None:
    """
    Symbolic links, special files, our own partials, unreadable directories.
    """
    scene = Scene()
    scene.here.notices = [
        Notice(b"link", "symlink"),
        Notice(b".x.realize-part", "partial"),
        Notice(b"secret", "unreadable", "permission denied"),
    ]
    scene.here.put(b"a", b"a")
    seen = scene.run()
    assert seen.notices == scene.here.notices
    totals = scene.mover.totals
    assert totals.notices == {
        "symlink": 1,
        "special": 0,
        "partial": 1,
        "unreadable": 1,
        "missing": 0,
        "unremovable": 0,
        "kept": 0,
        "set-id": 0,
        "hidden": 0,
    }
    assert (totals.failed, totals.succeeded) == (1, 1)


@pytest.mark.parametrize(
    ("age", "settled"), [(60.0, True), (29.0, False), (-1.0, False), (-3600.0, True)]
)
def test_settle(age: float, settled: bool) -> None:
    """
    Young files are deferred, and those dated slightly into the future.
    """
    scene = Scene(MoveSettings(settle=30.0))
    scene.here.put(b"a", b"a", NOW_NS - int(age * 10**9))
    seen = scene.run()
    assert (seen.of(b"a").kind == "moved") is settled
    if not settled:
        assert seen.of(b"a").code == "NOT_SETTLED"
        assert scene.mover.totals.listed == scene.mover.totals.deferred == 1
        assert scene.here.contents() == {b"a": b"a"}
