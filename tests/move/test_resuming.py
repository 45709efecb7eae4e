"""
Partials of earlier runs.
"""

from __future__ import annotations

import pytest
from blake3 import blake3

from realize.errors import (
    Busy,
    DigestMismatch,
    NoSpace,
    PeerError,
    SourceChanged,
    StillOpen,
)
from realize.model import PREFIX_STEP
from tests.support.moving import Scene

MIB = 1024 * 1024


#: Large enough for several slices.
BIG = bytes(range(256)) * (20 * 1024)


def partial(scene: Scene, content: bytes, held: bytes) -> None:
    """
    A file of which the destination holds something.
    """
    scene.here.put(b"a", content)
    scene.there.partials[b"a"] = bytearray(held)


def test_a_partial_is_continued() -> None:
    """
    What it holds rightly is not sent again.
    """
    scene = Scene()
    partial(scene, BIG, BIG[: 3 * MIB])
    seen = scene.run()
    outcome = seen.of(b"a")
    assert (outcome.kind, outcome.kept) == ("moved", 3 * MIB)
    assert outcome.sent == scene.mover.totals.sent == len(BIG) - 3 * MIB
    assert scene.mover.totals.kept == 3 * MIB
    assert outcome.digest == blake3(BIG).digest()
    assert scene.there.contents() == {b"a": BIG}
    assert seen.larges == [(b"a", len(BIG), 3 * MIB)]


def test_a_damaged_tail_is_sent_again() -> None:
    """
    Up to the last step that agrees, the partial is kept.
    """
    content = BIG * 16
    held = bytearray(content[: PREFIX_STEP + 5 * MIB])
    held[PREFIX_STEP + 100] ^= 1
    scene = Scene()
    partial(scene, content, held)
    seen = scene.run()
    assert seen.of(b"a").kept == PREFIX_STEP
    assert scene.there.contents() == {b"a": content}


@pytest.mark.parametrize(
    ("held", "kept"),
    [(BIG, len(BIG)), (BIG + b"and more", len(BIG)), (b"\0" * 2 * MIB, 0)],
)
def test_complete_overlong_and_useless_partials(held: bytes, kept: int) -> None:
    """
    One that has it all is finished as it is; of one that has more, the rest is cut
    off; of one that has other content, nothing is kept.
    """
    scene = Scene()
    partial(scene, BIG, held)
    seen = scene.run()
    assert (seen.of(b"a").kind, seen.of(b"a").kept) == ("moved", kept)
    assert seen.of(b"a").sent == len(BIG) - kept
    assert scene.there.contents() == {b"a": BIG}


def test_a_small_file_is_not_worth_comparing() -> None:
    """
    It is sent whole, in its batch.
    """
    scene = Scene()
    partial(scene, b"small", b"sma")
    seen = scene.run()
    assert seen.of(b"a").sent == 5
    assert scene.source.link.asked["digest"] == 0


@pytest.mark.parametrize(
    ("operation", "path", "side", "error"),
    [
        ("digest", b"a", "source", SourceChanged("changed")),
        ("digest", None, "source", StillOpen("open")),
        ("write", b"a", "destination", Busy("held")),
        ("write", None, "destination", NoSpace("full")),
    ],
)
def test_comparing_a_partial_fails(
    operation: str, path: bytes | None, side: str, error: PeerError
) -> None:
    """
    Then the file does, at the end that said so, and the partial stays.
    """
    scene = Scene()
    partial(scene, BIG, BIG[:MIB])
    scene.trouble.fail(operation, error, path)
    seen = scene.run()
    assert (seen.of(b"a").side, seen.of(b"a").code) == (side, error.code)
    assert scene.here.contents() == {b"a": BIG}
    assert len(scene.there.partials[b"a"]) == MIB


def test_keeping_too_much_is_not_believed() -> None:
    """
    A destination that claims more than it was asked about fails the file.
    """
    scene = Scene()
    partial(scene, BIG, BIG[: 2 * MIB])
    scene.destination._keep = lambda piece: piece.offset + 1  # type: ignore[method-assign]
    outcome = scene.run().of(b"a")
    assert (outcome.code, outcome.side) == ("INTERNAL", "destination")


def test_a_mismatch_after_resuming_is_sent_whole() -> None:
    """
    The second time, nothing is kept.
    """
    scene = Scene()
    partial(scene, BIG, BIG[: 2 * MIB])
    scene.trouble.fail("finish", DigestMismatch("rotten"), b"a")
    seen = scene.run()
    assert seen.of(b"a").kind == "moved"
    assert scene.mover.totals.sent == 2 * len(BIG) - 2 * MIB
