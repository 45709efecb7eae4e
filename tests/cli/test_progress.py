"""
What the bars show, on terminals of different widths.
"""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from twisted.internet.task import Clock

from realize.cli.progress import BarProgress
from realize.cli.terminal import Stream
from realize.model import File


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_amount_rate_and_time_are_never_cut(columns: int) -> None:
    """
    Names and bars get what these leave.
    """
    clock = Clock()
    drawn = io.StringIO()
    bars = BarProgress(Stream(drawn), Stream(drawn), clock=clock)
    bars._console = Console(file=drawn, width=columns)
    bars.listed([File(b"film" * 20, 120_000_000, 0, 0o644, b"i")])
    bars.began(b"film" * 20, 120_000_000, 0)
    bars.pace.sample(clock.seconds())
    bars.advanced(18_000_000, b"film" * 20)
    clock.advance(4)
    bars.pace.sample(clock.seconds())
    bars._console.print(bars._render())
    first, second = drawn.getvalue().splitlines()
    assert "17.2 MiB of 114.4 MiB, 4.3 MiB/s, 23s left" in first
    assert "0 of 1 files" in first
    assert "17.2 MiB of 114.4 MiB" in second
    assert ("…" in second) == (columns < 200)
    assert max(len(first.rstrip()), len(second.rstrip())) <= columns - 4
