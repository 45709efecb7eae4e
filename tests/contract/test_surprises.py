"""
One file's surprise is that file's failure: the batch, and the page, go on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from realize.model import MAX_TIME, Finish, Finished, Offer, Piece, Prefix, Range
from realize.paths import RelativePath
from realize.store import commit, listing
from realize.store.interface import Destination, Source
from realize.store.root import Root
from tests.contract.pairs import Pair, run
from tests.contract.steps import codes, digest, files_of, finish_of, removal

ODD = b"odd"


class Surprise(Exception):
    """
    What nobody planned.
    """


@pytest.fixture
def surprising(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Whoever asks for the file *odd* meets it.
    """
    path = Root.path

    def surprise(self: Root, raw: bytes) -> RelativePath:
        if raw == ODD:
            raise Surprise
        return path(self, raw)

    monkeypatch.setattr(Root, "path", surprise)


def bugs(logs: list[Any]) -> list[str]:
    """
    What was logged as a bug.
    """
    return [str(each["what"]) for each in logs if each.get("event") == "bug"]


@pytest.mark.usefixtures("surprising")
def test_taking(pair: Pair, source: Source, here: Path) -> None:
    """
    Reading, digesting and removing: the others are read, digested and removed.
    """
    for name in ("a", "odd", "z"):
        (here / name).write_bytes(b"1")
    files = files_of(pair, source)
    odd = [files[name] for name in (b"a", ODD, b"z")]
    with capturedLogs() as logs:
        digests = run(
            pair, source.digest([Prefix(each.path, each.identity, 1) for each in odd])
        )
        extents, data = run(
            pair, source.read([Range(each.path, each.identity, 0, 1) for each in odd])
        )
        removed = [
            codes(run(pair, source.remove([removal(each, b"1", step) for each in odd])))
            for step in ("hide", "unlink")
        ]
    assert codes(digests) == ["Digests", "INTERNAL", "Digests"]
    assert codes(extents) == ["Extent", "INTERNAL", "Extent"]
    assert bytes(data) == b"11"
    assert removed == [["Removed", "INTERNAL", "Removed"]] * 2
    assert [each.name for each in here.iterdir()] == ["odd"]
    assert len(bugs(logs)) == 4
    assert all("odd" in each for each in bugs(logs))


@pytest.mark.usefixtures("surprising")
def test_putting(pair: Pair, destination: Destination, there: Path) -> None:
    """
    Offering, comparing, writing and finishing.
    """
    names = (b"a", ODD, b"z")
    held = run(pair, destination.offer([Offer(name, 1) for name in names], []))
    assert codes(held) == ["Held", "INTERNAL", "Held"]
    asked = run(pair, destination.offer([Offer(name, 1) for name in names], [], False))
    assert codes(asked) == ["Held", "INTERNAL", "Held"]
    written = run(
        pair, destination.write([Piece(name, 0, 1) for name in (b"a", b"z")], b"11")
    )
    assert codes(written) == ["Written", "Written"]
    wanted = [finish_of(name, b"1") for name in names]
    finished = run(pair, destination.finish(wanted))
    assert codes(finished) == ["Finished", "INTERNAL", "Finished"]
    compared = run(pair, destination.compare(wanted))
    assert codes(compared) == ["Held", "INTERNAL", "Held"]
    assert {each.name for each in there.iterdir()} == {"a", "z"}


def test_committing(
    pair: Pair, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In the middle of a group that is made durable together.
    """
    verify = commit._verify

    def surprise(entry: commit.WrittenEntry) -> None:
        if entry.wanted.path == ODD:
            raise Surprise
        verify(entry)

    monkeypatch.setattr(commit, "_verify", surprise)
    names = (b"a", ODD, b"z")
    run(pair, destination.offer([Offer(name, 1) for name in names], []))
    run(pair, destination.write([Piece(name, 0, 1) for name in names], b"111"))
    results = run(pair, destination.finish([finish_of(name, b"1") for name in names]))
    assert codes(results) == [Finished.__name__, "INTERNAL", Finished.__name__]


def test_listing(
    pair: Pair, source: Source, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The file is a notice, and the page has the others.
    """
    for name in ("a", "odd", "z"):
        (here / name).write_bytes(b"1")
    inode = os.stat(here / "odd").st_ino
    identify = listing.identity_of

    def surprise(status: os.stat_result, *believed: Any) -> bytes:
        if status.st_ino == inode:
            raise Surprise
        return identify(status, *believed)

    monkeypatch.setattr(listing, "identity_of", surprise)
    with capturedLogs() as logs:
        page = run(pair, source.list(0))
    assert {each.path for each in page.files} == {b"a", b"z"}
    assert [(each.path, each.kind) for each in page.notices] == [(ODD, "unreadable")]
    assert len(bugs(logs)) == 1


@pytest.mark.parametrize("seconds", [9_223_372_037, 15_032_385_535, 2**35])
def test_times_that_do_not_fit(
    pair: Pair,
    source: Source,
    destination: Destination,
    here: Path,
    there: Path,
    seconds: int,
) -> None:
    """
    A file from far in the future is a notice if it does not fit, and never in the
    way of the others.
    """
    for name in ("a", "odd", "z"):
        (here / name).write_bytes(b"1")
        (there / name).write_bytes(b"1")
    for tree in (here, there):
        os.utime(tree / "odd", (seconds, seconds))
    page = run(pair, source.list(0))
    fits = (here / "odd").stat().st_mtime_ns <= MAX_TIME
    assert {each.path for each in page.files} == {b"a", b"z"} | (
        {ODD} if fits else set()
    )
    assert [each.kind for each in page.notices] == ([] if fits else ["unreadable"])
    wanted = [Finish(name, 1, digest(b"1"), 0o644, 0) for name in (b"a", ODD, b"z")]
    held = run(pair, destination.offer([Offer(each.path, 1) for each in wanted], []))
    assert codes(held)[::2] == ["Held", "Held"]
    assert codes(run(pair, destination.finish(wanted)))[::2] == ["Finished", "Finished"]
