"""
``--on-conflict``: two files of one name, with the real programs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from realize.conflicts import CHOICES
from tests.support.programs import World, regular_files

pytestmark = pytest.mark.daemons

#: By choice: the exit status, the outcome, and what is at the destination then.
ENDS = {
    "replace": (0, "replaced", {b"new"}),
    "keep-both": (0, "moved", {b"older", b"new"}),
    "backup": (0, "replaced", {b"older", b"new"}),
    "skip": (4, "deferred", {b"older"}),
    "fail": (1, "failed", {b"older"}),
}


@pytest.mark.parametrize("there", ["local", "nas:inbox"])
@pytest.mark.parametrize("choice", CHOICES)
def test_choices(world: World, there: str, choice: str) -> None:
    """
    What is foreseen is what is done; and what is the same is never in conflict.
    """
    source = world.folder / "s"
    inbox = world.folder / "d" if there == "local" else world.nas.directory("inbox")
    inbox.mkdir(exist_ok=True)
    source.mkdir()
    for name, here, older in (("f.x", b"new", b"older"), ("same", b"1", b"1")):
        (source / name).write_bytes(here)
        (inbox / name).write_bytes(older)
    words = [source, inbox if there == "local" else there, "--on-conflict", choice]
    status, _, left = ENDS[choice]
    for dry in ([], ["-n"])[::-1]:
        said = world.realize(*words, *dry, "--output=json", status=status)
        *files, summary = said.json
        told = {each["path"]: each for each in files if each["event"] == "file"}
        # Inside a file system nothing is read, and any file gives way.
        unread = (there, choice, dry) == ("local", "replace", [])
        outcome = "renamed" if unread else ENDS[choice][1]
        assert (told["f.x"]["outcome"], told["f.x"]["conflict"]) == (outcome, choice)
        assert told["same"]["outcome"] == ("renamed" if unread else "present")
        assert {k: v for k, v in summary["conflicts"].items() if v} == {
            choice: 1 + unread
        }
    (inbox / "same").unlink()
    names = [os.fsdecode(name) for name in regular_files(inbox)]
    assert {(inbox / name).read_bytes() for name in names} == left
    if choice == "keep-both":
        assert (inbox / "f (1).x").read_bytes() == b"new"
        assert told["f.x"]["path_there"] == "f (1).x"
    if choice == "backup":
        assert (inbox / told["f.x"]["older"]).read_bytes() == b"older"
    assert (source / "f.x").exists() == (choice in ("skip", "fail"))


def test_nobody_granted_anything(world: World) -> None:
    """
    A local place replaces nothing unless asked to, and says what can be asked for.
    """
    source, inbox = world.folder / "s", world.folder / "d"
    for folder, content in ((source, "new"), (inbox, "old")):
        folder.mkdir()
        (folder / "f").write_text(content)
    said = world.realize(source, inbox, status=1)
    assert "--on-conflict: replace, keep-both, backup or skip" in said.err + said.out
    assert (inbox / "f").read_text() == "old"
    assert (source / "f").read_text() == "new"


def test_interrupted_in_between(world: World) -> None:
    """
    A file that has its number and was not removed gets no second one.
    """
    source, inbox = world.folder / "s", world.nas.directory("inbox")
    source.mkdir()
    (inbox / "f.x").write_text("older")
    for _ in range(2):
        (source / "f.x").write_text("the same, again")
        os.utime(source / "f.x", (1e9, 1e9))
        world.realize(source, "nas:inbox", "--on-conflict=keep-both")
    assert sorted(each.name for each in Path(inbox).iterdir()) == ["f (1).x", "f.x"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--backup-directory", "x"], "give both"),
        (["--on-conflict=backup", "--backup-directory=/x"], "below DST"),
        (["--on-conflict=backup", "--backup-directory=../x"], "below DST"),
        (["--on-conflict=numbers"], "keep-both"),
    ],
)
def test_mistakes(world: World, words: list[str], says: str) -> None:
    """
    Are said before anything is done.
    """
    said = world.realize(world.folder, "nas:inbox", *words, status=2)
    assert says in said.err
