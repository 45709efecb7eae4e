"""
File systems that promise less than they seem to: nothing is lost on them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from realize.model import Failure, Range, Removal, Removed
from realize.store.root import Root
from realize.store.source import LocalSource
from realize.store.work import WorkPool, WorkQueue
from tests.support.mounts import VIEWS, mounted
from tests.support.programs import World
from tests.support.recording import new_recorder
from tests.support.requirements import needs
from tests.support.threads import InlineReactor, InlineThreads, result_of

needs_views = needs("bindfs", "mergerfs", "sshfs", root=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """
    No daemon is needed.
    """
    world = World.create(tmp_path / "world")
    yield world
    world.stop()


@needs_views
@pytest.mark.parametrize("kind", VIEWS)
def test_writer_on_the_other_side(tmp_path: Path, world: World, kind: str) -> None:
    """
    Who writes below, in a layer or on a server, has the file open, and no lease tells
    of it.  The file waits until it has settled, and then goes with all its lines.
    """
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with mounted(kind, tmp_path) as place:
        log = tmp_path / "real" / "log"
        with log.open("ab", buffering=0) as writer:
            writer.write(b"one\n")
            said = world.realize("move", place, inbox, status=4)
            assert said.err.count("leases-unavailable") == 1
            writer.write(b"two\n")
            world.realize("move", place, inbox, "--settle", "10m", status=4)
        assert log.read_bytes() == b"one\ntwo\n"
        until = time.monotonic() + 60  # sshfs remembers for 20 s what the file was
        status = 4
        while status == 4 and time.monotonic() < until:
            time.sleep(1.1)
            said = world.realize("move", place, inbox, "--settle", "1s", status=None)
            status = said.status
        assert status == 0, said
    assert (inbox / "log").read_bytes() == b"one\ntwo\n"


def source_at(place: Path) -> LocalSource:
    """
    A source that waits for nothing to settle.
    """
    pool = WorkPool(InlineReactor(), InlineThreads())  # type: ignore[arg-type]
    root = Root.open(place)
    return LocalSource(root, WorkQueue(pool), 0, "source", new_recorder("source"))


def read_and_remove(source: LocalSource, meanwhile: Callable[[], object]) -> object:
    """
    Take a file as a move does, and let something happen before it is removed.
    """
    (listed,) = result_of(source.list(0)).files
    asked = Range(listed.path, listed.identity, 0, listed.size)
    (extent,), _data = result_of(source.read([asked]))
    meanwhile()
    removal = Removal(listed.path, listed.identity, extent.digest)
    (answer,) = result_of(source.remove([removal]))
    return answer


@needs(root=True, loop=True)
def test_edit_within_a_second(tmp_path: Path) -> None:
    """
    Where times have steps of a second, an edit in the second of the last one, which
    keeps the size, is not taken for what was read.
    """
    with mounted("ext4-128", tmp_path) as place:
        (place / "lost+found").rmdir()
        file = place / "file"
        time.sleep(1 - time.time() % 1 + 0.02)
        file.write_bytes(b"old" * 1000)
        source = source_at(place)
        answer = read_and_remove(source, lambda: file.write_bytes(b"new" * 1000))
        result_of(source.close())
        assert isinstance(answer, Failure)
        assert answer.code == "SOURCE_CHANGED"
        assert file.read_bytes() == b"new" * 1000


@needs_views
@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("edited", [True, False])
def test_edit_that_sets_the_time_back(tmp_path: Path, kind: str, edited: bool) -> None:
    """
    It shows in the change time, or if there is none worth the name in the content: in
    those of the other side, not of a cache.
    """
    (tmp_path / "real").mkdir()
    below = tmp_path / "real" / "file"
    below.write_bytes(b"old" * 1000)
    os.utime(below, (1_700_000_000, 1_700_000_000))

    def edit() -> None:
        if edited:
            below.write_bytes(b"new" * 1000)
            os.utime(below, (1_700_000_000, 1_700_000_000))

    with mounted(kind, tmp_path) as place:
        source = source_at(place)
        answer = read_and_remove(source, edit)
        result_of(source.close())
        if edited:
            assert isinstance(answer, Failure), answer
            assert below.read_bytes() == b"new" * 1000
        else:
            assert isinstance(answer, Removed), answer
