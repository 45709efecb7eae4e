"""
A move holds on the file system of switches: each switch alone and random sets of them,
each call failing, and the program killed at each call; as source, as destination, as
both.

:mod:`tests.proof.holding` says what that means.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark.structures import ParameterSet
from attrs import define, evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.proof.holding import Ends, digests
from tests.support.fuse.mounting import Mounted, mount, needs_fuse
from tests.support.fuse.switches import ALONE, ALWAYS, HANG, LOCKS, Fault, Switches
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
def arrange(
    folder: Path, role: str, switches: Switches, user: str = ""
) -> Iterator[Arranged]:
    """
    Both ends, with files.

    :param folder: new.
    :param user: who moves them, and has them; empty for whoever runs the tests.
    """
    folder.mkdir()
    with ExitStack() as stack:
        world = World.create(folder / "world", user)
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
        world.give(source_below, destination_below)
        yield Arranged(ends, mounted)


#: What is about names is about those that arrive.
NAMING: Final = frozenset(
    name
    for name, switches in ALONE.items()
    if evolve(
        switches,
        folds=False,
        lowers=False,
        normalises="",
        strips=False,
        forbidden="",
        text=False,
        longest=255,
        unit="bytes",
    )
    == Switches()
)


def alone() -> Iterator[ParameterSet]:
    """
    Each switch in each role; in one of them in CI.
    """
    for name in (*ALONE, *LOCKS):
        for role in ROLES:
            soon = role == ("destination" if name in NAMING else "both")
            yield pytest.param(
                name,
                role,
                id=f"{name}-{role}",
                marks=[] if soon else [pytest.mark.nightly],
            )


@pytest.mark.parametrize(("name", "role"), list(alone()))
def test_each_switch_alone(tmp_path: Path, name: str, role: str) -> None:
    """
    And nothing else is out of the ordinary.
    """
    switches = (ALONE | LOCKS)[name]
    with arrange(tmp_path / "scene", role, switches) as scene:
        scene.ends.move()
        scene.ends.come_to_the_end()


#: Calls that may go wrong at each end, and by what errors.
FAULTS: Final = {
    "source": {
        "getattr": ("EIO", "ESTALE"),
        "readdir": ("EIO", "ESTALE"),
        "open": ("EIO", "ESTALE", "EACCES"),
        "read": ("EIO", "ESTALE"),
        "flush": ("EIO",),
        "mkdir": ("EIO", "ENOSPC", "EDQUOT"),
        "rename": ("EIO", "ESTALE", "ENOENT", "ENOSPC", "EPERM"),
        "unlink": ("EIO", "ESTALE", "ENOENT", "EPERM"),
        "rmdir": ("EIO", "ENOTEMPTY"),
        "fsyncdir": ("EIO",),
    },
    "destination": {
        "getattr": ("EIO", "ESTALE"),
        "open": ("EIO", "EACCES"),
        "create": ("EIO", "ENOSPC", "EDQUOT"),
        "write": ("EIO", "ENOSPC", "EDQUOT"),
        "read": ("EIO",),
        "flush": ("EIO", "EDQUOT", "ENOSPC"),
        "fsync": ("EIO", "ENOSPC", "EDQUOT"),
        "fsyncdir": ("EIO", "ENOSPC"),
        "mkdir": ("EIO", "ENOSPC"),
        "rename": ("EIO", "ESTALE", "ENOENT", "ENOSPC"),
        "chmod": ("EIO", "EPERM"),
        "utimens": ("EIO", "EPERM"),
        "statfs": ("EIO",),
    },
}

#: Calls that change something, so that they can fail although it was done.
CHANGING: Final = frozenset(
    {"rename", "unlink", "mkdir", "rmdir", "create", "chmod", "utimens", "link"}
)

#: A fault now and then, and one that does not go away.
FIRST: Final = (1, 2, 5)


def faults() -> Iterator[ParameterSet]:
    """
    Each error of each call, at each end: once, the n-th time, or always; before it was
    done, or after.
    """
    for role, calls in FAULTS.items():
        for call, errors in calls.items():
            for error in errors:
                for after in (False, True)[: 1 + (call in CHANGING)]:
                    for first, times in ((1, 2), (2, 2), (5, 2), (1, ALWAYS)):
                        often = "always" if times == ALWAYS else f"at {first}"
                        when = "after" if after else "before"
                        soon = error == errors[0] and first == 2
                        yield pytest.param(
                            role,
                            Fault(
                                call=call,
                                error=error,
                                first=first,
                                times=times,
                                after=after,
                            ),
                            id=f"{role}-{call}-{error}-{when}-{often}",
                            marks=[] if soon else [pytest.mark.nightly],
                        )


@pytest.mark.parametrize(("role", "fault"), list(faults()))
def test_a_call_fails(tmp_path: Path, role: str, fault: Fault) -> None:
    """
    That is a file's error, or the move's; the run after it comes to the end.
    """
    with arrange(tmp_path / "scene", role, Switches()) as scene:
        scene.fail(fault)
        scene.ends.move()
        assert scene.failed() or fault.first > 1
        scene.fail()
        scene.ends.come_to_the_end()
        assert digests(scene.ends.source_below) == {}


#: At which calls the program is killed.
KILLED_AT: Final = {
    "source": ("open", "read", "mkdir", "rename", "unlink", "rmdir", "fsyncdir"),
    "destination": (
        *("mkdir", "create", "write", "chmod", "utimens", "fsync"),
        *("rename", "fsyncdir", "flush"),
    ),
}


def kills() -> Iterator[ParameterSet]:
    """
    Each call, at each end: the first of its kind, or a later one; before it was done,
    or after.
    """
    for role, calls in KILLED_AT.items():
        for call in calls:
            for after in (False, True)[: 1 + (call in CHANGING)]:
                for first in FIRST:
                    yield pytest.param(
                        role,
                        Fault(call=call, error=HANG, first=first, after=after),
                        id=f"{role}-{call}-{'after' if after else 'before'}-{first}",
                        marks=[] if first == 2 else [pytest.mark.nightly],
                    )


@pytest.mark.parametrize(("role", "fault"), list(kills()))
def test_killed_at_a_call(tmp_path: Path, role: str, fault: Fault) -> None:
    """
    Nothing is lost, and the next run comes to the end.
    """
    with arrange(tmp_path / "scene", role, Switches()) as scene:
        ends = scene.ends
        scene.fail(fault)
        process = ends.world.begin(
            *(
                "move",
                "--on-conflict=replace",
                "--output=quiet",
                "--settle=0",
                ends.source,
                ends.destination,
            )
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not scene.failed() and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            ends.nothing_is_lost()
            # Not before it is let go does the kernel let it die.
            scene.fail()
            process.wait(PATIENCE)
        finally:
            scene.fail()
            process.kill()
            process.communicate()
        ends.nothing_is_lost()
        ends.come_to_the_end()
        assert digests(ends.source_below) == {}


SWITCHES: Final = st.builds(
    Switches,
    folds=st.booleans(),
    normalises=st.sampled_from(["", "NFC", "NFD"]),
    strips=st.booleans(),
    forbidden=st.sampled_from(["", "<>:"]),
    longest=st.sampled_from([255, 100]),
    unit=st.sampled_from(["bytes", "characters", "utf-16"]),
    cache_s=st.sampled_from([0, 20]),
    step_s=st.sampled_from([0, 1, 2]),
    ctimes=st.booleans(),
    inodes=st.sampled_from(["stay", "path", "look"]),
    noreplace=st.sampled_from(["done", "refused"]),
    link=st.sampled_from(["done", "refused"]),
    chmod=st.sampled_from(["done", "refused", "ignored"]),
    utimens=st.sampled_from(["done", "refused", "ignored"]),
    unlink=st.sampled_from(["done", "hides"]),
    fsyncdir=st.sampled_from(["done", "refused", "ignored"]),
    locks=st.sampled_from(["mount", "below", "refused", "granted"]),
)

ANY_FAULT: Final = st.builds(
    Fault,
    call=st.sampled_from(
        sorted({"truncate", *FAULTS["source"], *FAULTS["destination"]})
    ),
    error=st.sampled_from(["EIO", "ENOSPC", "EDQUOT", "ESTALE", "ENOENT"]),
    first=st.integers(1, 30),
    times=st.integers(1, 4),
    after=st.booleans(),
)


@pytest.mark.nightly
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    switches=SWITCHES,
    role=st.sampled_from(ROLES),
    bad=st.lists(ANY_FAULT, max_size=3),
)
def test_random_sets(
    tmp_path_factory: pytest.TempPathFactory,
    switches: Switches,
    role: str,
    bad: list[Fault],
) -> None:
    """
    Of switches, and of faults.
    """
    folder = tmp_path_factory.mktemp("random")
    with arrange(folder / "scene", role, switches) as scene:
        scene.fail(*bad)
        scene.ends.move()
        scene.fail()
        scene.ends.come_to_the_end()
