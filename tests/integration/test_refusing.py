"""
Moves that cannot begin: what is said, and the exit status.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.programs import World, events_in

pytestmark = pytest.mark.daemons


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nsa:inbox", "."], "did you mean 'nas'?"),
        (["nsa:inbox", "."], "write './nsa:inbox'"),
        (["nas:", "."], "which of its directories"),
        (["nas:inbox/../up", "."], "not a canonical relative path"),
        (["nonesuch", "nas:inbox"], "SRC: nonesuch: No such file or directory"),
        ([".", "nonesuch"], "DST: nonesuch: no such directory"),
        ([".", "me/host.key"], "DST: me/host.key: not a directory"),
        ([".", "nas:inbox", "--settle", "5"], 'such as "30s"'),
        ([".", "nas:inbox", "--max-duration", "0"], "more than zero"),
        ([".", "nas:inbox", "--exclude", "[a"], "not closed"),
        ([".", "nas:inbox", "--dry-ru"], "--dry-run"),
        ([".", "nas:inbox", "--output", "xml"], "'json'"),
        (["."], "needs both SRC and DST"),
        ([".", ".", "."], "no name to arrive under"),
        (["mvoe", "."], "did you mean 'move'?"),
        (["--output=json", "move", "a", "b"], "no such directory"),
        (["me", "me/sub"], "same directory, or one is inside"),
        (["move", "--config", "none.toml", "a", "b"], "none.toml: No such file"),
        (["move", "--privkey", "none.key", ".", "nas:inbox"], "none.key"),
    ],
)
def test_usage_errors(tmp_path: Path, words: list[str], complaint: str) -> None:
    """
    Exit 2, and a line that says what to write; nothing is started.
    """
    world = World.create(tmp_path)
    (tmp_path / "me" / "sub").mkdir()
    said = world.realize(*words, status=2)
    assert said.out == ""
    assert complaint in said.err
    lines = said.err.splitlines()
    assert lines[0].startswith("realize: ")
    assert len(lines) <= 2


def test_a_peer_that_is_not_there(world: World) -> None:
    """
    Exit 3 at once, naming the peer.
    """
    world.nas.stop()
    log = ("--log-file", "log", "--log-format", "json", "--log-level", "info")
    said = world.realize(".", "nas:inbox", *log, status=3)
    assert said.out == ""
    assert events_in(world.folder / "log") == ["move-failed", "move-ended"]
    (line,) = said.err.splitlines()
    assert line.startswith("realize: nas: cannot connect to 127.0.0.1:")
    assert line.endswith(
        ": Connection refused; is the address right, and realized running there?"
    )


def test_a_peer_that_does_not_know_us(world: World) -> None:
    """
    Exit 3, with the key that has to be added on the other side.
    """
    os.unlink(world.me.key)
    stranger = world.realize("keygen", world.me.key).out
    said = world.realize(".", "nas:inbox", status=3)
    assert len(said.err.splitlines()) == 1
    key = re.search(r"[A-Za-z0-9+/]{43}=", stranger)
    assert key
    assert key[0] in said.err


def test_a_peer_with_another_key(world: World) -> None:
    """
    Exit 3: it is not who we expected.
    """
    config = world.me.config.read_text()
    world.me.config.write_text(config.replace(world.nas.public_key, "x" * 43 + "="))
    config = config.replace(world.nas.public_key, world.me.public_key)
    world.me.config.write_text(config)
    said = world.realize(".", "nas:inbox", status=3)
    assert len(said.err.splitlines()) == 1


def test_a_directory_we_may_not_use(world: World) -> None:
    """
    Unknown and forbidden look alike: exit 3, and one line that names it.
    """
    said = world.realize(".", "nas:secret", status=3)
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("realize: nas:secret: no such directory, or ")


def test_the_same_place_by_two_names(world: World) -> None:
    """
    Two ids of one directory: refused, with nothing moved.
    """
    world.nas.stop()
    inbox = world.nas.directory("inbox")
    (inbox / "f").write_text("1")
    os.symlink(inbox, world.nas.directory("alias"))
    world.nas.settings["alias"] = 'put = ["me"]\ntake = ["me"]'
    world.configure()
    world.nas.start()
    said = world.realize("nas:inbox", "nas:alias", status=2)
    assert "same directory" in said.err
    assert (inbox / "f").read_text() == "1"
