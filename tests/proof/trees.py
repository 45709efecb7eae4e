"""
Trees to move, and what has to be true of them before and after.

Checksums are SHA-256, so that nothing that is proven rests on the digests of the
program under test.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from realize.paths import is_hidden_directory, is_partial

#: Names that programs stumble over.
AWKWARD = (
    b"plain",
    b"-rf",
    b" spaces ",
    b"new\nline",
    b"tab\tbell\a",
    b"esc \x1b[2J",
    b"{braces} %s %(x)s $HOME `id`",
    b"'quotes\"",
    b"back\\slash",
    b"latin caf\xe9",
    b"no utf-8 \xff\xfe\x80",
    "smörgåsbord 🧀".encode(),
    "\u202etxt.exe".encode(),
    b"*",
    b"?",
    b"~",
    b"#not-a-comment",
    b"a:b",
    b".hidden",
    b"...",
    b"CON",
    b"n" * 255,
    b"\xf0\x9f\xa7\x80" * 63,
    b"long." + b"x" * 230 + b".realize",
)


@frozen
class Sum:
    """
    A file as it was: bytes, SHA-256, permission bits, and mtime in nanoseconds.
    """

    size: int
    digest: bytes
    mode: int
    mtime_ns: int


#: By path.
Sums = Mapping[bytes, Sum]


def checksums(root: Path) -> dict[bytes, Sum]:
    """
    Every regular file below *root*, whatever its name; but for those that vanish
    while they are looked at.
    """
    sums = {}
    for path, whole in _files(root):
        with suppress(FileNotFoundError):
            sums[path] = _sum(whole)
    return sums


def grow(root: Path, seed: int, *, small: int = 0, large: int = 0) -> Sums:
    """
    Make a tree of files with awkward and plain names, and sum it up.

    :param small: how many files of up to 8 KiB.
    :param large: how many of 3 to 9 MiB, which is several batches.
    """
    numbers = random.Random(seed)
    base = os.fsencode(root)
    folders = [b"", b"a", b"a/b", b"dir\xff\n", b"many"]
    for folder in folders:
        os.makedirs(os.path.join(base, folder), exist_ok=True)
    for index in range(small + large):
        size = numbers.randrange(8192) if index < small else numbers.randrange(3, 9)
        if index >= small:
            size = (size << 20) + numbers.randrange(4096)
        name = b"%s %d" % (numbers.choice(AWKWARD)[:200], index)
        path = os.path.join(base, numbers.choice(folders), name)
        with open(path, "wb") as file:
            file.write(numbers.randbytes(size))
        os.chmod(path, numbers.choice([0o600, 0o644, 0o755, 0o440]))
        os.utime(path, ns=(0, 1_600_000_000_123_456_789 + index))
    return checksums(root)


def outdate(source: Path, destination: Path, seed: int) -> Sums:
    """
    Give the destination older versions of the large files, which have most of their
    content, and sum them up.
    """
    numbers = random.Random(seed)
    for path, whole in _files(source):
        content = Path(os.fsdecode(whole)).read_bytes()
        if len(content) < 1 << 20:
            continue
        for _ in range(4):
            at = numbers.randrange(len(content))
            removed = numbers.randrange(100_000)
            added = numbers.randbytes(numbers.randrange(100_000))
            content = content[:at] + added + content[at + removed :]
        old = os.path.join(os.fsencode(destination), path)
        os.makedirs(os.path.dirname(old), exist_ok=True)
        Path(os.fsdecode(old)).write_bytes(content)
    return checksums(destination)


def count(root: Path, finished: bool = False) -> int:
    """
    How many files there are, while others add and remove some.

    :param finished: without those under construction.
    """
    return sum(
        not finished or not is_partial(os.fsencode(name))
        for _, _, names in os.walk(root)
        for name in names
    )


def lost(before: Sums, *roots: Path) -> list[bytes]:
    """
    Files of *before* whose content is whole under none of *roots*.

    One that waits to be unlinked, in a hidden directory, is where it was.
    """
    found: set[tuple[bytes, int, bytes]] = set()
    for root in roots:
        found |= {
            (_without_hidden(path), each.size, each.digest)
            for path, each in checksums(root).items()
            if not is_partial(path.rpartition(b"/")[2])
        }
    return [
        path
        for path, each in before.items()
        if (path, each.size, each.digest) not in found
    ]


def torn(before: Sums, destination: Path, older: Sums | None = None) -> list[bytes]:
    """
    Files under final names at the destination that are neither what they should be nor
    what they were.
    """
    return [
        path
        for path, each in checksums(destination).items()
        if not is_partial(path.rpartition(b"/")[2])
        and each not in (before.get(path), (older or {}).get(path))
    ]


def assert_moved(before: Sums, source: Path, destination: Path) -> None:
    """
    Everything has arrived, once, as it was; nothing else is there, nothing is left.
    """
    assert not differences(before, checksums(destination))
    assert list(checksums(source)) == []
    assert _hidden(source) == []


def differences(before: Sums, after: Sums) -> list[str]:
    """
    How two trees differ, in words.
    """
    return [
        f"{path!r}: {before.get(path)} became {after.get(path)}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def _files(root: Path) -> Iterator[tuple[bytes, bytes]]:
    base = os.fsencode(root)
    for folder, _, names in os.walk(base):
        for name in names:
            whole = os.path.join(folder, name)
            with suppress(FileNotFoundError):
                if stat.S_ISREG(os.lstat(whole).st_mode):
                    yield os.path.relpath(whole, base), whole


def _hidden(root: Path) -> list[bytes]:
    return [
        os.path.join(folder, name)
        for folder, names, _ in os.walk(os.fsencode(root))
        for name in names
        if is_hidden_directory(name)
    ]


def _without_hidden(path: bytes) -> bytes:
    parts = [part for part in path.split(b"/") if not is_hidden_directory(part)]
    return b"/".join(parts)


def _sum(path: bytes) -> Sum:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").digest()
    return Sum(status.st_size, digest, status.st_mode & 0o777, status.st_mtime_ns)
