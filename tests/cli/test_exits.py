"""
Exit statuses, as documented.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from realize import errors
from realize.cli.exits import Exit, exit_after, exit_for

MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_manual_has_them_all() -> None:
    """
    No status is undocumented, and none is documented that there is not.
    """
    section = MANUAL.read_text().split("## Exit status")[1].split("\n## ")[0]
    documented = {
        int(row) for row in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)
    }
    assert documented == {int(status) for status in Exit}


@pytest.mark.parametrize(
    ("failed", "deferred", "expected"),
    [(0, 0, 0), (0, 3, 4), (2, 0, 1), (2, 3, 1)],
)
def test_after_a_whole_move(failed: int, deferred: int, expected: int) -> None:
    """
    A failure weighs more than a file that waits.
    """
    assert exit_after(failed=failed, deferred=deferred) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConfigError, 2),
        (errors.SamePlace, 2),
        (errors.NoSuchScope, 2),
        (errors.PeerGone, 3),
        (errors.PeerRefused, 3),
        (errors.Incompatible, 3),
        (errors.NotAllowed, 3),
        (errors.DirectoryGone, 1),
        (errors.InternalError, 1),
    ],
)
def test_after_an_error(error: type[errors.RealizeError], expected: int) -> None:
    """
    Each kind that can end a move.
    """
    assert exit_for(error("why")) == expected
