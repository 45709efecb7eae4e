"""
What a peer that may put files learns of those that are there, by guessing.
"""

from __future__ import annotations

import pytest

from realize.errors import BadRequest
from realize.model import Finish, Offer, Prefix, Removal
from realize.store.interface import Destination, Source
from tests.contract.pairs import Pair, run
from tests.contract.steps import digest


def guess(content: bytes) -> Finish:
    """
    Is this what it holds?
    """
    return Finish(b"pin", len(content), digest(content), 0o644, 0)


def test_a_file_is_named_once(
    pair: Pair, source: Source, destination: Destination
) -> None:
    """
    In one request; nothing of it is done otherwise.
    """
    for asked in (
        destination.offer([Offer(b"x", 1), Offer(b"y", 1), Offer(b"x", 1)], []),
        destination.compare([guess(b"1"), guess(b"2")]),
        destination.finish([guess(b"1"), guess(b"2")]),
        source.digest([Prefix(b"x", b"", 0)] * 2),
        source.remove([Removal(b"x", b"", bytes(32))] * 2),
    ):
        with pytest.raises(BadRequest, match="twice"):
            run(pair, asked)
