"""
Files that are there already.
"""

from __future__ import annotations

import os
import threading

import pytest
from blake3 import blake3

from realize.errors import DigestMismatch, NameTaken
from realize.model import Held
from realize.store.identity import identity_of
from realize.store.present import held, look, proven


@pytest.fixture
def directory(tree):
    """
    Descriptor of *tree*.
    """
    fd = os.open(tree, os.O_RDONLY)
    yield fd
    os.close(fd)


def digest(content: bytes) -> bytes:
    """
    BLAKE3.
    """
    return blake3(content).digest()


def test_look(directory, tree):
    """
    A file, nothing, or something else.
    """
    (tree / "x").write_bytes(b"12345")
    (tree / "dangling").symlink_to("nothing")
    status = look(directory, b"x")
    assert held(status, 3) == Held(3, 5, identity_of(status), status.st_mtime_ns)
    assert look(directory, b"y") is None
    assert held(None, 3) == Held(3)
    with pytest.raises(NameTaken):
        look(directory, b"dangling")


def test_proven(directory, tree):
    """
    All of the content counts.
    """
    content = os.urandom(3 * 2**20 + 1)
    (tree / "x").write_bytes(content)
    with proven(directory, b"x", len(content), digest(content)) as (fd, status):
        assert os.fstat(fd) == status
    with (
        pytest.raises(DigestMismatch),
        proven(directory, b"x", len(content), digest(content[:-1])),
    ):
        pass


def test_holes_are_believed_once_the_data_is_on_the_disk(directory, tree):
    """
    Before the file system is asked where they are; a dense file is not waited for.
    """
    synced = []
    content = bytes(2**20) + b"end"
    with (tree / "x").open("wb") as file:
        file.seek(2**20)
        file.write(b"end")
    (tree / "dense").write_bytes(content)
    for name in (b"x", b"dense"):
        with proven(directory, name, len(content), digest(content), synced.append):
            pass
    assert len(synced) == 1


def test_another_size_is_not_read(directory, tree):
    """
    A file of a terabyte is not read to find out that it is not one of five bytes.
    """
    with (tree / "x").open("wb") as file:
        file.truncate(2**40)
    with (
        pytest.raises(DigestMismatch, match="1099511627776 bytes, not 5"),
        proven(directory, b"x", 5, digest(b"12345")),
    ):
        pass


def test_changing_while_it_is_read(directory, tree):
    """
    What was read first may be something else by now; its time tells.
    """
    size = 2**26
    with (tree / "x").open("wb") as file:
        file.truncate(size)
    done = threading.Event()

    def touch() -> None:
        while not done.is_set():
            os.utime(tree / "x")

    touching = threading.Thread(target=touch)
    touching.start()
    try:
        with (
            pytest.raises(DigestMismatch, match="x: the present file is changing"),
            proven(directory, b"x", size, digest(bytes(size))),
        ):
            pass
    finally:
        done.set()
        touching.join()
