"""
Files that several programs append to.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from realize.observe.appending import CANCELLED, AppendedFile


def test_a_torn_line_never_joins_the_next(tmp_path: Path) -> None:
    """
    Whoever left it, before the start or since.
    """
    path = tmp_path / "log"
    path.write_bytes(b"whole\nto")
    log = AppendedFile(str(path), 0)
    log.append(b"one\n")
    with path.open("ab") as other:
        other.write(b"of another")
    log.append(b"two\n")
    log.append(b"three\n")
    begun = b"whole\nto" + CANCELLED + b"one\nof another" + CANCELLED
    assert path.read_bytes() == begun + b"two\nthree\n"


def _append(path: str, number: int) -> None:
    log = AppendedFile(path, 60)
    for _ in range(100):
        log.append(b"%d " % number * 2000 + b"\n")


def test_several_programs(tmp_path: Path) -> None:
    """
    Lines stay whole, and none is lost to a rotation in between.
    """
    path = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_append, args=(str(path), number)) for number in range(4)
    ]
    for writer in writers:
        writer.start()
    rotated = 0
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            path.rename(f"{path}.{rotated}")
            rotated += 1
        writers[0].join(0.01)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    lines = b"".join(each.read_bytes() for each in tmp_path.iterdir()).splitlines()
    assert len(lines) == 400
    assert all(len(set(line.split())) == 1 for line in lines)


@pytest.mark.parametrize("how", [Path.unlink, lambda path: path.rename(f"{path}.1")])
def test_where_the_name_leads(tmp_path: Path, how: object) -> None:
    """
    After a rotation that nobody told of, the next line is in a file of that name.
    """
    path = tmp_path / "log"
    log = AppendedFile(str(path), 0)
    log.append(b"old\n")
    how(path)  # type: ignore[operator]
    log.append(b"new\n")
    assert path.read_bytes() == b"new\n"


def test_a_relative_name_means_the_place_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A daemon goes elsewhere before the first rotation.
    """
    monkeypatch.chdir(tmp_path)
    log = AppendedFile("log", 0)
    monkeypatch.chdir("/")
    (tmp_path / "log").unlink()
    log.append(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"new\n"


def test_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    """
    Is not waited for; one whose reader looks away, for the patience only; and one
    whose reader reads is written to.
    """
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="nobody reads from this pipe"):
        AppendedFile(str(path), 0)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AppendedFile(str(path), 0.2)
    log.append(b"one\n", sync=True)
    assert os.read(reader, 100) == b"one\n"
    began = time.monotonic()
    with pytest.raises(OSError, match="nobody reads from it"):
        log.append(b"x" * 100_000 + b"\n")
    assert 0.1 < time.monotonic() - began < 5
    began = time.monotonic()
    with pytest.raises(OSError, match="nobody reads from it"):
        log.append(b"next\n")
    assert time.monotonic() - began < 0.15  # one wait in vain is enough
    os.read(reader, 1 << 20)
    log.append(b"two\n")
    assert os.read(reader, 100) == CANCELLED + b"two\n"
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        log.append(b"three\n")


def test_a_lock_that_is_kept(tmp_path: Path) -> None:
    """
    By a program that was stopped, say: an error after the patience.
    """
    path = tmp_path / "log"
    log = AppendedFile(str(path), 0.1)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another program keeps it locked"):
            log.append(b"one\n")
    log.append(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_what_is_no_file(tmp_path: Path) -> None:
    """
    A full device is an error each time; a terminal's or null's name is fine.
    """
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            AppendedFile("/dev/full", 0).append(b"one\n")
    AppendedFile("/dev/null", 0).append(b"one\n", sync=True)
    with pytest.raises(IsADirectoryError):
        AppendedFile(str(tmp_path), 0)
