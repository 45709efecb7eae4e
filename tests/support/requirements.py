"""
What a test needs from the machine: programs, root, loop devices.

    @needs("rsync", "strace")
    def test_something(): ...

    @needs("mkfs.xfs", root=True, loop=True)
    def test_on_a_file_system_of_its_own(): ...

Where something is missing the test is skipped, and the reason names it.  With
``REALIZE_NO_SKIPS=1`` in the environment, as ``.ci/run`` sets it in CI, every skip
is a failure (``tests/conftest.py``): CI installs what is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

#: Where programs are looked for: sbin too, which is not in every user's PATH.
SEARCH_PATH = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
)


def find_program(name: str) -> str | None:
    """
    The absolute path of a program, or None if it is not installed.
    """
    return shutil.which(name, path=SEARCH_PATH)


@cache
def is_open_to_others() -> bool:
    """
    Whether another user can start the programs under test: they may be in somebody's
    home that is closed.
    """
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    tried = subprocess.run(
        [*words, sys.executable, "-c", "import realize"],
        cwd="/",
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


def missing(*programs: str, root: bool = False, loop: bool = False) -> list[str]:
    """
    What of this the machine does not have, in words.
    """
    lacks = [name for name in programs if find_program(name) is None]
    if (root or loop) and os.geteuid() != 0:
        lacks.append("root")
    if "setpriv" in programs and not lacks and not is_open_to_others():
        lacks.append("programs that other users can reach")
    if loop and not Path("/dev/loop-control").exists():
        lacks.append("loop devices")
    return lacks


def needs(
    *programs: str, root: bool = False, loop: bool = False
) -> pytest.MarkDecorator:
    """
    Skip a test, class or parameter where something it needs is not there.

    :param programs: names of executables.
    :param root: the test does what only root may.
    :param loop: the test mounts a file system of its own; includes *root*.
    """
    lacks = missing(*programs, root=root, loop=loop)
    return pytest.mark.skipif(bool(lacks), reason=f"needs {', '.join(lacks)}")
