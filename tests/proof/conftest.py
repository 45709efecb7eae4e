"""
What the proofs have to say beside "passed": how often something was killed or cut.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import TOLD
from tests.support.programs import World

pytest.register_assert_rewrite("tests.proof.trees")

#: Keeps a line for the end of the test run.
Tell = Callable[[str], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """
    Says a line at the end of the test run.
    """
    # What belongs to the test's report comes from other processes, too.
    properties = request.node.user_properties
    return lambda line: properties.append((TOLD, f"{request.node.name}: {line}"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """
    One that every user may enter, other than those that pytest makes.
    """
    folder = Path(tempfile.mkdtemp(prefix="realize-proof-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """
    Hosts whose daemons are not started yet.
    """
    world = World.create(tmp_path / "world")
    yield world
    world.stop()
