"""
Rules for every destination.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred

from realize.errors import BadRequest, DirectoryGone, PeerError
from realize.model import (
    MAX_BATCH,
    Offer,
    Piece,
)
from tests.contract.conftest import contents
from tests.contract.pairs import run, run_all
from tests.contract.steps import codes, finish_of


def test_compare(pair, destination, there):
    """
    Like a finish of what is there already, but nothing is changed.
    """
    (there / "same").write_bytes(b"content")
    (there / "other").write_bytes(b"CONTENT")
    (there / "directory").mkdir()
    names = (b"same", b"other", b"none", b"directory", b"../same")
    wanted = [finish_of(name, b"content") for name in names]
    results = run(pair, destination.compare(wanted))
    assert codes(results) == [
        "Held",
        "DIGEST_MISMATCH",
        "NO_SUCH_FILE",
        "NAME_TAKEN",
        "UNSAFE_PATH",
    ]
    offers = [Offer(b"same", 7)]
    (held,) = run(pair, destination.offer(offers, [], reserve=False))
    assert results[0] == held


def test_order(pair, destination, there):
    """
    Offer, write, write, finish of a file, all sent before the first answer and over
    threads that reorder, for many files at once: each in its order.
    """
    content = [bytes([n]) * 1000 for n in range(40)]
    asked = []
    for n, data in enumerate(content):
        path = b"d/%d" % n
        asked += [
            destination.offer([Offer(path, 1000)], []),
            destination.write([Piece(path, 0, 500)], data[:500]),
            destination.write([Piece(path, 500, 500)], data[500:]),
            destination.finish([finish_of(path, data)]),
        ]
    results = run_all(pair, *asked)
    assert [codes(each) for each in results] == [
        ["Held"],
        ["Written"],
        ["Written"],
        ["Finished"],
    ] * len(content)
    assert contents(there) == {
        "d": None,
        **{f"d/{n}": data for n, data in enumerate(content)},
    }


def test_order_across_batches(pair, destination, there):
    """
    Batches that have only some files in common keep the order of those.
    """
    paths = [b"%d" % n for n in range(30)]
    run(pair, destination.offer([Offer(path, 3) for path in paths], []))
    asked = []
    for offset in range(3):
        for first in range(0, 30, 10):
            pieces = [Piece(path, offset, 1) for path in paths[first : first + 10]]
            asked.append(destination.write(pieces, b"abc"[offset : offset + 1] * 10))
    asked.append(destination.finish([finish_of(path, b"abc") for path in paths]))
    *_, finished = run_all(pair, *asked)
    assert codes(finished) == ["Finished"] * 30


def test_giving_up_an_answer_is_not_giving_up_the_work(pair, destination, there):
    """
    A cancelled operation takes place all the same, and those behind it too.
    """
    run(pair, destination.offer([Offer(b"x", 3)], []))
    first = Deferred.fromCoroutine(destination.write([Piece(b"x", 0, 3)], b"new"))
    second = Deferred.fromCoroutine(destination.finish([finish_of(b"x", b"new")]))
    first.cancel()
    with pytest.raises(CancelledError):
        pair.wait(first)
    assert codes(pair.wait(second)) == ["Finished"]
    assert contents(there) == {"x": b"new"}


def test_batches_that_are_too_large(pair, destination):
    """
    Refused as a whole.
    """
    offers = [Offer(b"%d" % n, 0) for n in range(MAX_BATCH + 1)]
    with pytest.raises(BadRequest):
        run(pair, destination.offer(offers, []))


def test_close_keeps_partials(pair, destination, there):
    """
    What was written stays for the next session; nothing can be done any more.
    """
    run(pair, destination.offer([Offer(b"x", 6)], []))
    run(pair, destination.write([Piece(b"x", 0, 3)], b"abc"))
    run(pair, destination.close())
    assert contents(there) == {".x.realize-part": b"abc"}
    with pytest.raises(PeerError):
        run(pair, destination.finish([finish_of(b"x", b"abc")]))


def test_close_waits_for_what_was_begun(pair, destination, there):
    """
    A commit that has begun is not cut short.
    """
    files = {b"%d" % n: b"%d" % n for n in range(50)}
    run(pair, destination.offer([Offer(p, len(c)) for p, c in files.items()], []))
    pieces = [Piece(path, 0, len(content)) for path, content in files.items()]
    run(pair, destination.write(pieces, b"".join(files.values())))
    wanted = [finish_of(path, content) for path, content in files.items()]
    finishing = Deferred.fromCoroutine(destination.finish(wanted))
    run(pair, destination.close())
    try:
        assert codes(pair.wait(finishing)) == ["Finished"] * 50
        assert contents(there) == {p.decode(): c for p, c in files.items()}
    except (CancelledError, PeerError):
        # It had not begun.
        assert len(contents(there)) == 50


def test_root_that_vanished(pair, destination, there):
    """
    Not written into a directory that nobody can see any more.
    """
    run(pair, destination.offer([Offer(b"x", 3)], []))
    there.rename(there.parent / "elsewhere")
    there.mkdir()
    with pytest.raises(DirectoryGone):
        run(pair, destination.offer([Offer(b"y", 3)], []))
    with pytest.raises(DirectoryGone):
        run(pair, destination.write([Piece(b"x", 0, 3)], b"new"))
    assert contents(there) == {}


def test_place(pair, destination, there):
    """
    The same for every store on the same directory, and known from below and above.
    """
    (there / "below").mkdir()
    place = run(pair, destination.place())
    for path, overlaps in (
        (there, True),
        (there / "below", True),
        (there.parent, True),
        (Path("/dev"), False),
    ):
        other = run(pair, pair.open_destination(path).place())
        assert place.overlaps(other) == other.overlaps(place) == overlaps
