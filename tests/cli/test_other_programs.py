"""
Options of rsync, rclone and mv.
"""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from realize.cli.exits import Exit
from realize.cli.main import status_of
from realize.cli.move import command
from realize.cli.other_programs import OPTIONS, saying

MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"

EACH = [option for options, _says in OPTIONS for option in options]
OURS = {
    name
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for name in parameter.opts
}


def test_the_manual_has_them() -> None:
    """Row by row, as they are refused."""
    manual = MANUAL.read_text()
    for options, says in OPTIONS:
        assert f"| {', '.join(f'`{each}`' for each in options)} | {says} |" in manual


def test_each_is_told_of_once_and_is_not_ours() -> None:
    """An option that we have needs no explanation."""
    assert len(EACH) == len(set(EACH))
    assert OURS.isdisjoint(EACH)


@pytest.mark.parametrize("option", EACH)
def test_refused_with_what_to_type(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and nothing is moved."""
    assert status_of([option, "a", "b"]) == Exit.USAGE
    said = capsys.readouterr().err
    assert said.startswith(f"realize: {option[:2] if option == '-vv' else option} ")
    assert saying(option)[:20] in said


@pytest.mark.parametrize("says", [says for _options, says in OPTIONS])
def test_what_is_named_instead_is_ours(says: str) -> None:
    """No line leads to an option that there is not."""
    words = (word.strip(",;:()") for word in says.split())
    named = {word for word in words if word.startswith("--")}
    assert named <= OURS


def test_unknown_to_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Any other word is an unknown option."""
    assert status_of(["--wurst", "a", "b"]) == Exit.USAGE
    assert "No such option" in capsys.readouterr().err
