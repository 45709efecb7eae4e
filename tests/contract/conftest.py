"""
Fixtures of the contract suite: two directories, and stores of every kind on them.

See :mod:`tests.contract.pairs` for how to add a kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from realize.store.identity import ignore_lease_signals
from realize.store.interface import Destination, Source
from tests.contract.pairs import PAIRS, Pair


@pytest.fixture(autouse=True, scope="session")
def _lease_signals() -> None:
    ignore_lease_signals()


@pytest.fixture(params=sorted(PAIRS))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """
    One kind of stores.
    """
    pair = PAIRS[request.param]()
    yield pair
    pair.close()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """
    Where files are taken from.
    """
    path = tmp_path / "here"
    path.mkdir()
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """
    Where files are put.
    """
    path = tmp_path / "there"
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
