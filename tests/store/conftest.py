"""
Directories to work in, and stores without threads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from realize.store.identity import identity_of, ignore_lease_signals
from realize.store.root import Root
from realize.store.source import LocalSource
from realize.store.work import WorkPool, WorkQueue
from tests.support.recording import new_recorder
from tests.support.threads import InlineReactor, InlineThreads, result_of

#: A user who owns nothing.
NOBODY = 65534


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


def in_a_minute() -> int:
    """
    A clock for which no file of a test has changed just now.
    """
    return time.time_ns() + 60 * 1_000_000_000


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


@contextmanager
def as_nobody() -> Iterator[None]:
    """
    Be a user who owns nothing and may nothing, in all threads.
    """
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def identity_at(path: Path) -> bytes:
    """
    The identity of the file that is there.
    """
    return identity_of(path.lstat())


def names_below(path: Path) -> set[str]:
    """
    All there is below a directory, hidden or not.
    """
    return {str(each.relative_to(path)) for each in path.rglob("*")}
