"""
What is believed of the file systems that are there, and of those that are not known.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from attrs import evolve, fields

from realize.config import DirectorySettings
from realize.store import filesystem
from realize.store.directory import LocalDirectory
from realize.store.filesystem import (
    COARSE_NS,
    TABLE,
    TICK_NS,
    UNKNOWN,
    FileSystem,
    mounted_as,
)
from realize.store.root import Root
from tests.support.mounts import mounted
from tests.support.requirements import needs
from tests.support.threads import InlineReactor, InlineThreads, result_of

SECOND = 1_000_000_000

DOC = Path(__file__).parents[2] / "docs" / "safety.md"


def believed(path):
    """
    What is believed of the file system of a directory.
    """
    root = Root.open(path)
    try:
        with root.directory(b"") as directory:
            return root.filesystem(directory)
    finally:
        root.close()


def test_unknown_is_careful():
    """
    A kind that nobody has looked at is trusted in nothing.
    """
    careful = {"cached": True, "folds": True}
    for each in fields(FileSystem):
        if each.type in ("bool", bool):
            assert getattr(UNKNOWN, each.name) is careful.get(each.name, False)
    assert UNKNOWN.step_ns == max(each.step_ns for each in TABLE.values())


def test_number_that_is_not_in_the_table(tree, monkeypatch):
    """
    Gets those answers, and the name that the kernel has for it.
    """
    monkeypatch.setattr(filesystem, "file_system_type", lambda fd: 0x12345678)
    assert evolve(believed(tree), kind="unknown") == UNKNOWN
    assert believed(tree).kind == mounted_as(tree.stat().st_dev)


def test_negative_number(tree, monkeypatch):
    """
    Where the kernel's number has 32 bits with a sign, it is the same number.
    """
    number = 0xFF534D42 - 2**32
    monkeypatch.setattr(filesystem, "file_system_type", lambda fd: number)
    assert believed(tree).remote


@needs("mkfs.btrfs", "mkfs.xfs", root=True, loop=True)
@pytest.mark.parametrize("kind", ["ext4", "ext4-128", "xfs", "btrfs", "tmpfs"])
def test_local(tmp_path, kind):
    """
    Those who use the files do so through this kernel: leases, locks, change times and
    inode numbers mean what they say.
    """
    with mounted(kind, tmp_path) as place:
        known = believed(place)
        status = place.stat()
    assert known.leases
    assert known.locks
    assert known.ctime
    assert known.inodes
    assert not known.cached
    assert not known.folds
    assert not known.step_ns
    assert known.kind == kind.partition("-")[0]
    assert known.durable_names == (kind != "tmpfs")
    assert status.st_dev


@needs("bindfs", root=True)
@pytest.mark.parametrize("kind", ["bindfs", "overlay"])
def test_another_view(tmp_path, kind):
    """
    Somebody may write to the same files without passing by here.
    """
    with mounted(kind, tmp_path) as place:
        known = believed(place)
    assert not known.leases
    assert not known.locks
    assert known.cached
    assert kind in {known.kind, known.kind.removeprefix("fuse."), "bindfs"}


@needs(root=True)
def test_tree_that_crosses_mounts(tmp_path):
    """
    Each directory is believed as far as its own file system is.
    """
    with mounted("tmpfs", tmp_path) as place:
        (place / "other").mkdir()
        root = Root.open(tmp_path)
        try:
            with root.directory(b"") as outside, root.directory(b"mnt") as inside:
                kinds = [root.filesystem(fd).kind for fd in (outside, inside, outside)]
        finally:
            root.close()
    assert kinds[1] == "tmpfs"
    assert kinds[0] == kinds[2] != "tmpfs"


def test_steps_of_times():
    """
    Times in whole seconds are taken for coarse wherever they are, others as the table
    has it.
    """
    fine, careful = evolve(UNKNOWN, step_ns=0), UNKNOWN
    assert fine.settling_ns(5 * SECOND + 1) == TICK_NS
    assert fine.settling_ns(5 * SECOND) == COARSE_NS + TICK_NS
    assert careful.settling_ns(5 * SECOND + 1) == COARSE_NS + TICK_NS


def test_directory_that_ignores_case(tree, monkeypatch):
    """
    Known of that directory, and not of the others.
    """
    (tree / "folds").mkdir()
    inode = (tree / "folds").stat().st_ino
    monkeypatch.setattr(
        filesystem, "_ignores_case", lambda fd: os.fstat(fd).st_ino == inode
    )
    root = Root.open(tree)
    try:
        for path, folds in ((b"", False), (b"folds", True), (b"", False)):
            with root.directory(path) as directory:
                assert root.filesystem(directory).folds is folds
    finally:
        root.close()


def shown(known):
    """
    A line of the table in the documentation.
    """
    step = f"{known.step_ns / 1e9:g} s" if known.step_ns else "fine"
    yes = {True: "yes", False: "no"}
    cells = [
        known.kind,
        yes[known.leases],
        yes[known.locks],
        step,
        yes[known.ctime],
        yes[known.inodes],
        yes[not known.cached],
        yes[not known.folds],
        known.name_unit,
        yes[known.durable_names],
    ]
    return f"| {' | '.join(cells)} |"


def test_documentation():
    """
    ``docs/safety.md`` has the same table.
    """
    text = DOC.read_text("utf-8")
    rows = [shown(known) for known in (*TABLE.values(), UNKNOWN)]
    found = re.search(r"(?<=<!-- beliefs -->\n\n).*?(?=\n\n)", text, re.DOTALL)
    assert found
    assert found[0].splitlines()[2:] == rows


def test_nothing_to_doubt(tree):
    """
    Of an ordinary disk there is nothing to say.
    """
    known = believed(tree)
    assert known.doubts_as_source(30 * SECOND) == []
    assert known.doubts_as_destination() == []


def test_doubts():
    """
    Each says of what kind it is, what is not believed, and what follows.
    """
    known = evolve(UNKNOWN, kind="fuse.sshfs")
    doubts = known.doubts_as_source(30 * SECOND)
    assert doubts == [
        "fuse.sshfs: leases do not tell of all who write; files settle for 30s",
        "fuse.sshfs: times may have steps of 2s; files wait for one to pass",
        "fuse.sshfs: change times may not tell; a file is read again before it is "
        "removed",
    ]
    assert "nothing is waited for" in known.doubts_as_source(0)[0]
    assert len(known.doubts_as_destination()) == 2


@needs("bindfs", root=True)
def test_told_by_stores(tmp_path, pool):
    """
    With the place of a store, and for a status.
    """
    with mounted("bindfs", tmp_path) as place:
        directory = LocalDirectory(
            "inbox", DirectorySettings(place), InlineReactor(), InlineThreads()
        )
        source = result_of(directory.open_source())
        destination = result_of(directory.open_destination(b"not/there/yet"))
        told = [result_of(store.place()).doubts for store in (source, destination)]
        assert "settle for 30s" in told[0][0]
        assert "two names" in told[1][0]
        assert result_of(directory.doubts()) == told[0] + told[1]
        result_of(directory.close())
