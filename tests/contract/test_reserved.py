"""
What a peer may name: the same for what it takes as for what it puts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest

from realize.delta.exchange import Sign
from realize.errors import UnsafePath
from realize.model import Finish, Offer, Prefix, Range, Removal, RemovalStep
from realize.store.identity import identity_of
from realize.store.interface import Destination, Source
from tests.contract.pairs import Pair, run
from tests.contract.steps import codes, digest

HIDDEN = ".realize-moved-0123456789abcdef"

#: Unfinished work, whoever's it is, wherever in a path.
RESERVED = [
    ".photo.realize-part",
    "sub/.photo.realize-part",
    ".sub.realize-part/photo",
    f"{HIDDEN}/photo",
    f"sub/{HIDDEN}/photo",
    HIDDEN,
]


def plant(root: Path, name: str) -> bytes:
    """
    Make the file, and tell what a peer that guesses well would call its version.
    """
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"of somebody else")
    return identity_of(os.stat(path))


@pytest.mark.parametrize("name", RESERVED)
def test_not_taken(pair: Pair, source: Source, here: Path, name: str) -> None:
    """
    Neither read, nor digested, signed, hidden, put back or removed.
    """
    version, raw = plant(here, name), name.encode()
    size = (here / name).stat().st_size
    content = digest(b"of somebody else")
    extents, data = run(pair, source.read([Range(raw, version, 0, size)]))
    assert codes([*extents]) == ["UNSAFE_PATH"]
    assert bytes(data) == b""
    digests = run(pair, source.digest([Prefix(raw, version, size)]))
    assert codes(digests) == ["UNSAFE_PATH"]
    with pytest.raises(UnsafePath):
        run(pair, source.sign(Sign(raw, version, 2048)))
    for step in get_args(RemovalStep):
        removed = run(pair, source.remove([Removal(raw, version, content, step)]))
        assert codes(removed) == ["UNSAFE_PATH"]
    assert (here / name).read_bytes() == b"of somebody else"


@pytest.mark.parametrize("name", RESERVED)
def test_not_put(pair: Pair, destination: Destination, there: Path, name: str) -> None:
    """
    Neither looked at, nor compared, signed, written or replaced.
    """
    version, raw = plant(there, name), name.encode()
    wanted = Finish(raw, 16, digest(b"of somebody else"), 0o644, 0)
    for reserve in (False, True):
        (held,) = run(pair, destination.offer([Offer(raw, 16)], [], reserve))
        assert codes([held]) == ["UNSAFE_PATH"]
    assert codes(run(pair, destination.compare([wanted]))) == ["UNSAFE_PATH"]
    assert codes(run(pair, destination.finish([wanted]))) == ["UNSAFE_PATH"]
    with pytest.raises(UnsafePath):
        run(pair, destination.sign(Sign(raw, version, 2048)))
    assert (there / name).read_bytes() == b"of somebody else"


def test_a_marker_stays(pair: Pair, there: Path) -> None:
    """
    Nobody learns of it, and nobody replaces it: without it the directory is shut.
    """
    plant(there, ".mark")
    destination = pair.open_destination(there, marker=".mark")
    assert codes(run(pair, destination.offer([Offer(b".mark", 1)], []))) == [
        "UNSAFE_PATH"
    ]
    plant(there, "sub/.mark")
    assert codes(run(pair, destination.offer([Offer(b"sub/.mark", 1)], []))) == ["Held"]
