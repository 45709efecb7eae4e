"""
How directories are looked after.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from realize.config import DirectorySettings
from realize.daemon.health import INTERVAL, SLOW, Health
from realize.errors import DirectoryGone
from realize.observe.metrics import DirectoryMetrics
from realize.observe.recorder import Records


@define
class Looked:
    """
    A directory, and those who look at it and wait for an answer.

    :ivar waiting: the answers that have not come.
    """

    clock: Clock = Factory(Clock)
    waiting: list[Deferred[Any]] = Factory(list)
    registry: CollectorRegistry = Factory(CollectorRegistry)
    settings: DirectorySettings = Factory(lambda: DirectorySettings(Path("/inbox")))
    name: str = "inbox"
    records: Records = Factory(
        lambda self: Records(
            "inbox", DirectoryMetrics.create(self.registry, ["inbox"])
        ),
        takes_self=True,
    )

    def look(self) -> os.statvfs_result:
        """
        Done in a thread, which there is none of.
        """
        raise AssertionError

    def in_thread(self, look: Callable[[], Any]) -> Deferred[Any]:
        """
        What a thread answers when it does.
        """
        assert look == self.look
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def available(self) -> float | None:
        """
        What the metrics say.
        """
        labels = {"directory": "inbox"}
        return self.registry.get_sample_value("realize_directory_available", labels)


def disk(free: int, size: int = 1000) -> os.statvfs_result:
    """
    What a file system of so many blocks says.
    """
    return os.statvfs_result((1, 1, size, free, free, 9, 9, 9, 0, 255))


@pytest.fixture
def looked() -> Looked:
    """
    One that nobody has looked at yet.
    """
    return Looked()


def test_gone_and_back(looked: Looked) -> None:
    """
    Each is told once.
    """
    health = Health(looked, looked.in_thread, looked.clock)
    with capturedLogs() as logged:
        for answer in (DirectoryGone("no"), DirectoryGone("no"), disk(500), disk(500)):
            health.check()
            if isinstance(answer, Exception):
                looked.waiting.pop().errback(answer)
                assert looked.available() == 0
            else:
                looked.waiting.pop().callback(answer)
                assert looked.available() == 1
    assert [event["event"] for event in logged] == ["directory-gone", "directory-back"]


def test_nearly_full(looked: Looked) -> None:
    """
    Told once, until there is room again.
    """
    health = Health(looked, looked.in_thread, looked.clock)
    with capturedLogs() as logged:
        for free in (500, 10, 10, 500, 10):
            health.check()
            looked.waiting.pop().callback(disk(free))
    assert [event["event"] for event in logged] == ["disk-nearly-full"] * 2


def test_a_disk_that_hangs_and_answers(looked: Looked) -> None:
    """
    It is asked once, and told of once.
    """
    health = Health(looked, looked.in_thread, looked.clock)
    with capturedLogs() as logged:
        for _ in range(10):
            health.check()
            looked.clock.advance(INTERVAL)
        (answer,) = looked.waiting
        answer.callback(disk(500))
    assert [event["event"] for event in logged] == ["disk-slow", "disk-answers"]
    assert logged[0]["seconds"] > SLOW
    assert logged[1]["seconds"] == 10 * INTERVAL


def test_what_nobody_planned_does_not_end_it(looked: Looked) -> None:
    """
    The directory is looked at again.
    """
    health = Health(looked, looked.in_thread, looked.clock)
    health.check()
    looked.waiting.pop().errback(ZeroDivisionError())
    health.check()
    looked.waiting.pop().callback(disk(500))
    assert looked.available() == 1
