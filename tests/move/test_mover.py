"""
What becomes of files, whatever happens to them on the way.
"""

from __future__ import annotations

import pytest
from blake3 import blake3

from realize.errors import (
    Busy,
    DigestMismatch,
    DirectoryGone,
    DiskError,
    InternalError,
    NoSpace,
    NotAllowed,
    OtherFileSystem,
    PeerError,
    SameFile,
    SamePlace,
    SourceChanged,
    StillOpen,
    SyncFailed,
)
from realize.model import PREFIX_STEP, Finish, Finished, Notice, Place
from realize.move.excludes import Excludes
from realize.move.outcome import MoveSettings
from tests.support.memory.disk import NOW_NS, Node
from tests.support.moving import Scene, drive

MIB = 1024 * 1024

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
    scene = Scene(MoveSettings(excludes=Excludes.parse(["*.tmp"])))
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
    The source is removed, in two steps, after the destination made it durable.
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
    assert scene.destination.link.asked["ask"] == groups
    assert scene.source.link.asked["remove"] == 2 * groups
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
    with pytest.raises(SameFile, match=r"hiding it at here made it vanish at there"):
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
    scene.trouble.before("ask", b"a", lambda: scene.there.append(b"a", b"!"))
    # Closing the source would put it back as well.
    drive(scene.clock, scene.mover.run(scene.source, scene.destination))
    seen = scene.seen
    assert (seen.of(b"a").kind, seen.of(b"a").side) == ("failed", "destination")
    assert seen.of(b"b").kind == "present"
    assert scene.here.contents() == {b"a": b"same"}
    assert scene.here.hidden == {}


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


# -- partials of earlier runs


def partial(scene: Scene, content: bytes, held: bytes) -> None:
    """
    A file of which the destination holds something.
    """
    scene.here.put(b"a", content)
    scene.there.partials[b"a"] = bytearray(held)


def test_a_partial_is_continued() -> None:
    """
    What it holds rightly is not sent again.
    """
    scene = Scene()
    partial(scene, BIG, BIG[: 3 * MIB])
    seen = scene.run()
    outcome = seen.of(b"a")
    assert (outcome.kind, outcome.kept) == ("moved", 3 * MIB)
    assert outcome.sent == scene.mover.totals.sent == len(BIG) - 3 * MIB
    assert scene.mover.totals.kept == 3 * MIB
    assert outcome.digest == blake3(BIG).digest()
    assert scene.there.contents() == {b"a": BIG}
    assert seen.larges == [(b"a", len(BIG), 3 * MIB)]


def test_a_damaged_tail_is_sent_again() -> None:
    """
    Up to the last step that agrees, the partial is kept.
    """
    content = BIG * 16
    held = bytearray(content[: PREFIX_STEP + 5 * MIB])
    held[PREFIX_STEP + 100] ^= 1
    scene = Scene()
    partial(scene, content, held)
    seen = scene.run()
    assert seen.of(b"a").kept == PREFIX_STEP
    assert scene.there.contents() == {b"a": content}


@pytest.mark.parametrize(
    ("held", "kept"),
    [(BIG, len(BIG)), (BIG + b"and more", len(BIG)), (b"\0" * 2 * MIB, 0)],
)
def test_complete_overlong_and_useless_partials(held: bytes, kept: int) -> None:
    """
    One that has it all is finished as it is; of one that has more, the rest is cut
    off; of one that has other content, nothing is kept.
    """
    scene = Scene()
    partial(scene, BIG, held)
    seen = scene.run()
    assert (seen.of(b"a").kind, seen.of(b"a").kept) == ("moved", kept)
    assert seen.of(b"a").sent == len(BIG) - kept
    assert scene.there.contents() == {b"a": BIG}


def test_a_small_file_is_not_worth_comparing() -> None:
    """
    It is sent whole, in its batch.
    """
    scene = Scene()
    partial(scene, b"small", b"sma")
    seen = scene.run()
    assert seen.of(b"a").sent == 5
    assert scene.source.link.asked["digest"] == 0


@pytest.mark.parametrize(
    ("operation", "path", "side", "error"),
    [
        ("digest", b"a", "source", SourceChanged("changed")),
        ("digest", None, "source", StillOpen("open")),
        ("write", b"a", "destination", Busy("held")),
        ("write", None, "destination", NoSpace("full")),
    ],
)
def test_comparing_a_partial_fails(
    operation: str, path: bytes | None, side: str, error: PeerError
) -> None:
    """
    Then the file does, at the end that said so, and the partial stays.
    """
    scene = Scene()
    partial(scene, BIG, BIG[:MIB])
    scene.trouble.fail(operation, error, path)
    seen = scene.run()
    assert (seen.of(b"a").side, seen.of(b"a").code) == (side, error.code)
    assert scene.here.contents() == {b"a": BIG}
    assert len(scene.there.partials[b"a"]) == MIB


def test_keeping_too_much_is_not_believed() -> None:
    """
    A destination that claims more than it was asked about fails the file.
    """
    scene = Scene()
    partial(scene, BIG, BIG[: 2 * MIB])
    scene.destination._keep = lambda piece: piece.offset + 1  # type: ignore[method-assign]
    outcome = scene.run().of(b"a")
    assert (outcome.code, outcome.side) == ("INTERNAL", "destination")


def test_a_mismatch_after_resuming_is_sent_whole() -> None:
    """
    The second time, nothing is kept.
    """
    scene = Scene()
    partial(scene, BIG, BIG[: 2 * MIB])
    scene.trouble.fail("finish", DigestMismatch("rotten"), b"a")
    seen = scene.run()
    assert seen.of(b"a").kind == "moved"
    assert scene.mover.totals.sent == 2 * len(BIG) - 2 * MIB
