"""
The program is killed at each step of a move, and then the power is cut.

For each row: the real program is killed at one system call; both ends are in one of
the states that the row allows; then the destination loses power, and is again in one
of those that the row allows; then the same command is run again and everything has
arrived, once, and nothing is left over.  In between, what was moved must be whole at
one end or the other.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest
from attrs import frozen

from tests.proof.trees import AWKWARD, assert_moved, checksums, lost
from tests.support.powercut import CrashDisk
from tests.support.processes import NOBODY, Call
from tests.support.programs import PATIENCE, World, regular_files
from tests.support.requirements import missing, needs

pytestmark = needs("strace")

#: Where the destination is.  Without root, a file system whose power stays on.
KINDS = ["memory"] if missing(loop=True) else ["ext4", "xfs"]

#: The one file, several pieces long, in directories that the destination lacks.
FOLDER = Path("new", "deep")
NAME = os.fsdecode(AWKWARD[3])
CONTENT = os.urandom(8 << 20)
#: Most of the new version is in it.
OLD = CONTENT[5000 : 3 << 20] + os.urandom(9000) + CONTENT[4 << 20 : -7]

#: What is seen of the file.  At the source: as ever, hidden, or gone.  At the
#: destination: nothing, a partial, the old file, both of these, or the new file.
Here = Literal["file", "hidden", "gone"]
There = Literal["nothing", "partial", "old", "old+partial", "final"]


@frozen
class Row:
    """
    A step, and what may be found afterwards.

    :ivar before: what the destination has at first; not durable if it is the new
        file, durable if it is an old one.
    :ivar call: killed instead of this call, for...
    :ivar at: ... this path; its first letter is the end: S or D.
    :ivar here: the state of the source.
    :ivar there: the state of the destination.
    :ivar after: its states after a power cut that are allowed.
    """

    name: str
    before: There
    call: str
    at: str
    here: Here
    there: There
    after: tuple[There, ...]


UNSYNCED: tuple[There, ...] = ("nothing", "partial", "final")
FINAL: tuple[There, ...] = ("final",)

ROWS = [
    Row("begun", "nothing", "flock", "D/.", "file", "partial", UNSYNCED[:2]),
    Row(
        "writing", "nothing", "sync_file_range", "D/.", "file", "partial", UNSYNCED[:2]
    ),
    Row("written", "nothing", "fchmod", "D/.", "file", "partial", UNSYNCED[:2]),
    Row("verified", "nothing", "fsync", "D/.", "file", "partial", UNSYNCED[:2]),
    Row("durable", "nothing", "renameat2", "D", "file", "partial", UNSYNCED[:2]),
    Row("renamed", "nothing", "fsync", "D", "file", "final", UNSYNCED),
    Row("directory durable", "nothing", "fsync", "D/..", "file", "final", UNSYNCED),
    Row("answered", "nothing", "mkdirat", "S", "file", "final", FINAL),
    Row("hiding", "nothing", "renameat2", "S", "file", "final", FINAL),
    Row("hidden", "nothing", "unlinkat", "name", "hidden", "final", FINAL),
    Row("unlinked", "nothing", "unlinkat", "S", "gone", "final", FINAL),
    Row("tidied up", "nothing", "fsync", "S", "gone", "final", FINAL),
    Row("there, found", "final", "fsync", "D/file", "file", "final", UNSYNCED),
    Row("there, durable", "final", "fsync", "D", "file", "final", UNSYNCED),
    Row("there, answered", "final", "mkdirat", "S", "file", "final", FINAL),
    Row("there, confirmed", "final", "unlinkat", "name", "hidden", "final", FINAL),
    Row("there, unlinked", "final", "unlinkat", "S", "gone", "final", FINAL),
    Row(
        "update, copying",
        *("old", "pwrite64", "D/.", "file", "old+partial"),
        ("old", "old+partial"),
    ),
    Row(
        "update, writing",
        *("old", "sync_file_range", "D/.", "file", "old+partial"),
        ("old", "old+partial"),
    ),
    Row(
        "update, durable",
        *("old", "renameat", "D", "file", "old+partial", ("old", "old+partial")),
    ),
    Row(
        "update, renamed",
        *("old", "fsync", "D", "file", "final", ("old", "old+partial", "final")),
    ),
    Row("update, answered", "old", "mkdirat", "S", "file", "final", FINAL),
    Row("update, hidden", "old", "unlinkat", "name", "hidden", "final", FINAL),
    Row("update, tidied up", "old", "fsync", "S", "gone", "final", FINAL),
]

#: Those at which a daemon is killed, too: all of the destination, and some of the
#: source, because the command waits five seconds before it tries again.
DESTINATION_ROWS = [row for row in ROWS if row.at.startswith("D")]
USERS_DESTINATION_ROWS = [
    row
    for row in DESTINATION_ROWS
    if row.name in ("written", "renamed", "update, durable")
]
SOURCE_ROWS = [
    row
    for row in ROWS
    if row.name in ("answered", "hidden", "unlinked", "there, confirmed")
]


@frozen
class Scene:
    """
    Both ends, and what is at them.
    """

    world: World
    source: Path
    inbox: Path
    disk: CrashDisk | None

    @property
    def here(self) -> Here:
        """
        The state of the source.
        """
        found = list(regular_files(self.source))
        if not found:
            return "gone"
        (path,) = found
        return "file" if path == os.fsencode(FOLDER / NAME) else "hidden"

    @property
    def there(self) -> There:
        """
        The state of the destination; names hold complete files only.
        """
        found: list[There] = []
        final, part = self.inbox / FOLDER / NAME, f".{NAME}.realize-part"
        if final.exists():
            content = final.read_bytes()
            assert content in (CONTENT, OLD)
            found.append("final" if content == CONTENT else "old")
        if (self.inbox / FOLDER / part).exists():
            found.append("partial")
        if found == ["old", "partial"]:
            return "old+partial"
        assert len(found) < 2
        return found[0] if found else "nothing"

    def place(self, row: Row) -> Path | None:
        """
        Where the call is that a row names.
        """
        if row.at == "name":
            # As it is in the call, wherever its directory is.
            return Path(NAME)
        folder = (self.source if row.at[0] == "S" else self.inbox) / FOLDER
        return {
            "": folder,
            "/..": folder.parent,
            "/.": folder / f".{NAME}.realize-part",
            "/file": folder / NAME,
        }[row.at[1:]]

    def plant(self, row: Row) -> None:
        """
        The file at the source, and at the destination what the row says.
        """
        (self.source / FOLDER).mkdir(parents=True)
        (self.source / FOLDER / NAME).write_bytes(CONTENT)
        os.utime(self.source / FOLDER / NAME, ns=(0, 1_700_000_000_111_222_333))
        self.inbox.mkdir(exist_ok=True)
        if row.before == "old":
            (self.inbox / FOLDER).mkdir(parents=True)
            (self.inbox / FOLDER / NAME).write_bytes(OLD)
        if self.world.user:
            # Nobody may write to it, and group and mode of its folder are passed on.
            (self.source / FOLDER / NAME).chmod(0o400 + 0o44 * (ROWS.index(row) % 2))
            (self.source / FOLDER).chmod(0o2770)
        self.world.give(self.source, self.inbox)
        if self.disk:
            self.disk.settle()
        if row.before == "final":
            (self.inbox / FOLDER).mkdir(parents=True)
            shutil.copy2(self.source / FOLDER / NAME, self.inbox / FOLDER)
            self.world.give(self.inbox)

    def check(self, row: Row) -> None:
        """
        After the program was killed: the states, a power cut, the states.
        """
        assert (self.here, self.there) == (row.here, row.there)
        if self.disk:
            self.disk.cut_power()
            assert self.there in row.after
        assert self.here == row.here


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, open_folder: Path, kind: str
) -> Iterator[Scene]:
    """
    Both ends, empty, on two file systems; for the user that is asked for.
    """
    user = getattr(request, "param", "")
    folder = open_folder if user else tmp_path
    world = World.create(folder / "world", user)
    source = folder / "source"
    source.mkdir()
    with ExitStack() as stack:
        disk = None
        if kind == "memory":
            inbox = Path(f"/dev/shm/realize-steps-{os.getpid()}")
            if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
                pytest.skip("needs a second file system")
            stack.callback(shutil.rmtree, inbox, ignore_errors=True)
        else:
            disk = stack.enter_context(CrashDisk.create(folder / "disk", kind))
            inbox = disk.root / "inbox"
        inbox.mkdir()
        stack.callback(world.stop)
        yield Scene(world, source, inbox, disk)


def _end(process: subprocess.Popen[bytes], status: int) -> None:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == status, (out, err)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_command_is_killed(scene: Scene, row: Row) -> None:
    """
    Both ends are this host's.
    """
    scene.plant(row)
    before = checksums(scene.source)
    call = Call(row.call, scene.place(row))
    _end(
        scene.world.begin(
            "move",
            "--on-conflict=replace",
            scene.source,
            scene.inbox,
            wrapper=call.killing(),
        ),
        -signal.SIGKILL,
    )
    scene.check(row)
    assert lost(before, scene.source, scene.inbox) == []
    scene.world.realize("move", "--on-conflict=replace", scene.source, scene.inbox)
    assert_moved(before, scene.source, scene.inbox)


@needs("setpriv", root=True, loop=True)
@pytest.mark.parametrize("scene", [NOBODY], indirect=True)
@pytest.mark.parametrize("kind", KINDS[:1])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_ordinary_users_command_is_killed(scene: Scene, row: Row) -> None:
    """
    One that may nothing but what the owner of files may, and these are read-only.
    """
    test_the_command_is_killed(scene, row)
    assert (scene.inbox / FOLDER / NAME).owner() == NOBODY


@needs("setpriv", root=True, loop=True)
@pytest.mark.parametrize("scene", [NOBODY], indirect=True)
@pytest.mark.parametrize("kind", KINDS[:1])
@pytest.mark.parametrize("row", USERS_DESTINATION_ROWS, ids=lambda row: row.name)
def test_the_daemon_of_an_ordinary_user_is_killed(scene: Scene, row: Row) -> None:
    """
    The same for the daemon of the destination.
    """
    test_the_daemon_of_the_destination_is_killed(scene, row)


@pytest.mark.parametrize("kind", KINDS[:1])
@pytest.mark.parametrize("row", DESTINATION_ROWS, ids=lambda row: row.name)
def test_the_daemon_of_the_destination_is_killed(scene: Scene, row: Row) -> None:
    """
    The destination is a peer's, whose daemon dies and loses power; then the command
    is killed too.
    """
    nas = scene.world.nas
    nas.directory("inbox").rmdir()
    nas.directory("inbox").symlink_to(scene.inbox)
    scene.plant(row)
    before = checksums(scene.source)
    nas.start(wrapper=Call(row.call, scene.place(row)).killing())
    process = scene.world.begin("move", scene.source, "nas:inbox")
    try:
        assert nas.daemon is not None
        assert nas.daemon.wait(PATIENCE) == -signal.SIGKILL
        nas.stop()
    finally:
        process.kill()
        process.communicate()
    scene.check(row)
    assert lost(before, scene.source, scene.inbox) == []
    nas.start()
    scene.world.realize("move", scene.source, "nas:inbox")
    assert_moved(before, scene.source, scene.inbox)


@pytest.mark.parametrize("kind", KINDS[:1])
@pytest.mark.parametrize("row", SOURCE_ROWS, ids=lambda row: row.name)
def test_the_daemon_of_the_source_is_killed(scene: Scene, row: Row) -> None:
    """
    The source is a peer's, whose daemon dies; the command goes on without being
    started again.
    """
    nas = scene.world.nas
    nas.directory("inbox").rmdir()
    nas.directory("inbox").symlink_to(scene.source)
    scene.plant(row)
    before = checksums(scene.source)
    nas.start(wrapper=Call(row.call, scene.place(row)).killing())
    process = scene.world.begin(
        "move", "--on-conflict=replace", "nas:inbox", scene.inbox
    )
    try:
        assert nas.daemon is not None
        assert nas.daemon.wait(PATIENCE) == -signal.SIGKILL
        nas.stop()
        assert (scene.here, scene.there) == (row.here, row.there)
        nas.start()
        _end(process, 0)
    finally:
        process.kill()
    assert_moved(before, scene.source, scene.inbox)


@pytest.mark.parametrize("tail", [bytes(1 << 20), b"garbage"])
def test_a_partial_is_not_believed(tmp_path: Path, tail: bytes) -> None:
    """
    Zeros where a power cut left nothing, or whatever: what agrees is kept, in blocks,
    and the rest is sent again.
    """
    world = World.create(tmp_path / "world")
    source, inbox = tmp_path / "source", world.nas.directory("inbox")
    source.mkdir()
    content, block = os.urandom(70 << 20), 64 << 20
    (source / "file").write_bytes(content)
    (inbox / ".file.realize-part").write_bytes(content[:block] + tail)
    before = checksums(source)
    world.nas.start()
    try:
        said = world.realize(
            "move", "--on-conflict=replace", "--output=json", source, "nas:inbox"
        )
    finally:
        world.stop()
    assert said.json[-1]["kept"] == block
    assert_moved(before, source, inbox)
