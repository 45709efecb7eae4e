"""
Opening the ends of a move, or of what else the command does with files.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest_twisted
from twisted.internet import reactor

from realize.cli.endpoints import LocalPlace
from realize.cli.opening import Opener


@pytest_twisted.ensureDeferred
async def test_a_broken_lease_ends_no_command(tmp_path: Path) -> None:
    """
    Its signal is ignored as soon as an end on this host is open, whoever opened it.
    """
    before = signal.signal(signal.SIGIO, signal.SIG_DFL)
    place = LocalPlace(bytes(tmp_path))
    opener = Opener(reactor, place, place, None, 0.0)
    try:
        async with opener.open_source():
            assert signal.getsignal(signal.SIGIO) is signal.SIG_IGN
    finally:
        await opener.close()
        signal.signal(signal.SIGIO, before)
