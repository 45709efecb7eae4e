"""
Several sources: what each becomes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from realize.cli.endpoints import LocalPlace, PeerPlace
from realize.cli.legs import Leg, parse_legs
from realize.config import PeerConfig
from realize.errors import ConfigError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/x", "a/y", "a/deep/f", "b/z", "b/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "to").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def peers() -> dict[str, PeerConfig]:
    return {"nas": PeerConfig("nas", bytes(32), "nas.example:9771")}


def test_one_stands_for_what_is_in_it(tree: Path) -> None:
    """One directory alone arrives without its name."""
    assert parse_legs(["a"], "to", {}) == [
        Leg(source=LocalPlace(b"a"), destination=LocalPlace(b"to"))
    ]


def test_files_of_one_directory_are_one_move(tree: Path) -> None:
    """As a shell's glob gives them."""
    (leg,) = parse_legs(["a/x", "a/y"], "to", {})
    assert leg == Leg(
        source=LocalPlace(b"a"),
        destination=LocalPlace(b"to"),
        names=(b"x", b"y"),
        recurse=False,
    )
    (here,) = parse_legs(["./a/x", "./a/y"], "to", {})
    assert here.source == LocalPlace(b"./a")


def test_each_directory_goes_under_its_own_name(tree: Path) -> None:
    """Each is a move of its own, whatever the slashes at its end."""
    files, deep, b = parse_legs(["a/deep//", "a/x", "b"], "to", {})
    assert (files.source, files.names) == (LocalPlace(b"a"), (b"x",))
    assert deep.source == LocalPlace(b"a/deep")
    assert deep.destination == LocalPlace(b"to", below=b"deep")
    assert b.destination == LocalPlace(b"to", below=b"b")
    assert str(b.destination) == "to/b"
    assert deep.names is None


def test_sources_of_a_peer(tree: Path, peers: dict[str, PeerConfig]) -> None:
    """Whether they are files only the peer knows."""
    (leg,) = parse_legs(["nas:in/p/one", "nas:in/p/two"], "to", peers)
    assert leg.source == PeerPlace(peers["nas"], "in", b"p")
    assert (leg.names, leg.recurse) == ((b"one", b"two"), True)
    (top,) = parse_legs(["nas:in/one", "nas:in/two"], "to", peers)
    assert top.source == PeerPlace(peers["nas"], "in", b"")


def test_directories_below_a_peers(tree: Path, peers: dict[str, PeerConfig]) -> None:
    """The name is added to what DST says."""
    a, _b = parse_legs(["a", "b"], "nas:in/sub", peers)
    assert a.destination == PeerPlace(peers["nas"], "in", b"sub/a")


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        (["a/x", "b/x"], "a/x and b/x would both be x at DST"),
        (["a/.", "b"], "has no name to arrive under"),
        (["..", "b"], "has no name to arrive under"),
        (["a/x", "nas:in"], "has no name of its own"),
        (["a/x", "missing"], "No such file or directory"),
    ],
)
def test_refused(
    tree: Path, peers: dict[str, PeerConfig], sources: list[str], says: str
) -> None:
    """Before anything is moved, with what to do."""
    os.chdir(tree)
    with pytest.raises(ConfigError, match=says):
        parse_legs(sources, "to", peers)
