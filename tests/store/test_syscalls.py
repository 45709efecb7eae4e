"""
System calls that Python does not have.
"""

from __future__ import annotations

import errno
import os

import pytest

from realize.store.syscalls import refresh_attributes, rename_noreplace, start_writeback


@pytest.fixture
def directory(tree):
    """
    Descriptor of *tree*.
    """
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_renames_to_a_free_name(tree, directory):
    """
    The file has the new name only, in the other directory.
    """
    (tree / "a").write_bytes(b"content")
    (tree / "sub").mkdir()
    sub = os.open(tree / "sub", os.O_RDONLY)
    rename_noreplace(directory, b"a", sub, b"b\xff\n")
    os.close(sub)
    assert os.listdir(os.fsencode(tree)) == [b"sub"]
    assert os.listdir(os.fsencode(tree / "sub")) == [b"b\xff\n"]


def test_never_replaces(tree, directory):
    """
    Where the new name is taken, both files stay as they are.
    """
    (tree / "a").write_bytes(b"one")
    (tree / "b").write_bytes(b"two")
    with pytest.raises(FileExistsError):
        rename_noreplace(directory, b"a", directory, b"b")
    assert (tree / "a").read_bytes() == b"one"
    assert (tree / "b").read_bytes() == b"two"


def test_errors_are_those_of_os(directory):
    """
    The number tells the reason, and picks the subclass.
    """
    with pytest.raises(FileNotFoundError) as caught:
        rename_noreplace(directory, b"none", directory, b"b")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="Bad file descriptor"):
        start_writeback(-1)


def test_writing_back_changes_nothing(tree):
    """
    It leaves the content alone, of the whole file or of a part.
    """
    (tree / "a").write_bytes(b"content")
    fd = os.open(tree / "a", os.O_RDWR)
    start_writeback(fd)
    start_writeback(fd, 2, 3)
    os.close(fd)
    assert (tree / "a").read_bytes() == b"content"


def test_refresh_attributes(directory):
    """
    Changes nothing where nothing is remembered; an error is told.
    """
    before = os.fstat(directory)
    refresh_attributes(directory)
    assert os.fstat(directory) == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        refresh_attributes(-1)
