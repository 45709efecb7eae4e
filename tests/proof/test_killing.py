"""
The short version of :mod:`tests.proof.killing`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof.conftest import Tell
from tests.proof.killing import COMBINATIONS, run

#: For each combination, at least.
SECONDS = 10.0
KILLS = 12


@pytest.mark.parametrize("name", COMBINATIONS)
def test_nothing_is_lost_when_both_sides_are_killed(
    tmp_path: Path, name: str, tell: Tell
) -> None:
    """
    At random instants, again and again.
    """
    tell(f"{run(name, tmp_path, seed=1, seconds=SECONDS, kills=KILLS)}")
