"""
Contenders that move nothing: what it costs to have the programs at all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

from benchmarks.contenders import REALIZE
from benchmarks.setup import Job, Setup


@frozen
class Help:
    """
    ``realize --help``.
    """

    name: str = "realize"

    def missing(self) -> Sequence[str]:
        """
        As for a move.
        """
        return REALIZE.missing()

    def set_up(self, job: Job) -> Setup:
        """
        No server is needed.
        """
        program = Path(sys.executable).with_name("realize")
        return Setup(job, [str(program), "--help"])


@frozen
class Idle:
    """
    A daemon that nobody talks to.

    :ivar seconds: for how long.
    """

    seconds: int
    name: str = "realize"

    def missing(self) -> Sequence[str]:
        """
        As for a move.
        """
        return REALIZE.missing()

    def set_up(self, job: Job) -> Setup:
        """
        The daemon of a move, and a command that does nothing.
        """
        setup = REALIZE.set_up(evolve(job, direction="push"))
        setup.words = ["sleep", str(self.seconds)]
        for server in setup.servers.values():
            server.at_rest = True
        return setup
