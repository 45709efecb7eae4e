"""
What the proofs have to say beside "passed": how often something was killed or cut.
"""

from __future__ import annotations

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
def world(tmp_path: Path) -> Iterator[World]:
    """
    Hosts whose daemons are not started yet.
    """
    world = World.create(tmp_path / "world")
    yield world
    world.stop()
