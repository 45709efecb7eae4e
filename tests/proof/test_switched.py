"""
A move holds on the file system of switches: each switch alone and random sets of them,
each call failing, and the program killed at each call; as source, as destination, as
both.

:mod:`tests.proof.holding` says what that means.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import define

from tests.proof.holding import Ends
from tests.support.fuse.mounting import Mounted, mount, needs_fuse
from tests.support.fuse.switches import ALONE, HANG, LOCKS, Fault, Switches
from tests.support.programs import PATIENCE, World

pytestmark = needs_fuse

#: Where the file system of switches is: at one end, with an ordinary one at the other;
#: at both, as two mounts; or as one mount, inside which everything is moved.
ROLES = ("source", "destination", "both", "inside")


@define
class Arranged:
    """
    A move, and the file systems of switches that take part in it.
    """

    ends: Ends
    mounted: list[Mounted]

    def fail(self, *faults: Fault) -> None:
        """
        Let these calls go wrong on each of them, or none any more.
        """
        for each in self.mounted:
            each.fail(*faults)

    def failed(self) -> list[str]:
        """
        What went wrong.
        """
        return [line for each in self.mounted for line in each.failed()]


@contextmanager
def arrange(folder: Path, role: str, switches: Switches) -> Iterator[Arranged]:
    """
    Both ends, with files.

    :param folder: new.
    """
    folder.mkdir()
    with ExitStack() as stack:
        world = World.create(folder / "world")
        stack.callback(world.stop)
        mounted = []
        places = []
        for end in ("source", "destination"):
            if role in (end, "both") or (role == "inside" and not mounted):
                mounted.append(stack.enter_context(mount(folder / f"fs-{end}")))
            if role in (end, "both", "inside"):
                seen, below = mounted[-1].root / end, mounted[-1].below / end
            else:
                seen = below = folder / end
            below.mkdir()
            places.append((seen, below))
        for each in mounted:
            each.switch(switches)
        (source, source_below), (destination, destination_below) = places
        ends = Ends(
            world, str(source), str(destination), source_below, destination_below
        )
        ends.plant(source, destination)
        yield Arranged(ends, mounted)


def nightly(name: str, soon: tuple[str, ...]) -> list[pytest.MarkDecorator]:
    """
    The mark of those that need not run in CI.
    """
    return [] if name in soon else [pytest.mark.nightly]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", [*ALONE, *LOCKS])
def test_each_switch_alone(tmp_path: Path, name: str, role: str) -> None:
    """
    And nothing else is out of the ordinary.
    """
    switches = (ALONE | LOCKS)[name]
    with arrange(tmp_path / "scene", role, switches) as scene:
        scene.ends.move()
        scene.ends.come_to_the_end()
