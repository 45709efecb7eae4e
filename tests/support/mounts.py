"""
File systems to be mounted for a test, each by a word.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.requirements import find_program

#: How those in an image are made.
_IMAGES = {
    "ext4": ("mkfs.ext4", "-q"),
    "ext4-128": ("mkfs.ext4", "-q", "-I", "128"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}


def _run(program: str, *arguments: str | Path) -> None:
    found = find_program(program)
    assert found, f"{program} is not installed"
    subprocess.run([found, *arguments], check=True, stdout=subprocess.DEVNULL)


def _mount(kind: str, below: Path, place: Path, options: tuple[str, ...]) -> None:
    if kind in _IMAGES:
        image = below / "image"
        with image.open("wb") as file:
            file.truncate(400 * 1024 * 1024)
        _run(*_IMAGES[kind], image)
        _run("mount", "-o", "loop", image, place)
    elif kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "tmpfs", place)
    elif kind == "bindfs":
        _run("bindfs", *options, below / "real", place)
    else:
        for name in ("upper", "work"):
            (below / name).mkdir()
        layers = f"lowerdir={below}/real,upperdir={below}/upper,workdir={below}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, place)


@contextmanager
def mounted(kind: str, below: Path, *options: str) -> Iterator[Path]:
    """
    A file system of its own, for the length of a ``with`` block.

    :param kind: ``ext4``, ``ext4-128`` (inodes of 128 bytes), ``xfs``, ``btrfs``,
        ``tmpfs``; or a view of the directory ``real`` in *below*: ``bindfs``,
        ``overlay`` (its lower layer).
    :param below: a directory, for images and layers and the mount, ``mnt``.
    :param options: for bindfs.
    :returns: where it is mounted.
    """
    place = below / "mnt"
    for each in (place, below / "real"):
        each.mkdir()
    _mount(kind, below, place, options)
    try:
        yield place
    finally:
        _run("umount", place)
