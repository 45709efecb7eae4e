"""
Files for the demonstration: made up or copied, and what is in them.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from blake3 import blake3

from realize.paths import MAX_NAME

#: Small files, directories they are in, and bytes of the one large file.
SMALL_FILES: Final = 3000
DIRECTORIES: Final = 60
LARGE_SIZE: Final = 192 * 1024 * 1024

#: Names that careless programs trip over.
AWKWARD_NAMES: Final = (
    b"-rf",
    b" spaces  everywhere ",
    b"line\nbreak",
    b"{braces} %s $HOME `id`",
    b"caf\xe9 (not UTF-8)",
    "smörgåsbord 🧀".encode(),
    b"back\\slash",
    b"x" * MAX_NAME,
)

_BLOCK: Final = 1024 * 1024


def generate(root: Path, large_size: int = LARGE_SIZE) -> None:
    """
    Fill a new directory with files of all kinds; the same ones every time.
    """
    chance = random.Random(9771)  # noqa: S311 - not for secrets
    for number in range(DIRECTORIES):
        (root / f"day-{number // 10}" / f"camera-{number % 10}").mkdir(parents=True)
    for number in range(SMALL_FILES):
        place = number % DIRECTORIES
        directory = root / f"day-{place // 10}" / f"camera-{place % 10}"
        content = chance.randbytes(chance.randrange(16 * 1024))
        (directory / f"frame-{number:05}.jpg").write_bytes(content)
    with (root / "film.mov").open("wb") as file:
        for start in range(0, large_size, _BLOCK):
            file.write(chance.randbytes(min(_BLOCK, large_size - start)))
    awkward = root / "awkward names"
    awkward.mkdir()
    (awkward / "empty").touch()
    for name in AWKWARD_NAMES:
        try:
            with open(os.path.join(os.fsencode(awkward), name), "wb") as file:
                file.write(name)
        except OSError:
            continue  # a file system that wants UTF-8, or short names
    (root / "latest.mov").symlink_to("film.mov")


def copy(source: Path, root: Path) -> None:
    """
    Copy a directory of the user's, so that only the copy is moved.

    What is neither file, directory nor symbolic link is left out.
    """

    def special(directory: str, names: list[str]) -> list[str]:
        paths = ((name, Path(directory, name)) for name in names)
        return [
            name
            for name, path in paths
            if not (path.is_symlink() or path.is_dir() or path.is_file())
        ]

    shutil.copytree(source, root, symlinks=True, ignore=special, dirs_exist_ok=True)


def regular_files(root: Path) -> Iterator[os.DirEntry[bytes]]:
    """
    All regular files below a directory.
    """
    waiting = [os.fsencode(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry


def tree_size(root: Path) -> int:
    """
    Bytes of all regular files below a directory.
    """
    return sum(entry.stat().st_size for entry in regular_files(root))


def checksums(root: Path) -> dict[bytes, bytes]:
    """
    BLAKE3 of every regular file, by its path below *root*.
    """
    base = os.fsencode(root)
    found = {}
    for entry in regular_files(root):
        digest = blake3()
        with open(entry.path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        found[os.path.relpath(entry.path, base)] = digest.digest()
    return found
