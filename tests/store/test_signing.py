"""
What is remembered of signatures, and for how long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError

from realize.delta.chunks import Cutting
from realize.delta.exchange import Sign
from realize.delta.plan import Span
from realize.errors import BadRequest, DiskError
from realize.store import signing
from realize.store.identity import identity_of
from realize.store.signing import Signer, signed_bytes
from realize.store.work import QUICK, signing_keys

CHUNK = 2048
DATA = random.Random(7).randbytes(6 * 1024 * 1024)  # noqa: S311  # no secret


class Files:
    """
    A signer of files, and how often they were opened for it.
    """

    def __init__(self, directory: Path) -> None:
        self.opened = 0
        self.signer = Signer(self.opening, digests=True)
        self._directory = directory

    @contextmanager
    def opening(self, wanted: Sign) -> Iterator[int]:
        """
        As :data:`realize.store.signing.Opening`.
        """
        self.opened += 1
        fd = os.open(self._directory / os.fsdecode(wanted.path), os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)

    def make(self, name: bytes, content: bytes) -> bytes:
        """
        A file; its version.
        """
        path = self._directory / os.fsdecode(name)
        path.write_bytes(content)
        return identity_of(path.stat())

    def groups(self, name: bytes, version: bytes) -> list[Span]:
        """
        Sign a file.
        """
        spans: list[Span] = []
        for page in range(100):
            signed = self.signer.sign(Sign(name, version, CHUNK, page))
            parts = list(signed.signatures[0].parts())
            if not parts:
                break
            spans += [Span(offset, length) for offset, length, _ in parts]
        return spans


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """
    None yet.
    """
    return Files(tmp_path)


def test_blocks_are_remembered(files):
    """
    No file is read again for those of its groups, in whatever order.
    """
    version = files.make(b"x", DATA)
    spans = files.groups(b"x", version)
    assert len(spans) > 3
    wanted = Sign(b"x", version, CHUNK, 0, spans, blocks=True)
    files.opened = 0
    first = files.signer.sign(wanted).signatures
    back = Sign(b"x", version, CHUNK, 0, spans[::-1], blocks=True)
    assert files.signer.sign(back).signatures == first[::-1]
    assert files.opened == 0

    # Once more, from the file.
    files.signer = Signer(files.opening, digests=True)
    assert files.signer.sign(wanted).signatures == first
    assert files.opened == 1


def test_not_of_another_version(files):
    """
    Nor of another cutting.
    """
    version = files.make(b"x", DATA)
    spans = files.groups(b"x", version)
    files.opened = 0
    other = files.make(b"x", DATA[::-1])
    wanted = Sign(b"x", other, CHUNK, 0, spans[:1], blocks=True)
    found = files.signer.sign(wanted)
    assert files.opened == 1
    wanted = Sign(b"x", version, CHUNK, 0, spans[:1], blocks=True)
    assert found != files.signer.sign(wanted)
    assert files.opened == 1
    files.signer.sign(Sign(b"x", version, 2**20, 0, spans[:1], blocks=True))
    assert files.opened == 2


def test_after_a_failure_pages_begin_anew(files):
    """
    What was digested of a page that failed is not digested twice.
    """
    version = files.make(b"x", DATA * 30)
    first = files.signer.sign(Sign(b"x", version, CHUNK))
    opening = files.signer._opening

    @contextmanager
    def failing(wanted: Sign) -> Iterator[int]:
        with opening(wanted) as fd:
            yield fd
            raise DiskError("at last")

    files.signer._opening = failing
    with pytest.raises(DiskError):
        files.signer.sign(Sign(b"x", version, CHUNK, 1))
    files.signer._opening = opening
    with pytest.raises(BadRequest):
        files.signer.sign(Sign(b"x", version, CHUNK, 1))
    assert files.signer.sign(Sign(b"x", version, CHUNK)) == first
    files.groups(b"x", version)


def test_pages_are_in_order_and_nothing_waits_for_them():
    """
    Parts are asked for while pages are being made.
    """
    page = Sign(b"x", b"version", CHUNK, 1)
    assert signing_keys(page) == signing_keys(Sign(b"x", b"version", CHUNK))
    assert signing_keys(page) != signing_keys(Sign(b"y", b"version", CHUNK))
    assert signing_keys(Sign(b"x", b"version", CHUNK, 0, [Span(0, 9)])) == []


def test_what_is_remembered_is_bounded(files, monkeypatch):
    """
    In one file and in all together: those that were signed last stay.
    """
    count = len(DATA) // Cutting(CHUNK).block
    monkeypatch.setattr(signing, "MAX_BLOCKS", 2 * count)
    versions = {}
    for name in (b"1", b"2", b"3", b"4"):
        versions[name] = files.make(name, DATA)
        spans = files.groups(name, versions[name])
    files.opened = 0
    for name, version in versions.items():
        files.signer.sign(Sign(name, version, CHUNK, 0, spans, blocks=True))
    assert files.opened == 2
    monkeypatch.setattr(signing, "MAX_BLOCKS", count // 2)
    version = files.make(b"5", DATA)
    files.groups(b"5", version)
    files.opened = 0
    first = Sign(b"5", version, CHUNK, 0, spans[:1], blocks=True)
    last = Sign(b"5", version, CHUNK, 0, spans[-1:], blocks=True)
    files.signer.sign(first)
    assert files.opened == 0
    files.signer.sign(last)
    assert files.opened == 1


def test_what_is_large_is_not_signed_among_what_is_quick(tmp_path):
    """
    Pages of a large file take turns with other digests; stretches, and small files,
    are read at once.
    """
    versions = []
    for size in (QUICK, 2**40):
        with (tmp_path / "x").open("wb") as file:
            file.truncate(size)
        versions.append(identity_of((tmp_path / "x").stat()))
    small, large = versions
    assert signed_bytes(Sign(b"x", small, CHUNK)) <= QUICK
    assert signed_bytes(Sign(b"x", large, CHUNK, 9)) > QUICK
    assert signed_bytes(Sign(b"x", large, CHUNK, 0, [Span(9, 7), Span(0, 9)])) == 16
    with pytest.raises(BadRequest):
        signed_bytes(Sign(b"x", b"none", CHUNK))


def test_signing_pauses(files):
    """
    And ends when that says so.
    """
    version = files.make(b"x", DATA)

    def pause() -> None:
        raise CancelledError

    signer = Signer(files.opening, digests=True, pause=pause)
    for spans in ([], [Span(0, 9)]):
        with pytest.raises(CancelledError):
            signer.sign(Sign(b"x", version, CHUNK, 0, spans))
