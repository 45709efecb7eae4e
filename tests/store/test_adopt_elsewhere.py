"""
Moving files inside file systems that lack something of an ordinary one.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from attrs import define

from realize.model import Failure, Finished, Range
from realize.store.root import Root
from realize.store.source import LocalSource
from realize.store.work import WorkPool, WorkQueue
from tests.support.files import in_a_minute
from tests.support.fuse.mounting import mount, needs_fuse
from tests.support.fuse.switches import Switches
from tests.support.mounts import PROGRAMS, mounted
from tests.support.putting import Putting, codes, contents
from tests.support.recording import new_recorder
from tests.support.requirements import needs
from tests.support.threads import result_of


@define
class Ends:
    """
    Two directories of one file system.
    """

    place: Path
    pool: WorkPool

    @property
    def old(self) -> Path:
        """
        Where the files are.
        """
        return self.place / "old"

    @property
    def new(self) -> Path:
        """
        Where they are to go.
        """
        return self.place / "new"

    def plant(self, files: dict[str, bytes]) -> None:
        """
        Make files below the place.
        """
        for name, content in files.items():
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def adopt(
        self, replace: bool = True, settle_ns: int = 0
    ) -> list[Finished | Failure] | None:
        """
        Move all files from *old* to *new*, in a minute.
        """
        source = LocalSource(
            Root.open(self.old, name="old"),
            WorkQueue(self.pool),
            settle_ns=settle_ns,
            name="old",
            recorder=new_recorder("old"),
            now_ns=in_a_minute,
        )
        putting = Putting(self.new, replace=replace)
        try:
            page = result_of(source.list(0))
            return result_of(putting.store.adopt(source, page.files, page.directories))
        finally:
            putting.close()
            result_of(source.close())


@needs_fuse
@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize(
    "switches",
    [
        Switches(noreplace="refused"),
        Switches(link="refused"),
        Switches(noreplace="refused", link="refused"),
        Switches(inodes="path"),
        Switches(inodes="path", noreplace="refused"),
    ],
)
def test_renamed_or_to_be_copied(tmp_path, pool, switches, taken):
    """
    Never deferred for what the file system is, and whole in any case.
    """
    with mount(tmp_path / "fs", switches) as there:
        ends = Ends(there.root, pool)
        ends.plant({"old/x": b"content", "new/other": b"other"})
        if taken:
            ends.plant({"new/x": b"present"})
        results = ends.adopt()
        if results is None:
            assert contents(ends.old) == {"x": b"content"}
        else:
            assert codes(results) == ["Finished"]
            assert contents(ends.old) == {}
            assert contents(ends.new) == {"x": b"content", "other": b"other"}


@needs_fuse
def test_nothing_gives_way_where_it_may_not(tmp_path, pool):
    """
    Where neither a rename nor a link promises that, files are copied.
    """
    switches = Switches(noreplace="refused", link="refused")
    with mount(tmp_path / "fs", switches) as there:
        ends = Ends(there.root, pool)
        ends.plant({"old/x": b"content", "new/other": b"other"})
        assert ends.adopt(replace=False) is None
        assert contents(ends.old) == {"x": b"content"}


@needs_fuse
def test_names_that_may_be_one(tmp_path, pool):
    """
    Neither takes the place of the other, nor the directory of the other spelling.
    """
    with mount(tmp_path / "fs", Switches(folds=True)) as there:
        ends = Ends(there.root, pool)
        ends.plant(
            {
                "old/readme": b"one",
                "old/dcim/x": b"two",
                "old/fine": b"three",
                "new/README": b"ONE",
                "new/DCIM/y": b"TWO",
            }
        )
        results = ends.adopt()
        assert results is not None
        assert sorted(codes(results)) == ["Finished", "NAME_TAKEN", "NAME_TAKEN"]
        assert contents(ends.new) == {
            "DCIM": None,
            "DCIM/y": b"TWO",
            "README": b"ONE",
            "fine": b"three",
        }
        assert (ends.old / "readme").read_bytes() == b"one"
        assert (ends.old / "dcim/x").read_bytes() == b"two"


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=needs(*PROGRAMS[k])) for k in ("sshfs", "mergerfs")],
)
@pytest.mark.parametrize("taken", [False, True])
def test_where_people_keep_files(tmp_path, pool, kind, taken):
    """
    Renamed at once.
    """
    with mounted(kind, tmp_path) as place:
        ends = Ends(place, pool)
        ends.plant({"old/d/x": b"content", "new/other": b"other"})
        if taken:
            ends.plant({"new/d/x": b"present"})
        results = ends.adopt()
        if results is not None:
            assert codes(results) == ["Finished"]
            assert (ends.new / "d/x").read_bytes() == b"content"
        else:
            assert (ends.old / "d/x").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("age", "code"), [(-30, "NOT_SETTLED"), (30, "Finished"), (86_400, "Finished")]
)
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=needs(*PROGRAMS[k])) for k in ("bindfs", "mergerfs")]
)
def test_age_where_no_lease_tells(tmp_path, pool, kind, age, code):
    """
    A rename loses nothing of a writer: only the time of modification has to be old, not
    that of setting it.
    """
    settle_ns = 65_000_000_000
    with mounted(kind, tmp_path) as place:
        ends = Ends(place, pool)
        ends.plant({"old/x": b"content", "new/other": b"other"})
        modified = time.time() - age
        os.utime(ends.old / "x", (modified, modified))
        results = ends.adopt(settle_ns=settle_ns)
        assert results is not None
        assert codes(results) == [code]


@needs(root=True)
def test_put_back_and_copied(tmp_path, pool):
    """
    Two mounts of one file system look as if a rename would do.  Where a name is taken
    the file is hidden before that turns out; it can be read then as the version that
    was listed.
    """
    ends = Ends(tmp_path, pool)
    ends.plant({"old/x": b"content", "new/x": b"present"})
    source = LocalSource(
        Root.open(ends.old, name="old"),
        WorkQueue(pool),
        settle_ns=0,
        name="old",
        recorder=new_recorder("old"),
        now_ns=in_a_minute,
    )
    mount_it = ["mount", "--bind", ends.new, ends.new]
    subprocess.run(mount_it, check=True, capture_output=True)
    try:
        putting = Putting(ends.new)
        page = result_of(source.list(0))
        assert result_of(putting.store.adopt(source, page.files, [])) is None
        putting.close()
        assert contents(ends.old) == {"x": b"content"}
        [file] = page.files
        wanted = Range(file.path, file.identity, 0, file.size)
        [extent], data = result_of(source.read([wanted]))
        assert not isinstance(extent, Failure)
        assert data == b"content"
    finally:
        result_of(source.close())
        subprocess.run(["umount", ends.new], check=True, capture_output=True)
