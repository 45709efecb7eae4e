"""
A test that hangs fails, is told of, and keeps none of the others from running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]

#: Waits for what never comes, in all places where a test can wait.
HANGING = """
    import threading

    import pytest
    import pytest_twisted
    from twisted.internet.defer import Deferred

    @pytest_twisted.ensureDeferred
    async def test_coroutine(tmp_path):
        try:
            await Deferred()
        finally:
            (tmp_path / "tidied").touch()

    def test_blocked(tmp_path):
        try:
            threading.Event().wait()
        finally:
            (tmp_path / "tidied").touch()

    def test_others():
        pass

    @pytest_twisted.async_fixture
    async def never():
        await Deferred()

    def test_fixture(never):
        pass

    def test_others_too():
        pass
"""


def run(folder: Path, *words: str) -> str:
    """
    What pytest says of those tests, in their folder, with this project's settings and
    shorter times.
    """
    words = ("-p", "no:cacheprovider", f"--basetemp={folder / 'base'}", *words)
    words = ("--timeout=1", "-o", "faulthandler_timeout=4", *words)
    begun = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", TOP / "pyproject.toml", *words, folder],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert begun.returncode == 1, begun.stdout + begun.stderr
    return begun.stdout + begun.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    A folder with those tests, and what holds for all tests of this project.
    """
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_them.py").write_text(textwrap.dedent(HANGING))
    return tmp_path


def test_it_tidies_up(folder: Path) -> None:
    """
    A coroutine, and what blocks, fail where they wait, with what they do at the end.
    """
    said = run(folder, "-k", "coroutine or blocked or others")
    assert "2 failed, 2 passed" in said
    assert "still waiting after 1 s" in said
    assert said.count("await Deferred()") == 1
    assert len(list(folder.glob("base/*0/tidied"))) == 2


def test_a_process_that_hangs_is_replaced(folder: Path) -> None:
    """
    What cannot be ended from inside ends its process; where that was, is said.
    """
    said = run(folder, "-n", "1")
    assert "3 failed, 2 passed" in said
    assert "crashed while running 'test_them.py::test_fixture'" in said
    assert "Timeout (0:00:04)!" in said
    assert "most recent call first" in said
