"""
Which files a log says should be where.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from realize.cli.endpoints import LocalPlace, PeerPlace
from realize.cli.expected import Chosen, ExpectedFiles
from realize.config import Config, PeerConfig
from realize.errors import ConfigError
from realize.observe.receipts import Event, Receipt

NAS = PeerConfig("nas", bytes(32), "127.0.0.1:1")
BOX = PeerConfig("box", bytes(32), "127.0.0.1:1")
CONFIG = Config(peers={"nas": NAS, "box": BOX})


def receipt(
    event: Event, directory: str, place: Path | str, path: str, size: int = 1
) -> Receipt:
    """
    One of a file of so many bytes.
    """
    raw = os.fsencode(place)
    return Receipt(event, directory, raw, path.encode(), size, bytes(32), "", "")


def log(*receipts: Receipt) -> ExpectedFiles:
    """
    A log of these.
    """
    expected = ExpectedFiles("log")
    for each in receipts:
        expected.add(each)
    return expected


def sizes(chosen: Chosen | None) -> dict[bytes, int]:
    """
    What is to be checked.
    """
    assert chosen is not None
    return {path: expected.size for path, expected in chosen.files.items()}


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """
    Two directories of this host.
    """
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def test_a_move_from_one_place_does_not_touch_another(
    places: tuple[Path, Path],
) -> None:
    """
    What has the same name in two directories of this host is two files.
    """
    a, b = places
    both = log(
        receipt("final", "local", b, "report", 3),
        receipt("removed", "local", a, "report", 3),
        receipt("final", "inbox", "nas:inbox", "report", 4),
        receipt("removed", "local", a, "report", 4),
    )
    assert sizes(both.choose(None, str(b), CONFIG)) == {b"report": 3}
    assert sizes(both.choose("inbox", None, CONFIG)) == {b"report": 4}
    assert sizes(both.choose(None, "nas:inbox", CONFIG)) == {b"report": 4}
    chosen = both.choose("local", None, CONFIG)
    assert chosen is not None
    assert chosen.place == LocalPlace(os.fsencode(b))


def test_a_file_that_moved_on_is_expected_where_it_is_now(
    places: tuple[Path, Path],
) -> None:
    """
    Through any name of the directory, and from above it or inside it.
    """
    a, b = places
    link = a.parent / "link"
    link.symlink_to(b)
    moved = log(
        receipt("final", "local", a, "d/f"),
        receipt("final", "local", b, "d/f"),
        receipt("removed", "local", a / "d", "f"),
    )
    assert sizes(moved.choose(None, str(link), CONFIG)) == {b"d/f": 1}
    assert sizes(moved.choose(None, str(a.parent), CONFIG)) == {b"b/d/f": 1}
    (b / "d").mkdir()
    assert sizes(moved.choose(None, str(b / "d"), CONFIG)) == {b"f": 1}
    (b / "d/f").touch()
    assert sizes(moved.choose(None, str(b / "d/f"), CONFIG)) == {b"f": 1}
    (b / "e").mkdir()
    with pytest.raises(ConfigError, match="no receipts of files in"):
        moved.choose(None, str(b / "e"), CONFIG)


def test_a_copy_of_one_place(places: tuple[Path, Path]) -> None:
    """
    Has what that place has; of which, has to be said where there are several.
    """
    a, b = places
    one = receipt("final", "inbox", "nas:inbox", "x", 1)
    assert sizes(log(one).choose(None, str(a), CONFIG)) == {b"x": 1}
    both = log(one, receipt("final", "inbox", "box:inbox", "x", 2))
    for directory in (None, "inbox"):
        with pytest.raises(ConfigError, match="box:inbox, nas:inbox: choose"):
            both.choose(directory, str(b), CONFIG)
    assert sizes(both.choose("box:inbox", str(a), CONFIG)) == {b"x": 2}
    with pytest.raises(ConfigError, match="no receipts of files in elsewhere"):
        both.choose("elsewhere", str(a), CONFIG)


def test_where_the_receipts_say() -> None:
    """
    At the peer; or, if that is not known here, where the user says.
    """
    there = log(receipt("final", "inbox", "nas:inbox", "x"))
    chosen = there.choose(None, None, CONFIG)
    assert chosen is not None
    assert chosen.place == PeerPlace(NAS, "inbox")
    with pytest.raises(ConfigError, match="nas:inbox, which is not to be found"):
        there.choose(None, None, Config())


def test_an_id_of_this_host_means_one_directory(places: tuple[Path, Path]) -> None:
    """
    Wherever it was when the receipt was written.
    """
    _, b = places
    moved = log(
        receipt("final", "inbox", "/old", "x", 1),
        receipt("final", "inbox", "/new", "x", 2),
        receipt("final", "inbox", "/old", "y", 1),
    )
    assert sizes(moved.choose("inbox", str(b), CONFIG)) == {b"x": 2, b"y": 1}


def test_nothing_is_no_success() -> None:
    """
    An empty log, and one where all has gone again.
    """
    assert log().choose(None, None, CONFIG) is None
    gone = log(receipt("final", "local", "/a", "x"), receipt("removed", "l", "/a", "x"))
    assert gone.choose(None, "/", CONFIG) is None
    assert gone.receipts == 2
