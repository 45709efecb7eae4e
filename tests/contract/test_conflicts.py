"""
Two files of one name.
"""

from __future__ import annotations

import os
import re
from itertools import product
from pathlib import Path

import pytest

from realize.conflicts import CHOICES, Asked, OnConflict, agreed
from realize.errors import NotAllowed
from realize.model import Finished, Held, Offer, Piece
from tests.contract.conftest import contents
from tests.contract.pairs import Pair, run
from tests.contract.steps import codes, finish_of, put

#: How much each choice does to files that are there.
WEIGHT = {"replace": 2, "backup": 1, "keep-both": 0, "skip": 0, "fail": 0}

ASKED: list[OnConflict | None] = [None, *CHOICES]


@pytest.mark.parametrize(
    ("asked", "configured", "may_replace"), list(product(ASKED, ASKED, [True, False]))
)
def test_what_is_allowed(
    asked: OnConflict | None, configured: OnConflict | None, may_replace: bool
) -> None:
    """
    Never more than the right, nor than what is configured.
    """
    most = WEIGHT[configured or "replace"] if may_replace else 0
    try:
        choice = agreed(Asked(asked), configured, b"", may_replace).choice
    except NotAllowed:
        assert asked is not None
        assert WEIGHT[asked] > most
        return
    assert WEIGHT[choice] <= most
    assert asked in (None, choice)
    if asked is None and most == WEIGHT[configured or "replace"]:
        assert choice == (configured or "replace")


class TestKeepBoth:
    """
    The newer file gets a number.
    """

    def test_numbers(self, pair: Pair, there: Path) -> None:
        """
        One file after the other, before the ending.
        """
        store = pair.open_destination(there, replace=False, on_conflict="keep-both")
        names = []
        for content in (b"one", b"two", b"three"):
            (result,) = put(pair, store, {b"d.jpg": content})
            names.append((result.how, result.name, result.older))
        assert names == [
            ("written", b"", b""),
            ("written", b"d (1).jpg", b""),
            ("written", b"d (2).jpg", b""),
        ]
        assert contents(there) == {
            "d.jpg": b"one",
            "d (1).jpg": b"two",
            "d (2).jpg": b"three",
        }

    def test_is_there_already(self, pair: Pair, there: Path) -> None:
        """
        With a number, whoever gave it: neither sent nor made a second time.
        """
        (there / "x.y").write_bytes(b"other")
        (there / "x (3).y").write_bytes(b"same")
        store = pair.open_destination(there, replace=False, on_conflict="keep-both")
        (held,) = run(pair, store.offer([Offer(b"x.y", 4)], []))
        assert (held.present, held.version) == (4, b"")
        assert held.conflict == "keep-both"
        wanted = [finish_of(b"x.y", b"same")]
        assert codes(run(pair, store.compare(wanted))) == ["Held"]
        (result,) = run(pair, store.finish(wanted))
        assert (result.how, result.name) == ("present", b"x (3).y")
        assert len(contents(there)) == 2

    def test_was_sent_all_the_same(self, pair: Pair, there: Path) -> None:
        """
        Nothing is left of it but the file that was there.
        """
        store = pair.open_destination(there, replace=False, on_conflict="keep-both")
        run(pair, store.offer([Offer(b"x", 4)], []))
        run(pair, store.write([Piece(b"x", 0, 4)], b"same"))
        (there / "x").write_bytes(b"other")
        (there / "x (1)").write_bytes(b"same")
        (result,) = run(pair, store.finish([finish_of(b"x", b"same")]))
        assert (result.how, result.name) == ("present", b"x (1)")
        assert contents(there) == {"x": b"other", "x (1)": b"same"}

    def test_of_the_same_size(self, pair: Pair, there: Path) -> None:
        """
        Is read, and is another file.
        """
        (there / "x").write_bytes(b"other")
        store = pair.open_destination(there, replace=False, on_conflict="keep-both")
        wanted = [finish_of(b"x", b"newer")]
        assert codes(run(pair, store.finish(wanted))) == ["DIGEST_MISMATCH"]
        (result,) = put(pair, store, {b"x": b"newer"})
        assert result.name == b"x (1)"

    @pytest.mark.parametrize(
        "name", ["n" * 255, "ä" * 127, "n" * 250 + ".jpg", ".hidden", "a.tar.gz", "é."]
    )
    def test_long_and_odd_names(self, pair: Pair, there: Path, name: str) -> None:
        """
        Are cut between two characters, and keep their ending.
        """
        raw = os.fsencode(name)
        (there / name).write_bytes(b"older")
        store = pair.open_destination(there, replace=False, on_conflict="keep-both")
        (result,) = put(pair, store, {raw: b"new"})
        assert isinstance(result, Finished)
        got = result.name.decode("utf-8")
        assert len(result.name) <= 255
        assert re.search(r" \(1\)(|\.jpg|\.tar\.gz|\.)$", got)
        assert (there / got).read_bytes() == b"new"
        assert (there / name).read_bytes() == b"older"


def test_backup(pair: Pair, there: Path) -> None:
    """
    The older one is in the directory, with the date, below where it was.
    """
    (there / "d").mkdir()
    (there / "d/x.y").write_bytes(b"older")
    store = pair.open_destination(there, on_conflict="backup", backup_directory="o/p")
    (result,) = put(pair, store, {b"d/x.y": b"new"})
    assert result.how == "replaced"
    assert re.fullmatch(
        rb"o/p/d/x \(\d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d\)\.y", result.older
    )
    assert (there / os.fsdecode(result.older)).read_bytes() == b"older"
    assert (there / "d/x.y").read_bytes() == b"new"
    (there / "d/x.y").write_bytes(b"older2")
    (again,) = put(pair, store, {b"d/x.y": b"newer"})
    assert again.older != result.older
    assert (there / os.fsdecode(again.older)).read_bytes() == b"older2"


@pytest.mark.parametrize(
    ("choice", "code"), [("skip", "SKIPPED"), ("fail", "ALREADY_EXISTS")]
)
def test_what_stays(pair: Pair, there: Path, choice: str, code: str) -> None:
    """
    Nothing is changed, with the right to replace or without.
    """
    (there / "x").write_bytes(b"older")
    for replace in (True, False):
        store = pair.open_destination(there, replace, on_conflict=choice)
        for reserve in (True, False):
            offers = [Offer(b"x", 3)]
            assert codes(run(pair, store.offer(offers, [], reserve))) == [code]
        (held,) = run(pair, store.offer([Offer(b"x", 5)], []))
        assert isinstance(held, Held)
        assert held.conflict == choice
        (result,) = run(pair, store.finish([finish_of(b"x", b"older")]))
        assert result.how == "present"
    assert contents(there) == {"x": b"older"}
