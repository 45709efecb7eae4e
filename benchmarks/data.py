"""
The data that is moved: generated, the same every time.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from blake3 import blake3

#: Bytes generated at a time.
_BLOCK = 16 * 1024 * 1024


def noise(seed: str, offset: int, length: int) -> bytes:
    """
    Part of an endless stream of bytes that do not compress.
    """
    return blake3(seed.encode()).digest(length, seek=offset)


def write_noise(path: Path, size: int, seed: str) -> None:
    """
    A file of *size* bytes that do not compress.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for offset in range(0, size, _BLOCK):
            file.write(noise(seed, offset, min(_BLOCK, size - offset)))


def write_files(
    directory: Path, count: int, size: int, each: int, prefix: str = ""
) -> None:
    """
    Small files, in directories of *each*, with names that begin with *prefix*.
    """
    for number in range(count):
        if number % each == 0:
            below = directory / f"{number // each:04}"
            below.mkdir(parents=True)
        with open(below / f"{prefix}{number:06}", "wb") as file:
            file.write(noise("small", number * size, size))


def largest_tree(limit: int) -> Path:
    """
    A tree of files as programs and people leave them, up to *limit* bytes.
    """
    return max(
        (path for path in map(Path, ("/usr/share", "/usr/lib")) if path.is_dir()),
        key=lambda path: min(measure(path).size, limit),
    )


def copy_files(tree: Path, directory: Path, limit: int) -> None:
    """
    Copy the regular files of a tree, in order of their names, up to *limit* bytes.
    """
    copied = 0
    for path, size in sorted(files(tree)):
        if copied + size > limit:
            continue
        target = directory / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except PermissionError:
            continue
        copied += size


def edit(path: Path, edits: int) -> None:
    """
    Overwrite 16 bytes in *edits* places.
    """
    places = random.Random(1)  # noqa: S311
    size = path.stat().st_size
    with path.open("r+b") as file:
        for number in range(edits):
            file.seek(places.randrange(size - 16))
            file.write(noise("edits", number * 16, 16))


def insert(path: Path, size: int) -> None:
    """
    Put *size* new bytes before a file's own.
    """
    longer = path.with_name(f"{path.name}.longer")
    write_noise(longer, size, "inserted")
    with path.open("rb") as old, longer.open("ab") as new:
        shutil.copyfileobj(old, new, _BLOCK)
    longer.replace(path)


def append(path: Path, size: int) -> None:
    """
    Put *size* new bytes after a file's own.
    """
    with path.open("ab") as file:
        file.write(noise("appended", 0, size))


def cut_off(path: Path, share: float) -> None:
    """
    Keep the beginning of a file.

    :param share: 0 to 1.
    """
    os.truncate(path, int(path.stat().st_size * share))


@frozen
class Tree:
    """
    How much is below a directory.

    :ivar files: how many regular files.
    :ivar size: their bytes.
    """

    files: int
    size: int


def files(directory: Path) -> Iterator[tuple[Path, int]]:
    """
    Regular files and their bytes; what can't be read is left out.
    """
    pending = [directory]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except PermissionError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path), entry.stat(follow_symlinks=False).st_size


def measure(directory: Path) -> Tree:
    """
    Count what is there.
    """
    count = total = 0
    for _, size in files(directory):
        count += 1
        total += size
    return Tree(count, total)


def lay_out(master: Path, directory: Path) -> None:
    """
    Make *directory* a durable copy of *master*.
    """
    empty(directory)
    if any(master.iterdir()):
        subprocess.run(["cp", "-a", f"{master}/.", directory], check=True)
    settle(directory)


def empty(directory: Path) -> None:
    """
    Make *directory* an empty one.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def settle(directory: Path) -> None:
    """
    Let nothing be left that somebody else's fsync would have to write.
    """
    subprocess.run(["sync", "-f", directory], check=True)
