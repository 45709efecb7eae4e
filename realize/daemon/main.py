"""
``realized``: the daemon as a command of its own, in the foreground.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``twistd --nodaemon --pidfile= realized`` with what was typed."""
    from twisted.scripts.twistd import run

    sys.argv = ["realized", "--nodaemon", "--pidfile=", "realized", *sys.argv[1:]]
    run()
