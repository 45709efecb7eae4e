"""
Waiting for what another process does.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path


def wait_until_open(process: subprocess.Popen[str], path: Path) -> None:
    """
    Wait until a process, which prints its id first, has a file open.

    :param process: it, or what runs it and ends with it.
    """
    assert process.stdout is not None
    descriptors = Path("/proc", process.stdout.readline().strip(), "fd")
    while process.poll() is None:
        for each in descriptors.iterdir():
            with suppress(FileNotFoundError):
                if os.readlink(each) == str(path):
                    return
    raise AssertionError(f"ended without opening {path}")
