"""
Hosts for tests with real programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import World, free_port
from tests.support.scraping import wait_until_open


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """
    Hosts that are configured; their daemons run if the test is marked ``daemons``.
    """
    world = World.create(tmp_path)
    if request.node.get_closest_marker("daemons"):
        world.start()
    yield world
    world.stop()


@pytest.fixture
def controlled(world: World) -> None:
    """
    ``me`` may control ``nas``.
    """
    world.allow_control()


@pytest.fixture
def source_folder(world: World) -> None:
    """
    There is an empty folder to move from.
    """
    (world.folder / "source").mkdir()


@pytest.fixture
def metrics_port(world: World) -> int:
    """
    Where the daemon of ``nas``, which runs, has its metrics.
    """
    port = free_port()
    world.nas.start(f"--metrics-addr=127.0.0.1:{port}")
    wait_until_open(port)
    return port
