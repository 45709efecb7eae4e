"""
A recorder for stores that tests make themselves.
"""

from __future__ import annotations

from typing import Any

from realize.observe.recorder import LOCAL, Recorder, Records


def at_once(function: Any, *args: Any, **kwargs: Any) -> None:
    """
    Stands for callFromThread where everything happens in one thread.
    """
    function(*args, **kwargs)


def new_recorder(name: str = "test") -> Recorder:
    """
    One whose counts nobody looks at.
    """
    return Recorder(Records.unseen(name), LOCAL, b"", at_once)
