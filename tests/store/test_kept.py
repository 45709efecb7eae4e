"""
Directories that are used one after the other.
"""

from __future__ import annotations

import os

import pytest

from realize.accounts import Resource
from realize.errors import NoSuchFile, OverShare
from realize.store.root import Root
from tests.support.files import descriptors


@pytest.fixture
def root(tree):
    """
    A root with two directories.
    """
    (tree / "a").mkdir()
    (tree / "b").mkdir()
    root = Root.open(tree)
    yield root
    root.close()


def leads_to(fd: int) -> str:
    """
    The name of an open directory.
    """
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))


def test_each_in_turn(root):
    """
    The descriptor is that of the directory asked for, also when there was an error
    in between.
    """
    with root.directories() as directories:
        assert leads_to(directories.descriptor(b"a")) == "a"
        assert leads_to(directories.descriptor(b"b")) == "b"
        with pytest.raises(NoSuchFile):
            directories.descriptor(b"none")
        assert leads_to(directories.descriptor(b"b")) == "b"


def test_open_while_in_use(root, tree):
    """
    It stays that of the same directory until another is asked for, even if the name
    leads elsewhere meanwhile, and a new turn sees that it does.
    """
    with root.directories() as directories:
        first = directories.descriptor(b"a")
        inode = os.fstat(first).st_ino
        (tree / "a").rename(tree / "c")
        (tree / "a").mkdir()
        root.forget(b"a")
        assert os.fstat(directories.descriptor(b"a")).st_ino == inode
        directories.descriptor(b"b")
        assert os.fstat(directories.descriptor(b"a")).st_ino != inode


def test_nothing_stays_open(root):
    """
    With the block and the root everything is closed.
    """
    before = descriptors()
    with root.directories() as directories:
        directories.descriptor(b"a")
        directories.descriptor(b"b")
        root.close()
    # That of the root itself is gone too.
    assert descriptors() == before - 1


def test_gives_way_to_others(tree):
    """
    What a root only keeps open is closed when another account gets nothing.
    """
    for number in range(6):
        (tree / f"d{number}").mkdir()
    clock = iter(range(100))
    shared = Resource("few", "descriptors", 8, least=1, seconds=lambda: next(clock))
    keeping = shared.account("local", "one")
    root = Root.open(tree, descriptors=keeping)
    try:
        for number in range(6):
            with root.directory(b"d%d" % number):
                pass
        assert keeping.held > 2
        other = shared.account("local", "other")
        with pytest.raises(OverShare):
            other.take("x", 6)
        assert keeping.held <= 1  # what it stands on
        other.take("x", 2)
    finally:
        root.close()
