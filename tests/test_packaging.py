"""
What an installation has to have.  ``tox -e tests`` runs this against the wheel.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import realize
from tests.support.programs import PROGRAMS


def said(*command: str | Path) -> str:
    """
    What a program prints, started from a neutral place.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_the_plugin_is_seen(program: str) -> None:
    """
    ``realized`` is among the commands of Twisted's two runners.
    """
    assert " realized " in said(PROGRAMS / program, "--help")


def test_the_plugin_is_found_once() -> None:
    """
    By Twisted's own search.
    """
    script = (
        "from twisted.plugin import getPlugins\n"
        "from twisted.application.service import IServiceMaker\n"
        "print([p.tapname for p in getPlugins(IServiceMaker)].count('realized'))"
    )
    assert said(sys.executable, "-c", script) == "1\n"


def test_no_package_file_hides_other_plugins() -> None:
    """
    ``twisted`` and ``twisted.plugins`` stay open to what others install.
    """
    ours = metadata.files("realize") or []
    assert not [path for path in ours if str(path).startswith("twisted/__init__")]
    assert not [path for path in ours if "plugins/__init__" in str(path)]


def test_the_command_is_installed() -> None:
    """
    And knows its version.
    """
    version = said(PROGRAMS / "realize", "--version")
    assert version == f"realize {realize.__version__}\n"
    assert metadata.version("realize") == realize.__version__


def test_types_are_installed() -> None:
    """
    ``py.typed`` tells type checkers that there are some.
    """
    assert Path(realize.__file__).with_name("py.typed").exists()
