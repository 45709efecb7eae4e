"""
Directories to work in, and stores without threads.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from realize.store.filesystem import TICK_NS
from realize.store.guard import ignore_lease_signals
from realize.store.removal import Remover
from realize.store.root import Root
from realize.store.source import LocalSource
from realize.store.work import WorkPool, WorkQueue
from tests.support.files import in_a_minute
from tests.support.recording import new_recorder
from tests.support.removing import CONTENT, Meddling, Warnings
from tests.support.threads import InlineReactor, InlineThreads, result_of


@pytest.fixture(autouse=True, scope="session")
def _lease_signals() -> None:
    ignore_lease_signals()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """
    An empty directory, apart from all else.
    """
    path = tmp_path / "tree"
    path.mkdir()
    return path


@pytest.fixture
def root(tree: Path) -> Iterator[Root]:
    """
    *tree*, opened.
    """
    root = Root.open(tree, name="tree")
    yield root
    root.close()


@pytest.fixture
def pool() -> WorkPool:
    """
    Does everything at once.
    """
    return WorkPool(InlineReactor(), InlineThreads())  # type: ignore[arg-type]


@pytest.fixture
def open_source(tree: Path, pool: WorkPool) -> Iterator[Callable[..., LocalSource]]:
    """
    Opens sources at *tree*; ``below`` and what :class:`LocalSource` takes.
    """
    opened = []

    def open_source(below: bytes = b"", **options: object) -> LocalSource:
        options = {
            "settle_ns": 0,
            "name": "tree",
            "recorder": new_recorder("tree"),
            "now_ns": in_a_minute,
            **options,
        }
        root = Root.open(tree, below, name="tree")
        source = LocalSource(root, WorkQueue(pool), **options)  # type: ignore[arg-type]
        opened.append(source)
        return source

    yield open_source
    for source in opened:
        result_of(source.close())


@pytest.fixture
def source(open_source: Callable[..., LocalSource]) -> LocalSource:
    """
    A source at *tree*.
    """
    return open_source()


@pytest.fixture
def public() -> Iterator[Path]:
    """
    An empty directory that everybody can reach and may write to.
    """
    path = Path(tempfile.mkdtemp(prefix="realize-test-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def guard() -> Meddling:
    """
    Does nothing, unless told to.
    """
    return Meddling()


@pytest.fixture
def warnings() -> Warnings:
    """
    None yet.
    """
    return Warnings()


@pytest.fixture
def remover(root: Root, guard: Meddling, warnings: Warnings) -> Iterator[Remover]:
    """
    A remover below *tree*.
    """
    remover = Remover(root, guard, warnings)
    yield remover
    remover.close()


@pytest.fixture
def file(tree: Path) -> Path:
    """
    A file to remove.
    """
    path = tree / "file"
    path.write_bytes(CONTENT)
    time.sleep(TICK_NS / 1e9)  # older kernels' clocks move in steps
    return path


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """
    An empty directory on a file system that keeps any time.
    """
    path = Path(tempfile.mkdtemp(prefix="realize-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)
