"""
Which files are chosen by rules, sizes and ages.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realize.model import File
from realize.move.globs import Globs
from realize.move.selection import (
    SYSTEM_GLOBS,
    Ignored,
    Selection,
    rule_lists,
    takes_rest,
)

SECOND = 1_000_000_000


def chosen(given: list[tuple[str, str]], *paths: bytes) -> set[bytes]:
    """Those of *paths* that options take."""
    lists = rule_lists(given)
    selection = Selection(lists=lists, rest=takes_rest(lists))
    return {path for path in paths if not selection.leaves_out(path)}


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ([], {b"a.jpg", b"b.tmp", b"d/c.jpg", b"d/e"}),
        ([("include", "*.jpg")], {b"a.jpg", b"d/c.jpg"}),
        ([("include", "*.jpg"), ("exclude", "*")], {b"a.jpg", b"d/c.jpg"}),
        ([("exclude", "*"), ("include", "*.jpg")], set()),
        ([("exclude", "d/"), ("include", "*.jpg")], {b"a.jpg", b"b.tmp"}),
        ([("include", "d/"), ("exclude", "*.jpg")], {b"b.tmp", b"d/c.jpg", b"d/e"}),
        ([("exclude", "*"), ("exclude", "!*.jpg")], {b"a.jpg"}),
        ([("exclude", "*.jpg"), ("exclude", "!a.jpg")], {b"a.jpg", b"b.tmp", b"d/e"}),
        ([("filter", "*\n!*.jpg\n!d/\n")], {b"a.jpg", b"d/c.jpg"}),
        ([("filter", "*\n"), ("include", "*.jpg")], set()),
        ([("include", "a.jpg"), ("filter", "*.jpg\n")], {b"a.jpg", b"b.tmp", b"d/e"}),
    ],
)
def test_order_of_rules(options: list[tuple[str, str]], taken: set[bytes]) -> None:
    """The first list that says something decides; includes alone mean only those."""
    assert chosen(options, b"a.jpg", b"b.tmp", b"d/c.jpg", b"d/e") == taken


def test_file_of_rules() -> None:
    """Comments, empty lines, spaces and a byte order mark are as in .gitignore."""
    text = "\ufeff# comment\n\n*.tmp  \nspace\\ \n\\#hash\r\n"
    rules = Ignored.read(text)
    assert rules.leaves_out(b"a.tmp")
    assert rules.leaves_out(b"space ")
    assert rules.leaves_out(b"#hash")
    assert rules.leaves_out(b"# comment") is None


def test_line_that_is_no_rule() -> None:
    """A wrong line is refused with its number."""
    with pytest.raises(ValueError, match=r"line 2: .*not closed"):
        Ignored.read("fine\na[b\n")


@pytest.mark.parametrize("option", ["include", "exclude"])
@pytest.mark.parametrize("glob", ["b ", "b\t", "./b"])
def test_what_never_matches_is_refused(option: str, glob: str) -> None:
    """A glob that is a slip of the keyboard ends the command with what to write."""
    with pytest.raises(ValueError, match="write"):
        rule_lists([(option, glob)])


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        (b"lost+found/#1", True),
        (b"below/lost+found/#1", False),
        (b".Trash-1000/files/x", True),
        (b"photos/@eaDir/x.jpg", True),
        (b"System Volume Information/IndexerVolumeGuid", True),
        (b".snapshots/1/a", True),
        (b"photos/x.jpg", False),
        (b"lost+found", False),
    ],
)
def test_what_systems_keep(path: bytes, left_out: bool) -> None:
    """What systems keep on a disk is left out, unless it is wanted."""
    assert Selection().leaves_out(path) is left_out
    assert Selection().leaves_out_as_system(path) is left_out
    assert not Selection(system=None).leaves_out(path)


def test_named_system_directory_is_taken() -> None:
    """What is included by name is taken, and what is excluded is not the system's."""
    assert chosen([("include", "lost+found/")], b"lost+found/x") == {b"lost+found/x"}
    selection = Selection(lists=rule_lists([("exclude", "*")]))
    assert not selection.leaves_out_as_system(b"lost+found/x")


@pytest.mark.parametrize(
    ("limits", "size", "age", "taken"),
    [
        ({"min_size": 10}, 9, 0, False),
        ({"min_size": 10}, 10, 0, True),
        ({"max_size": 10}, 10, 0, True),
        ({"max_size": 10}, 11, 0, False),
        ({"max_size": 0}, 0, 0, True),
        ({"min_age": 60.0}, 0, 59, False),
        ({"min_age": 60.0}, 0, 60, True),
        ({"max_age": 60.0}, 0, 60, True),
        ({"max_age": 60.0}, 0, 61, False),
        ({"max_age": 0.0}, 0, -1, True),
    ],
)
def test_sizes_and_ages(
    limits: dict[str, int], size: int, age: int, taken: bool
) -> None:
    """Bounds belong to what is taken; a time in the future is younger than any age."""
    now_ns = 10_000 * SECOND
    file = File(b"f", size, now_ns - age * SECOND, 0o644, b"")
    assert Selection(**limits).takes(file, now_ns) is taken


NAMES = st.text("ab*?", min_size=1, max_size=3).filter(
    # Git itself is odd about "a**/b".
    lambda name: name == "**" or "**" not in name
)
GLOBS = st.builds(
    lambda back, start, names, end: back + start + "/".join(names) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(NAMES, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)
PATHS = st.sets(
    st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=3).map(
        "/".join
    ),
    min_size=10,
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(globs=st.lists(GLOBS, min_size=1, max_size=4), paths=PATHS)
def test_agrees_with_git(
    tmp_path_factory: pytest.TempPathFactory, globs: list[str], paths: set[str]
) -> None:
    """For paths without special characters the answer is that of git."""
    repository = _repository(tmp_path_factory)
    (repository / ".gitignore").write_text("".join(f"{glob}\n" for glob in globs))
    answer = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=repository,
        input="\0".join(sorted(paths)).encode(),
        capture_output=True,
        check=False,
    )
    ignored = set(answer.stdout.decode().split("\0")) - {""}
    rules = Ignored.parse(globs)
    assert {path for path in paths if rules.leaves_out(path.encode())} == ignored
    if not any(glob.startswith("!") for glob in globs):
        plain = Globs.parse(globs)
        assert {path for path in paths if plain.match(path.encode())} == ignored


def _repository(factory: pytest.TempPathFactory) -> Path:
    """One empty repository for all examples."""
    path = factory.getbasetemp() / "ignoring"
    if not path.exists():
        path.mkdir()
        subprocess.run(["git", "init", "-q", str(path)], check=True)
    return path


def test_globs_of_systems_are_globs() -> None:
    """What is left out by default is well-formed."""
    assert Globs.parse(SYSTEM_GLOBS).texts == SYSTEM_GLOBS
