"""
Space is set aside for what can be moved, and for nothing else.
"""

from __future__ import annotations

from realize.move.offering import ASKED_ABOUT
from tests.support.moving import Scene


def test_a_recording_that_goes_on_takes_no_space_from_the_others() -> None:
    """
    It is deferred before anything is set aside for it.
    """
    scene = Scene()
    scene.there.free = ASKED_ABOUT + 1_000_000
    scene.here.put(b"recording", bytes(ASKED_ABOUT))
    scene.here.files[b"recording"].writers = 1
    for number in range(20):
        scene.here.put(b"f%d" % number, bytes(100_000))
    kinds = scene.run().kinds()
    assert kinds.pop(b"recording") == "deferred"
    assert set(kinds.values()) == {"moved"}
