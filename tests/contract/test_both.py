"""
Rules for a source and a destination together.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from realize.errors import BadRequest
from realize.model import Claim, Finish, Offer, Piece, Range, Removal
from realize.store.interface import Destination, Source
from tests.contract.conftest import contents
from tests.contract.pairs import Pair, run
from tests.contract.steps import all_pages, codes


def move(pair: Pair, source: Source, destination: Destination) -> None:
    """
    Move all, in the simplest possible way.
    """
    for page in all_pages(pair, source):
        offers = [Offer(file.path, file.size) for file in page.files]
        run(pair, destination.offer(offers, page.directories))
        ranges = [Range(f.path, f.identity, 0, f.size) for f in page.files]
        extents, payload = run(pair, source.read(ranges))
        pieces = [Piece(f.path, 0, f.size) for f in page.files]
        run(pair, destination.write(pieces, payload))
        finishes = [
            Finish(file.path, file.size, extent.digest, file.mode, file.mtime_ns)
            for file, extent in zip(page.files, extents, strict=True)
        ]
        assert set(codes(run(pair, destination.finish(finishes)))) <= {"Finished"}
        for step in ("hide", "unlink"):
            removals = [
                Removal(file.path, file.identity, extent.digest, step)
                for file, extent in zip(page.files, extents, strict=True)
            ]
            assert set(codes(run(pair, source.remove(removals)))) <= {"Removed"}


def test_a_whole_move(pair, source, destination, here, there):
    """
    Everything arrives with its attributes, nothing stays but directories.
    """
    expected = {}
    for n in range(60):
        path = Path(f"{n % 4}") / f"{n % 3}" / f"file {n}"
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_bytes(os.urandom(n * 100))
        (here / path).chmod(0o600 + n % 8)
        os.utime(here / path, ns=(n, 10**18 + n))
        status = (here / path).stat()
        content = (here / path).read_bytes()
        expected[str(path)] = (content, status.st_mode, status.st_mtime_ns)
    move(pair, source, destination)
    assert set(contents(here).values()) == {None}
    arrived = {}
    for path, content in contents(there).items():
        if content is not None:
            status = (there / path).stat()
            arrived[path] = (content, status.st_mode, status.st_mtime_ns)
    assert arrived == expected


def test_same_place(pair, here, there):
    """
    A source and a destination on one directory know it, and on two they know too.
    """
    (here / "below").mkdir()
    source = run(pair, pair.open_source(here).place())
    for path, overlaps in ((here, True), (here / "below", True), (there, False)):
        destination = run(pair, pair.open_destination(path).place())
        assert source.overlaps(destination) == overlaps
    (there / "link").symlink_to(here)
    destination = run(pair, pair.open_destination(there / "link").place())
    assert source.overlaps(destination)


def test_two_steps_when_both_are_one(pair, here, tmp_path):
    """
    A file that was "there already" only because both stores are one place is not
    there any more once the source has hidden it: that is how it is found out.
    """
    (here / "x").write_bytes(b"content")
    source, destination = pair.open_source(here), pair.open_destination(here)
    ((file,),) = [page.files for page in all_pages(pair, source)]
    extents, _ = run(pair, source.read([Range(b"x", file.identity, 0, 7)]))
    wanted = Finish(b"x", 7, extents[0].digest, file.mode, file.mtime_ns)
    (finished,) = run(pair, destination.finish([wanted]))
    assert finished.how == "present"
    removal = Removal(b"x", file.identity, extents[0].digest, "hide")
    (hidden,) = run(pair, source.remove([removal]))
    claim = Claim(b"x", finished.version, 7, wanted.digest, hidden.mark)
    assert codes(run(pair, destination.confirm([claim]))) == ["SAME_FILE"]
    restore = Removal(b"x", file.identity, extents[0].digest, "restore")
    run(pair, source.remove([restore]))
    assert contents(here) == {"x": b"content"}


def test_marks(pair, here, there):
    """
    What one end makes for a moment appears at the other if both are one place, or one
    is inside the other.
    """
    (here / "below").mkdir()
    source = pair.open_source(here)
    mark = run(pair, source.mark())
    for path, above, seen in (
        (here, False, True),
        (here / "below", False, False),
        (here / "below", True, True),
        (there, True, False),
    ):
        assert run(pair, pair.open_destination(path).sees(mark, above)) is seen
    destination = pair.open_destination(here)
    other = run(pair, destination.mark())
    assert other != mark
    assert run(pair, source.sees(other))
    run(pair, source.unmark())
    run(pair, destination.unmark())
    assert contents(here) == {"below": None}
    with pytest.raises(BadRequest):
        run(pair, source.sees(b"below"))


def test_closing_removes_a_mark(pair, here):
    """
    As a lost connection does.
    """
    source = pair.open_source(here)
    run(pair, source.mark())
    assert len(contents(here)) == 1
    run(pair, source.close())
    assert contents(here) == {}
