"""
Whatever is named as a file to read, it is read or refused, and never waited for.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from realize.inputs import open_input, read_input


def test_a_file(tmp_path: Path) -> None:
    """
    As many bytes as it may have, and not one more.
    """
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_input(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_input(path, 4)


def test_a_pipe_that_nobody_writes_to(tmp_path: Path) -> None:
    """
    Is refused at once.
    """
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="nobody writes to this pipe"):
        open_input(path)


def test_a_pipe_with_a_writer() -> None:
    """
    As a shell's ``<(command)``: read to its end, also when that comes before us.
    """
    read, write = os.pipe()
    path = f"/dev/fd/{read}"
    with open_input(path) as file:
        os.write(write, b"abc")
        os.close(write)
        assert file.read() == b"abc"
    os.close(read)
    read, write = os.pipe()
    os.write(write, b"abc")
    os.close(write)
    assert read_input(f"/dev/fd/{read}", 9) == b"abc"
    os.close(read)


def test_what_is_no_file(tmp_path: Path) -> None:
    """
    Directories, sockets and endless devices are refused; missing files too.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name in (".", "socket", "missing"):
            with pytest.raises(OSError):  # noqa: PT011 - any of the system's
                read_input(tmp_path / name, 9)
    with pytest.raises(OSError, match="more than 9 bytes"):
        read_input("/dev/zero", 9)
