"""
File systems to be mounted for a test, each by a word.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.requirements import find_program

#: How those in an image are made, how many MiB large, and how they are mounted.
_IMAGES = {
    "ext4": (("mkfs.ext4", "-q", "-F"), 64, ("mount", "-o", "loop")),
    "ext4-128": (("mkfs.ext4", "-q", "-F", "-I", "128"), 64, ("mount", "-o", "loop")),
    "xfs": (("mkfs.xfs", "-q"), 400, ("mount", "-o", "loop")),
    "btrfs": (("mkfs.btrfs", "-q"), 400, ("mount", "-o", "loop")),
    "ntfs-3g": (("mkfs.ntfs", "-q", "-F", "-Q"), 64, ("ntfs-3g",)),
    "lowntfs-3g": (
        ("mkfs.ntfs", "-q", "-F", "-Q"),
        64,
        ("lowntfs-3g", "-o", "ignore_case"),
    ),
    "exfat-fuse": (("mkfs.exfat",), 64, ("mount.exfat-fuse",)),
}

#: Those that show the directory ``real``.
VIEWS = ("bindfs", "sshfs", "mergerfs", "overlay", "overlay-upper")

#: All of them.
KINDS = (*_IMAGES, "tmpfs", *VIEWS)

#: What each needs.
PROGRAMS = {
    kind: (made[0], mounted[0]) for kind, (made, _, mounted) in _IMAGES.items()
} | {
    "tmpfs": ("mount",),
    "bindfs": ("bindfs",),
    "sshfs": ("sshfs",),
    "mergerfs": ("mergerfs",),
    "overlay": ("mount",),
    "overlay-upper": ("mount",),
}

#: Serves files to sshfs, as a real ``sshd`` starts it.
_SFTP = "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n"


def _run(program: str, *arguments: str | Path) -> None:
    found = find_program(program)
    assert found, f"{program} is not installed"
    subprocess.run([found, *arguments], check=True, stdout=subprocess.DEVNULL)


def _on_loop(image: Path, program: str, place: Path) -> None:
    """
    Mount by a program that wants a device.
    """
    losetup = find_program("losetup")
    assert losetup, "losetup is not installed"
    words = [losetup, "--find", "--show", image]
    device = subprocess.check_output(words, text=True).strip()
    try:
        _run(program, device, place)
    finally:
        # As soon as nobody uses it any more.
        _run("losetup", "--detach", device)


def _mount(kind: str, below: Path, place: Path, options: tuple[str, ...]) -> None:
    real = below / "real"
    if kind in _IMAGES:
        make, size, (program, *words) = _IMAGES[kind]
        image = below / "image"
        with image.open("wb") as file:
            file.truncate(size * 1024 * 1024)
        _run(*make, image)
        if program == "mount.exfat-fuse":
            _on_loop(image, program, place)
        else:
            _run(program, *words, image, place)
    elif kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place)
    elif kind == "bindfs":
        _run("bindfs", *options, real, place)
    elif kind == "sshfs":
        server = below / "sftp"
        server.write_text(_SFTP)
        server.chmod(0o755)
        _run("sshfs", "-o", f"ssh_command={server},reconnect", f"host:{real}", place)
    elif kind == "mergerfs":
        (below / "other").mkdir()
        _run("mergerfs", "-o", "minfreespace=0", f"{real}:{below / 'other'}", place)
    else:
        layers = [below / "layer", below / "work"]
        for each in layers:
            each.mkdir()
        lower, upper = (real, layers[0]) if kind == "overlay" else (layers[0], real)
        words = f"lowerdir={lower},upperdir={upper},workdir={layers[1]}"
        _run("mount", "-t", "overlay", "overlay", "-o", words, place)


@contextmanager
def mounted(kind: str, below: Path, *options: str) -> Iterator[Path]:
    """
    A file system of its own, for the length of a ``with`` block.

    :param kind: one of :data:`KINDS`.  ``ext4-128`` has inodes of 128 bytes.
        :data:`VIEWS` show the directory ``real`` in *below*; ``overlay`` has it as the
        lower layer, ``overlay-upper`` as the upper one.
    :param below: a directory, for images and layers and the mount, ``mnt``.
    :param options: for bindfs.
    :returns: where it is mounted.
    """
    place = below / "mnt"
    for each in (place, below / "real"):
        each.mkdir(exist_ok=True)
    _mount(kind, below, place, options)
    try:
        yield place
    finally:
        _run("umount", "-l", place)
