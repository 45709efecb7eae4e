"""
All of it for a user who may nothing but what the owner of files may: no capabilities,
read-only files and directories, set-gid ones.

The steps one by one are in :mod:`tests.proof.test_steps`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.proof.conftest import Tell
from tests.proof.holding import closed_in
from tests.proof.killing import run
from tests.proof.test_disks import failures, move, tmpfs
from tests.proof.test_switched import KILLED_AT, arrange
from tests.proof.trees import assert_moved, checksums, lost
from tests.support.fuse.mounting import needs_fuse
from tests.support.fuse.switches import HANG, Fault, Switches
from tests.support.processes import NOBODY
from tests.support.programs import PATIENCE, World
from tests.support.requirements import needs

pytestmark = needs("setpriv", root=True)

CONTENT: Final = os.urandom(50_000)

#: Modes of files and directories that stand in the way of their owner, or that pass
#: something on.
MODES: Final = (0o444, 0o400, 0o440, 0o640, 0o600)


@pytest.fixture
def world(open_folder: Path) -> Iterator[World]:
    """
    Hosts where everything is run by a user who owns nothing else.
    """
    world = World.create(open_folder / "world", NOBODY)
    yield world
    world.stop()


@pytest.mark.parametrize(
    "name",
    [
        "local to local, copying",
        pytest.param("local to local, renaming", marks=pytest.mark.nightly),
        pytest.param("local to remote", marks=pytest.mark.nightly),
        pytest.param("remote to remote", marks=pytest.mark.nightly),
    ],
)
def test_killed_again_and_again(open_folder: Path, name: str, tell: Tell) -> None:
    """
    At random instants; some of the files are read-only.
    """
    tell(run(name, open_folder, seed=2, seconds=4, kills=5, user=NOBODY))


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_read_only_files(world: World, open_folder: Path, remote: bool) -> None:
    """
    Are moved as others are, and replaced where they are read-only too; directories
    that pass on their group do so at the destination.
    """
    source, inbox = open_folder / "source", world.nas.directory("inbox")
    for mode in MODES:
        for folder in ("plain", "set-gid"):
            (source / folder).mkdir(parents=True, exist_ok=True)
            (source / folder / f"{mode:o}").write_bytes(CONTENT + b"%d" % mode)
            (source / folder / f"{mode:o}").chmod(mode)
    (source / "set-gid").chmod(0o2750)
    (inbox / "plain").mkdir()
    (inbox / "plain" / "444").write_bytes(b"old")
    (inbox / "plain" / "444").chmod(0o444)
    if remote:
        # As it is left when the program is killed before it renames.
        (inbox / "plain" / ".400.realize-part").write_bytes(CONTENT[:5000])
        (inbox / "plain" / ".400.realize-part").chmod(0o400)
    inbox.chmod(0o2755)
    world.give(source, inbox)
    before = checksums(source)
    if remote:
        world.nas.start()
    move(world, source, "nas:inbox" if remote else inbox)
    assert_moved(before, source, inbox)
    for folder in ("plain", "set-gid"):
        assert (inbox / folder / "444").owner() == NOBODY


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("which", ["source", "destination"])
def test_read_only_directories(
    world: World, open_folder: Path, which: str, remote: bool
) -> None:
    """
    What cannot be taken away stays, and is told to have failed; it is not reported as
    moved, nor moved once more by the next run.  What cannot be put stays too.
    """
    source, inbox = open_folder / "source", world.nas.directory("inbox")
    for folder in ("open", "closed"):
        (source / folder).mkdir(parents=True)
        (source / folder / "file").write_bytes(CONTENT)
    (inbox / "closed").mkdir()
    world.give(source, inbox)
    closed = (source if which == "source" else inbox) / "closed"
    closed.chmod(0o555)
    before = checksums(source)
    if remote:
        world.nas.start()
    for _ in range(2):
        said = move(world, source, "nas:inbox" if remote else inbox, status=1)
        if which == "source":
            assert set(closed_in(said)) == {b"closed"}
        else:
            assert set(failures(said)) == {"closed/file"}
        assert list(checksums(source)) == [b"closed/file"]
        assert set(checksums(inbox)) <= {b"open/file", b"closed/file"}
        assert lost(before, source, inbox) == []
    closed.chmod(0o755)
    move(world, source, "nas:inbox" if remote else inbox)
    assert_moved(before, source, inbox)


def test_a_full_destination(world: World, open_folder: Path) -> None:
    """
    Without the blocks that are kept for root, too.
    """
    source = open_folder / "source"
    source.mkdir()
    for number in range(6):
        (source / f"{number}").write_bytes(os.urandom(1 << 20))
        (source / f"{number}").chmod(0o444)
    world.give(source)
    before = checksums(source)
    with tmpfs(open_folder / "full", "size=3m") as inbox:
        world.give(inbox)
        said = move(world, source, inbox, status=1)
        assert {code for _, code in failures(said).values()} == {"NO_SPACE"}
        assert lost(before, source, inbox) == []
        subprocess.run(["mount", "-o", "remount,size=30m", inbox], check=True)
        move(world, source, inbox)
        assert_moved(before, source, inbox)


@needs_fuse
@pytest.mark.parametrize(
    ("role", "call"),
    [
        pytest.param(
            role,
            call,
            marks=[] if call in ("rename", "chmod") else [pytest.mark.nightly],
        )
        for role, calls in KILLED_AT.items()
        for call in calls
    ],
)
def test_killed_at_a_call(open_folder: Path, role: str, call: str) -> None:
    """
    On a file system over FUSE, as :mod:`tests.proof.test_switched` does it as root.
    """
    with arrange(open_folder / "scene", role, Switches(), NOBODY) as scene:
        ends = scene.ends
        scene.fail(Fault(call=call, error=HANG, first=2))
        process = ends.world.begin(
            *(
                "move",
                "--on-conflict=replace",
                "--output=quiet",
                "--settle=0",
                ends.source,
                ends.destination,
            )
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not scene.failed() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            scene.fail()
            process.wait(PATIENCE)
        finally:
            scene.fail()
            process.kill()
            process.communicate()
        ends.nothing_is_lost()
        ends.come_to_the_end()
