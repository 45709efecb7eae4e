"""
``docs/deployment.md`` and what it speaks of, held to each other.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from realize.cli.main import COMMANDS
from realize.observe.events import catalogue
from tests.support.requirements import find_program, needs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8")
UNITS = ROOT / "deploy" / "systemd"


def blocks(kind: str) -> list[str]:
    """
    The blocks of code of one kind.
    """
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```$", PAGE, re.M | re.S)


def test_every_unit_is_explained() -> None:
    """
    And none that there is not.
    """
    units = {unit.name for unit in UNITS.iterdir()}
    for unit in units:
        assert unit.replace("realize-move@", "realize-move@camera") in PAGE or (
            unit in PAGE or "realize-move@.*" in PAGE
        )
    assert set(re.findall(r"realized\.(?:service|socket)\b", PAGE)) <= units


def test_settings_are_those_of_the_unit() -> None:
    """
    What the table explains is in the unit, or is not, as it says.
    """
    unit = (UNITS / "realized.service").read_text()
    table = PAGE.split("What else the unit does")[1].split("###")[0]
    settings = re.findall(r"^\| `([^`]+)`( is not set)? \|", table, re.M)
    assert len(settings) >= 6
    for setting, absent in settings:
        assert bool(re.search(rf"^{re.escape(setting)}", unit, re.M)) is not bool(
            absent
        )


def test_events_are_in_the_catalogue() -> None:
    """
    Those to look for, and the others that are mentioned.
    """
    names = {event.name for event in catalogue()}
    table = PAGE.split("## What to watch")[1]
    rows = [row.split("|")[2] for row in table.splitlines() if row.startswith("| ")]
    mentioned = {
        name for row in rows[2:] for name in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", row)
    }
    assert len(mentioned) >= 8
    assert mentioned <= names
    # Every error is something to look for.
    errors = {event.name for event in catalogue() if event.level == "error"}
    assert errors - mentioned <= {"log-not-reopened"}


def test_commands_are_ones_that_there_are() -> None:
    """
    Sub-commands, and options of the daemon.
    """
    for block in blocks("sh"):
        for name in re.findall(r"^realize ([a-z]+)", block, re.M):
            assert name in COMMANDS
    for name in re.findall(r"`realize ([a-z]+) ", PAGE):
        assert name in COMMANDS


@needs("systemd-analyze")
def test_drop_ins_fit_the_units(tmp_path: Path) -> None:
    """
    With all of them, the units are as valid as without.
    """
    programs = Path(sys.executable).parent
    for unit in UNITS.glob("realized.*"):
        text = unit.read_text().replace("/usr/local/bin", str(programs))
        (tmp_path / unit.name).write_text(text)
    drop_ins = tmp_path / "realized.service.d"
    drop_ins.mkdir()
    for number, block in enumerate(blocks("ini")):
        (drop_ins / f"{number}.conf").write_text(block)
    assert number == 1
    ended = subprocess.run(
        [
            find_program("systemd-analyze"),
            *("verify", "--man=no", tmp_path / "realized.service"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_snippet_for_logrotate() -> None:
    """
    It reloads the daemon, and creates no file itself: the daemon does.
    """
    (snippet,) = [each for each in blocks("") if "postrotate" in each]
    assert snippet.count("{") == snippet.count("}") == 1
    assert "systemctl reload realized.service" in snippet
    assert "nocreate" in snippet


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_it_can_be_found(page: str) -> None:
    """
    From where readers begin.
    """
    assert "deployment" in (ROOT / page).read_text()
    assert "logging" in (ROOT / page).read_text()
