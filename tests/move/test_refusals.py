"""
What becomes of files when something comes in the way, at either end.
"""

from __future__ import annotations

import pytest

from realize.errors import (
    Busy,
    DigestMismatch,
    DirectoryGone,
    DiskError,
    InternalError,
    NoSpace,
    NotAllowed,
    PeerError,
    SyncFailed,
)
from tests.support.memory.disk import Node
from tests.support.moving import Scene

#: Large enough for several slices.
BIG = bytes(range(256)) * (20 * 1024)


@pytest.mark.parametrize("operation", ["read", "remove"])
@pytest.mark.parametrize("content", [b"small", BIG])
@pytest.mark.parametrize(
    ("what", "kind", "code"),
    [
        ("append", "deferred", "SOURCE_CHANGED"),
        ("replace", "deferred", "SOURCE_CHANGED"),
        ("truncate", "deferred", "SOURCE_CHANGED"),
        ("open", "deferred", "STILL_OPEN"),
        ("delete", "gone", "NO_SUCH_FILE"),
    ],
)
def test_source_disturbed(
    operation: str, content: bytes, what: str, kind: str, code: str
) -> None:
    """
    Changed, replaced, truncated, opened or deleted just before it is read, or just
    before it is removed: left as it is then, never removed unsaved.
    """
    scene = Scene()
    scene.here.put(b"a", content)
    scene.here.put(b"b", b"undisturbed")

    def disturb() -> None:
        match what:
            case "append":
                scene.here.append(b"a", b"more")
            case "replace":
                scene.here.files[b"a"] = Node(b"x" * len(content))
            case "truncate":
                scene.here.files[b"a"] = Node(content[:-1])
            case "open":
                scene.here.files[b"a"].writers = 1
            case _:
                del scene.here.files[b"a"]

    scene.trouble.before(operation, b"a", disturb)
    seen = scene.run()
    after = dict(scene.here.contents())
    if what == "delete" and operation == "remove":
        assert seen.of(b"a").kind == "moved"
    else:
        outcome = seen.of(b"a")
        assert (outcome.kind, outcome.code, outcome.side) == (kind, code, "source")
        assert outcome.text
        assert (b"a" in after) is (what != "delete")
    assert seen.of(b"b").kind == "moved"
    assert scene.there.contents().get(b"a", content) == content


def test_changed_in_the_middle_of_being_read() -> None:
    """
    What was read of two versions is never finished.
    """
    scene = Scene()
    scene.here.put(b"a", BIG)

    def change_once() -> None:
        if 0 < scene.mover.totals.sent < len(BIG) and scene.here.files[b"a"].mode:
            scene.here.files[b"a"].content = bytes(len(BIG))
            scene.here.append(b"a", b"")
            scene.here.files[b"a"].mode = 0

    seen = scene.run(change_once)
    assert seen.of(b"a").code == "SOURCE_CHANGED"
    assert scene.destination.link.asked["finish"] == 0
    assert scene.here.contents() == {b"a": bytes(len(BIG))}


@pytest.mark.parametrize("content", [b"small", BIG])
def test_digest_mismatch_is_sent_once_more(content: bytes) -> None:
    """
    Whole, and only once more.
    """
    for times, kind in ((1, "moved"), (2, "failed")):
        scene = Scene()
        scene.here.put(b"a", content)
        scene.trouble.fail("finish", DigestMismatch("flipped"), b"a", times)
        seen = scene.run()
        outcome = seen.of(b"a")
        assert outcome.kind == kind
        assert scene.destination.link.asked["finish"] == 2
        assert scene.mover.totals.sent == 2 * len(content)
        if kind == "failed":
            assert (outcome.code, outcome.side) == ("DIGEST_MISMATCH", "destination")
            assert scene.here.contents() == {b"a": content}
        else:
            assert scene.there.contents() == {b"a": content}


@pytest.mark.parametrize("operation", ["adopt", "offer", "write", "finish"])
@pytest.mark.parametrize("content", [b"small", BIG])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NoSpace("full"), "failed"),
        (SyncFailed("io"), "failed"),
        (NotAllowed("no"), "failed"),
        (DiskError("read-only file system"), "failed"),
        (Busy("laptop has it"), "deferred"),
    ],
)
@pytest.mark.parametrize("whole_call", [False, True])
def test_destination_refuses(
    operation: str, content: bytes, error: PeerError, kind: str, whole_call: bool
) -> None:
    """
    The file fails at the destination, for the reason given; the rest goes on.
    """
    scene = Scene(page_size=1)
    if operation == "adopt":
        scene.here.file_system = scene.there.file_system = "ext4"
    scene.here.put(b"a", content)
    scene.trouble.fail(operation, error, None if whole_call else b"a")
    for number in range(3):
        scene.here.put(b"b%d" % number, b"fine")
    seen = scene.run()
    (refused,) = [each for each in seen.outcomes if each.kind in ("failed", "deferred")]
    assert (refused.kind, refused.side) == (kind, "destination")
    assert (refused.code, refused.text) == (error.code, str(error))
    assert set(scene.here.contents()) == {refused.path}
    assert len(scene.there.files) == 3
    if not whole_call:
        assert refused.path == b"a"


@pytest.mark.parametrize("operation", ["read", "remove", "digest"])
@pytest.mark.parametrize("content", [b"small", BIG])
@pytest.mark.parametrize("whole_call", [False, True])
def test_source_refuses(operation: str, content: bytes, whole_call: bool) -> None:
    """
    The file fails at the source, and stays there.
    """
    scene = Scene()
    scene.here.put(b"a", content)
    if operation == "digest":
        scene.there.put(b"a", content)
    scene.trouble.fail(
        operation, DiskError("input/output error"), None if whole_call else b"a"
    )
    seen = scene.run()
    outcome = seen.of(b"a")
    assert (outcome.kind, outcome.side, outcome.code) == ("failed", "source", "DISK")
    assert scene.here.contents() == {b"a": content}


def test_no_space_for_one_of_many() -> None:
    """
    What does not fit fails; what fits is moved.
    """
    scene = Scene()
    scene.there.free = 1000
    scene.here.put(b"large", b"x" * 2000)
    for number in range(5):
        scene.here.put(b"%d" % number, b"x" * 100)
    seen = scene.run()
    assert seen.of(b"large").code == "NO_SPACE"
    assert scene.mover.totals.files["moved"] == 5


def test_names_that_cannot_be() -> None:
    """
    A directory where a file should go, a file where a directory should be, a name
    that is too long, and one that may not be replaced.
    """
    scene = Scene()
    scene.there.may_replace = False
    scene.there.directories[b"a"] = 0o755
    scene.there.put(b"f", b"file")
    scene.there.put(b"mine", b"mine")
    for path in (b"a", b"f/x", b"n" * 256, b"mine", b"fine"):
        scene.here.put(path, b"other")
    seen = scene.run()
    assert {each.path: each.code for each in seen.outcomes} == {
        b"a": "NAME_TAKEN",
        b"f/x": "NAME_TAKEN",
        b"n" * 256: "NAME_TOO_LONG",
        b"mine": "ALREADY_EXISTS",
        b"fine": "",
    }
    assert scene.there.files[b"mine"].content == b"mine"


@pytest.mark.parametrize("end", ["here", "there"])
def test_a_root_that_vanishes_ends_the_run(end: str) -> None:
    """
    The files of that batch fail, and the run with them; nothing is lost.
    """
    scene = Scene(page_size=10)
    files = {b"%d" % number: b"%d" % number for number in range(100)}
    for path, content in files.items():
        scene.here.put(path, content)
    disk = getattr(scene, end)

    def vanish() -> None:
        disk.gone = disk.gone or len(scene.there.files) >= 20

    with pytest.raises(DirectoryGone):
        scene.run(vanish)
    assert {**scene.here.contents(), **scene.there.contents()} == files
    assert scene.mover.totals.left > 0


def test_a_large_file_is_given_up_when_the_run_cannot_go_on() -> None:
    """
    What has not been begun of it is not begun any more.
    """
    scene = Scene()
    scene.mover.limit(64 * 1024)
    scene.here.put(b"big", BIG)
    scene.here.put(b"small", b"x")
    scene.trouble.fail("write", DirectoryGone("gone"), b"small")
    with pytest.raises(DirectoryGone):
        scene.run()
    assert scene.mover.totals.sent <= 128 * 1024


def test_a_large_file_that_fails_is_not_read_on() -> None:
    """
    Once its first slice was refused, no more than what was on its way is read.
    """
    scene = Scene()
    scene.mover.limit(64 * 1024)
    scene.here.put(b"big", BIG)
    scene.trouble.fail("write", NoSpace("full"), b"big")
    seen = scene.run()
    assert seen.of(b"big").code == "NO_SPACE"
    assert scene.source.link.asked["read"] <= 8


@pytest.mark.parametrize("times", [1, 3])
def test_the_last_writes_of_a_large_file_fail(times: int) -> None:
    """
    After the destination was asked to finish it: one outcome, and the source stays.
    """
    scene = Scene(delay=(0.0, 0.05))
    scene.here.put(b"big", BIG)
    scene.trouble.fail("write", NoSpace("full"), b"big", times=times)
    seen = scene.run()
    assert [outcome.code for outcome in seen.outcomes] == ["NO_SPACE"]
    assert scene.here.contents() == {b"big": BIG}
    assert scene.there.contents() == {}


def test_a_listing_that_fails_ends_the_run() -> None:
    """
    Without a listing there is nothing to go on with.
    """
    scene = Scene(page_size=10)
    for number in range(30):
        scene.here.put(b"%d" % number, b"x")
    scene.trouble.before("list", None, lambda: None)
    scene.trouble.fail("list", InternalError("bug"))
    with pytest.raises(InternalError):
        scene.run()


@pytest.mark.parametrize("content", [b"small", BIG])
def test_a_read_that_is_too_short_is_not_written(content: bytes) -> None:
    """
    Even if the source itself did not notice that the file was cut.
    """
    scene = Scene()
    scene.here.put(b"a", content)
    scene.here.put(b"b", b"fine")

    def cut() -> None:
        scene.here.files[b"a"].content = content[:-1]

    scene.trouble.before("read", b"a", cut)
    seen = scene.run()
    assert seen.of(b"a").kind == "deferred"
    assert seen.of(b"b").kind == "moved"
    assert b"a" not in scene.there.files


@pytest.mark.parametrize("content", [b"small", BIG])
def test_partial_of_odd_size_is_not_finished(content: bytes) -> None:
    """
    A destination whose partial does not hold what was written fails the file.
    """
    scene = Scene()
    scene.here.put(b"a", content)
    real = scene.destination._write
    scene.destination._write = lambda piece, data: real(piece, data) - 1  # type: ignore[method-assign]
    seen = scene.run()
    assert (seen.of(b"a").code, seen.of(b"a").side) == ("INTERNAL", "destination")
    assert scene.destination.link.asked["finish"] == 0
