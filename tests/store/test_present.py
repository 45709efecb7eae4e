"""
Files that are there already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from realize.errors import DigestMismatch, NameTaken
from realize.model import Held
from realize.store.identity import identity_of
from realize.store.present import held, look, proven
from tests.support.opened import wait_until_open
from tests.support.requirements import needs


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
    assert held(status, 3) == Held(3, 5, identity_of(status))
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


@needs("strace")
def test_changing_while_it_is_read(tree):
    """
    What was read first may be something else by now; its time tells.
    """
    (tree / "x").write_bytes(b"content")
    script = (
        "import os, sys\n"
        "from blake3 import blake3\n"
        "from realize.errors import DigestMismatch\n"
        "from realize.store.present import proven\n"
        "directory = os.open(sys.argv[1], os.O_RDONLY)\n"
        "print(os.getpid(), flush=True)\n"
        "try:\n"
        "    with proven(directory, b'x', 7, blake3(b'content').digest()):\n"
        "        print('proven')\n"
        "except DigestMismatch as error:\n"
        "    print(error)\n"
    )
    process = subprocess.Popen(
        [
            *("strace", "-qq", "-f", "-o/dev/null", "-etrace=preadv"),
            "-einject=preadv:delay_exit=500000:when=1",
            *(sys.executable, "-c", script, tree),
        ],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until_open(process, tree / "x")
    os.utime(tree / "x")
    output, _ = process.communicate(timeout=60)
    assert output == "x: the present file is changing\n"
