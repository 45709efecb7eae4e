"""
What each part of safety costs: ``realize`` beside itself without it.

``without.py`` takes one thing away in both programs, from outside: there is no switch
in them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from benchmarks.contenders import REALIZE, Realize

#: What is taken away: encryption with its keys, BLAKE3 at both ends, waiting for the
#: disk, and asking whether somebody writes to a source file.
PARTS: Final = ("TLS", "digests", "fsync", "leases")


def _without(part: str) -> Realize:
    program = str(Path(__file__).with_name("without.py"))
    return Realize(f"realize without {part}", (sys.executable, "-P", program, part))


#: The program itself, and each way of it that is less safe.
COSTS: Final = (REALIZE, *map(_without, PARTS))
