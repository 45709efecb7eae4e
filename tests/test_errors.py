"""
The tree of errors, and how they cross the wire.
"""

from __future__ import annotations

import re

import pytest

from realize import errors
from realize.errors import InternalError, PeerError, RealizeError, peer_error
from realize.model import Failure

CROSSING = sorted(set(errors.peer_errors()), key=lambda kind: kind.__name__)


def kinds(root: type[RealizeError]) -> list[type[RealizeError]]:
    """
    A class and all below it.
    """
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


@pytest.mark.parametrize("kind", CROSSING, ids=lambda kind: kind.__name__)
def test_an_error_survives_the_crossing(kind: type[PeerError]) -> None:
    """
    What one side raises is what the other side gets, with its text.
    """
    failure = Failure.of(kind("why"))
    arrived = failure.error
    assert type(arrived) is kind
    assert str(arrived) == "why"
    assert arrived.defers is kind.defers


def test_codes_are_unique_and_well_formed() -> None:
    """
    Every class that crosses has a code of its own, in capitals.
    """
    codes = [kind.code for kind in CROSSING]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Z_]+", code) for code in codes)


def test_subclasses_come_before_their_bases() -> None:
    """
    So that the first entry that matches is the right one.
    """
    order = list(errors.peer_errors())
    for index, kind in enumerate(order):
        assert not any(issubclass(later, kind) for later in order[index + 1 :])


def test_an_unknown_code_is_kept_in_the_text() -> None:
    """
    An error that a newer peer knows still says what it was.
    """
    error = peer_error("FROM_THE_FUTURE", "too many moons")
    assert type(error) is InternalError
    assert str(error) == "FROM_THE_FUTURE: too many moons"


def test_only_peer_errors_have_a_code() -> None:
    """
    What must never be sent has nothing to be sent as.
    """
    for kind in kinds(RealizeError):
        assert hasattr(kind, "code") == issubclass(kind, PeerError)


@pytest.mark.parametrize("kind", kinds(RealizeError), ids=lambda kind: kind.__name__)
def test_every_error_is_explained(kind: type[RealizeError]) -> None:
    """
    Each class says what it stands for.
    """
    assert "__doc__" in vars(kind)
    assert (kind.__doc__ or "").strip()
