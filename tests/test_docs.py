"""
The documentation and the program, held to each other.
"""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from realize.cli.main import COMMANDS
from realize.cli.move import command as move
from realize.daemon.options import Options

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def marked(name: str) -> str:
    """
    The README's command that is marked for CI.
    """
    found = re.search(rf"<!-- ci: {name} -->\n```sh\n(.*?)\n```\n", README, re.DOTALL)
    assert found
    return found[1]


def test_the_readme_begins_with_exactly_two_commands() -> None:
    """
    One paragraph, then one command to see it work, and one to pass the tests.
    """
    title, paragraph, heading, *_ = README.split("\n\n")
    assert title == "# realize"
    assert not paragraph.startswith("#")
    assert heading.startswith("## ")
    first_section = README.split("\n## ")[1]
    blocks = re.findall(r"```sh\n(.*?)```", first_section, re.DOTALL)
    assert [block.strip() for block in blocks] == [marked("demo"), marked("tests")]
    assert all("\n" not in block.strip() for block in blocks)
    assert marked("demo").endswith("/realize demo")


def test_ci_runs_the_readmes_command() -> None:
    """
    Taken from the README itself, so that the two cannot differ.
    """
    script = (ROOT / ".ci" / "run").read_text()
    assert "readme_command tests" in script
    assert "tox -e tests" not in script


@pytest.mark.parametrize("option", move.params, ids=lambda option: option.name)
def test_the_manual_has_every_option(option: object) -> None:
    """
    And the README's walk-through uses none that there is not.
    """
    manual = (ROOT / "docs" / "cli.md").read_text()
    for name in option.opts:
        if name.startswith("--"):
            assert f"`{name}" in manual


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_manual_has_every_option_of_a_sub_command(name: str) -> None:
    """
    Those that all have among them.
    """
    manual = (ROOT / "docs" / "cli.md").read_text()
    for option in importlib.import_module(COMMANDS[name][0]).command.params:
        for word in option.opts:
            if word.startswith("--"):
                assert re.search(rf"(?<![-\w]){word}(?![-\w])", manual), word


def test_the_manual_has_the_options_of_the_daemon() -> None:
    """
    All of them, and no others.
    """
    section = (ROOT / "docs" / "cli.md").read_text()
    section = section.split("## Options of the daemon")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`-.*?) \|", section, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`--([a-z-]+)", row)}
    known = {row[0] for row in (*Options.optParameters, *Options.optFlags)}
    assert listed == known


def test_no_option_is_made_up() -> None:
    """
    What the manual calls an option of a move is one.
    """
    section = (ROOT / "docs" / "cli.md").read_text()
    section = section.split("## Options of a move")[1].split("\n## ")[0]
    known = {name for option in move.params for name in option.opts}
    for row in re.findall(r"^\| (`-.*?) \|", section, re.MULTILINE):
        for name in re.findall(r"`(--?[a-z-]+)", row):
            assert name in known


def test_every_sub_command_is_in_the_manual() -> None:
    """
    In its first block.
    """
    manual = (ROOT / "docs" / "cli.md").read_text()
    block = manual.split("```")[1]
    for name in COMMANDS:
        assert re.search(rf"^realize \[?{name}\]? ", block, re.MULTILINE)


def test_developers_have_the_tools_of_ci() -> None:
    """
    In the same versions: others find other faults.
    """
    page = (ROOT / "CONTRIBUTING.md").read_text()
    pinned = re.findall(r"([\w-]+) == ([\d.]+)$", (ROOT / "tox.ini").read_text(), re.M)
    assert len(pinned) == 3
    for name, version in pinned:
        assert f" {name}=={version} " in page


def test_dependencies_have_their_reasons() -> None:
    """
    Each in one line of the architecture page, and none that is not used.
    """
    setup = (ROOT / "setup.cfg").read_text()
    required = setup.split("install_requires =")[1].split("\n\n")[0]
    names = {line.split()[0] for line in required.strip().splitlines()}
    section = (ROOT / "docs" / "architecture.md").read_text()
    section = section.split("## Dependencies")[1]
    rows = re.findall(r"^\| ([^|]+) \| (.+) \|$", section, re.MULTILINE)
    explained = {name for row, _ in rows for name in row.split(", ")}
    tests = {
        name
        for row, why in rows
        if why.startswith("(tests)")
        for name in row.split(", ")
    }
    assert names == explained - tests - {"package", "---"}


def test_planned_work_ends_with_tasks() -> None:
    """
    Every section has a tag of its own and a numbered list at its end.
    """
    _, *sections = (ROOT / "docs" / "future.md").read_text().split("\n## ")
    tags = []
    for section in sections:
        heading, _, body = section.partition("\n")
        found = re.fullmatch(r"[^{}]+ \{#([a-z]+)\}", heading)
        assert found, heading
        tags.append(found[1])
        tasks = [line for line in body.strip().split("\n\n")[-1].splitlines() if line]
        numbers = [int(line.split(".")[0]) for line in tasks if line[0].isdigit()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= 2
    assert len(set(tags)) == len(tags) > 0


def test_examples_of_configuration_are_toml() -> None:
    """
    In the README and the manual: what readers copy can be read.
    """
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for block in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S):
            tomllib.loads(block)


SAFETY = (ROOT / "docs" / "safety.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SAFETY)))


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_the_threat_model_names_tests_that_there_are(path: str, name: str) -> None:
    """
    A promise about what a peer cannot do is one that is tried.
    """
    assert re.search(rf"^ *(async )?def {name}\(", (ROOT / path).read_text(), re.M)


def test_the_threat_model_is_about_every_right() -> None:
    """
    And about those without any.
    """
    section = SAFETY.partition("## What a peer can do to others")[2].partition("\n## ")[
        0
    ]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == section.count("\n| ") - 1
    who = {row.split("|")[1].strip() for row in rows}
    assert {"a stranger", "`put`", "`replace`", "`take`", "`control`"} <= who
    assert all("::" in row.split("|")[5] for row in rows)
