"""
For how long threads have not got on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from realize.store.silence import Silence, progress_of


class Scene:
    """
    Threads whose progress is what a test says.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.progress = 0
        self.silence = Silence(lambda _: (str(self.progress),), lambda: self.now)

    def after(self, seconds: float) -> float:
        """
        What it says so many seconds later.
        """
        self.now += seconds
        return self.silence.seconds()


@pytest.fixture
def scene() -> Scene:
    """
    One of them.
    """
    return Scene()


def test_nobody_works(scene: Scene) -> None:
    """
    Before, and after whatever it was.
    """
    assert scene.after(100) == 0
    with scene.silence.working():
        scene.after(0)
        assert scene.after(50) == 50
    assert scene.after(1) == 0


def test_getting_on(scene: Scene) -> None:
    """
    However long it takes; what counts is since when it does not.
    """
    with scene.silence.working():
        for _ in range(100):
            scene.progress += 1
            assert scene.after(3) == 0
        assert scene.after(9) == 9


def test_the_next_work_is_another(scene: Scene) -> None:
    """
    Also of a thread that looks as it did before.
    """
    for _ in range(3):
        with scene.silence.working():
            assert scene.after(5) == 0


@pytest.fixture
def waiting() -> Iterator[int]:
    """
    A thread that waits in a call to the kernel, as for a disk.
    """
    reading, writing = os.pipe()
    numbers: list[int] = []
    begun = threading.Event()

    def wait() -> None:
        numbers.append(threading.get_native_id())
        begun.set()
        os.read(reading, 1)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    yield numbers[0]
    os.write(writing, b"1")
    thread.join()
    os.close(reading)
    os.close(writing)


def test_progress_of_threads(waiting: int) -> None:
    """
    This thread gets on, by calls of the kernel alone; one that waits does not.
    """
    mine = threading.get_native_id()
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        before, other = progress_of(mine), progress_of(waiting)
        os.write(null, b"1")
        assert progress_of(mine) != before
    finally:
        os.close(null)
    while progress_of(waiting) != other:
        other = progress_of(waiting)
    assert progress_of(waiting) == other != ()
    assert progress_of(2**30) == ()
