"""
Receipts against a store.
"""

from __future__ import annotations

from blake3 import blake3
from twisted.internet.task import Clock

from realize.errors import StillOpen
from realize.model import Notice
from realize.move.verify import Expected, Verification
from tests.support.memory.disk import Disk
from tests.support.memory.link import Link
from tests.support.memory.source import MemorySource
from tests.support.memory.trouble import Trouble
from tests.support.moving import drive


def check(
    disk: Disk, expected: dict[bytes, bytes], trouble: Trouble | None = None
) -> tuple[Verification, list[tuple[bytes, str]]]:
    """
    Verify a disk against contents; the findings as they were reported.
    """
    clock = Clock()
    found: list[tuple[bytes, str]] = []
    verification = Verification(
        {
            path: Expected(len(content), blake3(content).digest())
            for path, content in expected.items()
        },
        lambda path, finding, text: found.append((path, finding)),
    )
    source = MemorySource(disk, Link(clock), trouble)
    drive(clock, verification.run(source))
    return verification, found


def test_everything_is_as_it_was() -> None:
    """
    Files without a receipt are nobody's business.
    """
    disk = Disk()
    disk.put(b"a", b"one")
    disk.put(b"d/b", b"")
    disk.put(b"other", b"three")
    verification, found = check(disk, {b"a": b"one", b"d/b": b""})
    assert found == []
    assert (verification.verified, verification.wrong) == (2, 0)


def test_each_kind_of_loss_is_named() -> None:
    """
    Missing, another size, another content of the same size.
    """
    disk = Disk()
    disk.put(b"longer", b"12345")
    disk.put(b"rotten", b"1234")
    verification, found = check(
        disk, {b"gone": b"1", b"longer": b"1234", b"rotten": b"123x"}
    )
    assert sorted(found) == [
        (b"gone", "missing"),
        (b"longer", "different"),
        (b"rotten", "different"),
    ]
    assert (verification.verified, verification.wrong) == (0, 3)


def test_what_cannot_be_read_is_not_called_missing() -> None:
    """
    Neither a file in use nor what is below an unreadable directory.
    """
    disk = Disk()
    disk.put(b"busy", b"1")
    disk.notices.append(Notice(b"d", "unreadable", "Permission denied"))
    trouble = Trouble()
    trouble.fail("digest", StillOpen("busy: open for writing"), b"busy")
    _verification, found = check(
        disk, {b"busy": b"1", b"d/x": b"", b"dx": b""}, trouble
    )
    assert sorted(found) == [
        (b"busy", "unreadable"),
        (b"d/x", "unreadable"),
        (b"dx", "missing"),
    ]
