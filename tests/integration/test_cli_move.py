"""
``realize move`` with real daemons, in all four combinations.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import PROGRAMS, World, plant, regular_files, snapshot

MANUAL = Path(__file__).parents[2] / "docs"


pytestmark = pytest.mark.daemons


def place(world: World, name: str) -> tuple[str, Path]:
    """
    The word for a directory, and where it is.
    """
    if name.startswith("local"):
        path = world.folder / name
        path.mkdir(exist_ok=True)
        return str(path), path
    host = world.nas if name == "nas" else world.box
    return f"{name}:inbox", host.directory("inbox")


@pytest.mark.parametrize(
    ("source", "destination"),
    [("local", "local too"), ("local", "nas"), ("nas", "local"), ("nas", "box")],
)
def test_everything_arrives_as_it_was(
    world: World, source: str, destination: str
) -> None:
    """
    Content, permissions and times; nothing but what is no file stays behind.
    """
    source_word, source_path = place(world, source)
    destination_word, destination_path = place(world, destination)
    before = plant(source_path)

    said = world.realize(source_word, destination_word, "--output", "json")

    assert snapshot(destination_path) == before
    assert list(regular_files(source_path)) == []
    assert (source_path / "link").is_symlink()
    summary = said.json[-1]
    assert summary["exit"] == 0
    assert sum(summary["files"].values()) == len(before) == summary["listed"]
    assert summary["notices"]["symlink"] == 1
    assert said.err == ""


def test_another_file_system_gets_a_verified_copy(tmp_path: Path, world: World) -> None:
    """
    Where a rename will not do, files are copied.
    """
    other = Path("/dev/shm") / f"realize-{os.getpid()}"
    other.mkdir()
    try:
        if other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second file system")
        source = tmp_path / "local"
        source.mkdir()
        before = plant(source)
        said = world.realize(source, other, "--output", "json")
        assert snapshot(other) == before
        assert said.json[-1]["files"]["moved"] == len(before)
    finally:
        subprocess.run(["rm", "-rf", other], check=True)


@pytest.mark.parametrize("source", ["local", "nas"])
@pytest.mark.parametrize("destination", ["local too", "box"])
def test_a_single_file(world: World, source: str, destination: str) -> None:
    """
    SRC may be one file; its neighbours stay.
    """
    source_word, source_path = place(world, source)
    destination_word, destination_path = place(world, destination)
    (source_path / "sub").mkdir()
    (source_path / "sub" / "this one").write_text("wanted")
    (source_path / "sub" / "other").write_text("not wanted")

    world.realize(f"{source_word}/sub/this one", destination_word)

    assert (destination_path / "this one").read_text() == "wanted"
    assert list(regular_files(source_path)) == [b"sub/other"]
    assert list(regular_files(destination_path)) == [b"this one"]


def test_sub_directories(world: World) -> None:
    """
    A SUBDIR of the source bounds what is moved; one of the destination is created.
    """
    inbox = world.nas.directory("inbox")
    (inbox / "caf\udce9").mkdir()
    (inbox / "caf\udce9" / "f").write_text("x")
    (inbox / "stays").write_text("y")
    world.realize(b"nas:inbox/caf\xe9/", "box:inbox/new/deep")
    assert (world.box.directory("inbox") / "new" / "deep" / "f").read_text() == "x"
    assert list(regular_files(inbox)) == [b"stays"]


def test_what_is_there_already_is_not_sent_and_what_differs_is_replaced(
    world: World,
) -> None:
    """
    The same content costs no sending; other content gives way.
    """
    source, inbox = world.folder / "s", world.nas.directory("inbox")
    source.mkdir()
    for name, here, there in [("same", "1", "1"), ("differs", "new", "old!")]:
        (source / name).write_text(here)
        (inbox / name).write_text(there)
    files = world.realize(source, "nas:inbox", "--output=json").json[-1]["files"]
    assert (files["present"], files["replaced"], files["moved"]) == (1, 1, 0)
    assert (inbox / "differs").read_text() == "new"
    assert list(regular_files(source)) == []


def test_a_dry_run_says_what_would_be_and_changes_nothing(world: World) -> None:
    """
    Every file with its verb; both ends as they were.
    """
    source, inbox = world.folder / "s", world.nas.directory("inbox")
    source.mkdir()
    (source / "new").write_text("1")
    (source / "same").write_text("2")
    (source / "differs\n").write_text("3")
    (source / "blocked").write_text("4")
    (source / "left out.tmp").write_text("5")
    (source / "open").write_text("6")
    (inbox / "same").write_text("2")
    (inbox / "differs\n").write_text("older")
    (inbox / "blocked").mkdir()
    before = snapshot(source), snapshot(inbox)
    with (source / "open").open("a"):
        said = world.realize(
            source, "nas:inbox", "-n", "--exclude", "*.tmp", status=None
        )
    assert (snapshot(source), snapshot(inbox)) == before
    verbs = {}
    for line in said.out.splitlines():
        if found := re.match(r"(\w[\w ]*?) +\d+ B  (\S+)", line):
            verbs[found[2]] = found[1]
    assert verbs == {
        "new": "move",
        "same": "already there",
        "differs\\x0a": "replace",
        "blocked": "refuse",
        "open": "defer",
    }
    assert "1 excluded" in said.out
    assert "Nothing was changed" in said.out
    assert said.status == 1


def test_a_file_that_is_being_written_is_deferred(world: World) -> None:
    """
    Exit 4, one line that says what to do, and the next run moves it.
    """
    source = world.folder / "s"
    source.mkdir()
    with (source / "log").open("w") as file:
        file.write("so far")
        file.flush()
        said = world.realize(source, "nas:inbox", status=4)
    (line,) = said.err.splitlines()
    assert line.startswith(f"realize: deferred: log: {source}: ")
    assert line.endswith("; run again later")
    assert "1 deferred" in said.out
    world.realize(source, "nas:inbox")
    assert (world.nas.directory("inbox") / "log").read_text() == "so far"


def test_a_file_that_cannot_be_taken_fails_alone(world: World) -> None:
    """
    Exit 1, one line: which file, which end, why, what to do; the rest is moved.
    """
    source, inbox = world.folder / "s", world.nas.directory("inbox")
    source.mkdir()
    (source / "taken").write_text("1")
    (source / "fine").write_text("2")
    (inbox / "taken").mkdir()
    said = world.realize(source, "nas:inbox", status=1)
    (line,) = said.err.splitlines()
    assert line.startswith("realize: failed: taken: nas:inbox: ")
    assert line.endswith("; rename one of the two")
    assert (inbox / "fine").read_text() == "2"
    assert list(regular_files(source)) == [b"taken"]


def test_emptied_directories_go_if_asked(world: World) -> None:
    """
    But not the root, and none that still holds something.
    """
    source = world.folder / "s"
    (source / "a" / "b").mkdir(parents=True)
    (source / "keep").mkdir()
    (source / "a" / "b" / "f").write_text("1")
    (source / "keep" / "f").write_text("1")
    os.symlink("f", source / "keep" / "link")
    world.realize(source, "nas:inbox", "--remove-directories")
    assert sorted(os.listdir(source)) == ["keep"]


def test_a_quiet_success_says_nothing(world: World) -> None:
    """
    Under cron, silence is success.
    """
    source = world.folder / "s"
    source.mkdir()
    (source / "f").write_text("1")
    said = world.realize(source, "nas:inbox", "--output", "quiet")
    assert (said.out, said.err) == ("", "")


def test_json_is_as_documented(world: World) -> None:
    """
    Every field that is printed is described, and the other way round.
    """
    source = world.folder / "s"
    source.mkdir()
    (source / "fine \xff\n").write_text("1")
    (source / "taken").write_text("1")
    (world.nas.directory("inbox") / "taken").mkdir()
    os.symlink("fine", source / "link")
    said = world.realize(source, "nas:inbox", "--output", "json", status=1)
    manual = (MANUAL / "json.md").read_text()
    for event in ("file", "notice", "summary"):
        section = manual.split(f"## `{event}`\n")[1].split("\n## ")[0]
        described = {
            name
            for row in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", row)
        }
        for line in (line for line in said.json if line["event"] == event):
            assert set(line) - {"event"} == described
    assert said.json[-1]["event"] == "summary"
    assert said.json[-1]["version"] == 1
    by_path = {line["path"]: line for line in said.json if line["event"] == "file"}
    assert by_path["taken"]["outcome"] == "failed"
    assert by_path["taken"]["end"] == "nas:inbox"
    assert by_path["fine \xff\\x0a"]["outcome"] == "moved"


@pytest.mark.parametrize("output", ["progress", "json"])
def test_nobody_reads_what_it_says(world: World, output: str) -> None:
    """
    A closed pipe, a full disk, or no standard output at all: the move goes on.  A
    program that was to read the result is not told that it was complete.
    """
    lost = {">/dev/full", "| true"} if output == "json" else set()
    for number, trick in enumerate(
        (">&-", "2>&-", ">/dev/full", "| true", "<&- >&- 2>&-")
    ):
        source = world.folder / f"s{number}"
        source.mkdir()
        for name in range(300):
            (source / f"{number} {name}").write_text("1")
        words = [PROGRAMS / "realize", source, "nas:inbox", "--output", output]
        process = subprocess.run(
            ["bash", "-c", f'set -o pipefail; "$@" {trick}', "-", *words],
            env=os.environ | {"REALIZE_CONFIG": str(world.me.config)},
            cwd=world.folder,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == (trick in lost), (trick, process)
        assert (b"not all of the result" in process.stderr) == (trick in lost)
        assert b"Traceback" not in process.stderr
        assert list(regular_files(source)) == []
