"""
Fixtures of the contract suite: two directories, and stores of every kind on them.

See :mod:`tests.contract.pairs` for how to add a kind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from realize.store.guard import ignore_lease_signals
from realize.store.interface import Destination, Source
from tests.contract.pairs import PAIRS, Pair
from tests.support.fuse.mounting import Mounted, mount, needs_fuse
from tests.support.fuse.switches import ALONE, Switches

#: Those that run with the others, before the night.
SOON = ("ordinary",)


@pytest.fixture(autouse=True, scope="session")
def _lease_signals() -> None:
    ignore_lease_signals()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """
    Each test runs over all kinds of stores; over those of this host also on a file
    system that is an ordinary one but for one switch.
    """
    if "pair" not in metafunc.fixturenames:
        return
    kinds = [pytest.param((kind, None), id=kind) for kind in sorted(PAIRS)]
    # The binding does not let a file system tell of holes.
    alone = {} if metafunc.definition.get_closest_marker("holes") else ALONE
    kinds += [
        pytest.param(
            ("local", switches),
            id=f"local on {name}",
            marks=[needs_fuse] if name in SOON else [needs_fuse, pytest.mark.nightly],
        )
        for name, switches in alone.items()
    ]
    metafunc.parametrize("ground", kinds, indirect=True)


@pytest.fixture(scope="session")
def switched(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], Mounted]]:
    """
    The file system of switches, mounted when it is first asked for.
    """
    with ExitStack() as stack:

        @cache
        def mounted() -> Mounted:
            return stack.enter_context(mount(tmp_path_factory.mktemp("fuse") / "fs"))

        yield mounted


@pytest.fixture
def ground(
    request: pytest.FixtureRequest, tmp_path: Path, switched: Callable[[], Mounted]
) -> Iterator[tuple[str, Path]]:
    """
    The kind of stores, and a directory of the kind of file system.
    """
    kind, switches = request.param
    if switches is None:
        yield kind, tmp_path
        return
    mounted = switched()
    folder = Path(tempfile.mkdtemp(dir=mounted.root))
    mounted.switch(switches)
    yield kind, folder
    mounted.switch(Switches())


@pytest.fixture
def pair(ground: tuple[str, Path]) -> Iterator[Pair]:
    """
    One kind of stores.
    """
    pair = PAIRS[ground[0]]()
    yield pair
    pair.close()


@pytest.fixture
def here(ground: tuple[str, Path]) -> Path:
    """
    Where files are taken from.
    """
    path = ground[1] / "here"
    path.mkdir()
    return path


@pytest.fixture
def there(ground: tuple[str, Path]) -> Path:
    """
    Where files are put.
    """
    path = ground[1] / "there"
    path.mkdir()
    return path


@pytest.fixture
def source(pair: Pair, here: Path) -> Source:
    """
    A source on *here*.
    """
    return pair.open_source(here)


@pytest.fixture
def destination(pair: Pair, there: Path) -> Destination:
    """
    A destination on *there* that may replace.
    """
    return pair.open_destination(there)


def contents(path: Path) -> dict[str, Any]:
    """
    Everything below a directory: bytes of files, None for directories.
    """
    return {
        str(each.relative_to(path)): None if each.is_dir() else each.read_bytes()
        for each in sorted(path.rglob("*"))
    }
