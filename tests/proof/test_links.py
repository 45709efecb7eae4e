"""
Somebody swaps a directory for a symbolic link, over and over, while files are moved.

Nothing may be written to where the link leads, nothing taken from there.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.proof.conftest import Tell
from tests.proof.trees import checksums, lost
from tests.support.programs import World

FILES = 2000

#: Exchanges two names until standard input ends; prints how often.
SWAPPER = """
import ctypes, os, select, sys, time
libc = ctypes.CDLL(None, use_errno=True)
one, other = (os.fsencode(each) for each in sys.argv[1:])
count = 0
while not select.select([0], [], [], 0)[0]:
    for _ in range(20):
        if libc.renameat2(-100, one, -100, other, 2):
            sys.exit(os.strerror(ctypes.get_errno()))
        count += 1
    time.sleep(0.0002)
if count % 2:
    libc.renameat2(-100, one, -100, other, 2)
print(count)
"""


@contextmanager
def swapping(one: Path, other: Path, counts: list[int]) -> Iterator[None]:
    """
    While the block runs, two names are exchanged as fast as it goes without taking
    the processor from the program under test; an even number of times.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SWAPPER, one, other],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield
    finally:
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        counts.append(int(out))


@pytest.mark.parametrize("way", ["renaming", "copying", "sending", "receiving"])
def test_nothing_leaves_or_enters_by_a_link(
    tmp_path: Path, way: str, tell: Tell
) -> None:
    """
    At both ends, in directories above the files.
    """
    world = World.create(tmp_path / "world")
    source, inbox = tmp_path / "source", world.nas.directory("inbox")
    words = [str(source), str(inbox)]
    memory = Path("/dev/shm") / f"realize-links-{os.getpid()}"
    if way == "copying":
        inbox = memory
        inbox.mkdir()
        words[1] = str(inbox)
    elif way == "sending":
        words[1] = "nas:inbox"
    elif way == "receiving":
        source, inbox = inbox, tmp_path / "local"
        inbox.mkdir()
        words = ["nas:inbox", str(inbox)]
    numbers = random.Random(4)
    for number in range(FILES):
        folder = source / "sub" / str(number % 7)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(numbers.randbytes(300))
    before = checksums(source)
    outside = tmp_path / "outside"
    shutil.copytree(source / "sub", outside)
    for each in outside.rglob("*"):
        if each.is_file():
            each.write_text("not to be touched")
    untouched = checksums(outside)
    (inbox / "sub").mkdir()
    for end in (source, inbox):
        (end / "link").symlink_to(outside)
    counts: list[int] = []
    try:
        if way in ("sending", "receiving"):
            world.nas.start()
        with (
            swapping(source / "sub", source / "link", counts),
            swapping(inbox / "sub", inbox / "link", counts),
        ):
            world.realize("move", *words, "--output=quiet", status=None)
        assert checksums(outside) == untouched
        # "link" was the directory half of the time: there, too, files may have come.
        arrived = checksums(inbox)
        everywhere = {path.replace(b"link/", b"sub/"): s for path, s in arrived.items()}
        everywhere |= checksums(source)
        assert {each.digest for each in before.values()} <= {
            each.digest for each in everywhere.values()
        }
        assert not any(
            each.size == len("not to be touched") for each in arrived.values()
        )
        world.realize("move", *words)
        world.stop()
        assert checksums(source) == {}
        assert checksums(outside) == untouched
        (inbox / "link").unlink(missing_ok=True)
        assert lost(before, inbox) == []
    finally:
        world.stop()
        shutil.rmtree(memory, ignore_errors=True)
    tell(f"{sum(counts)} swaps, nothing left or entered")
