"""
Changing what is logged, for good and for a while.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from attrs import define, field
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from txaio.tx import get_global_log_level, set_global_log_level

from realize.observe.formats import as_json
from realize.observe.levels import Levels
from realize.observe.outputs import LogOutput, StreamSink
from realize.observe.switch import LevelSwitch


@define
class Scene:
    """
    A log at info, and its switch.
    """

    clock: Clock = field(factory=Clock)
    switch: LevelSwitch = field(init=False)

    def __attrs_post_init__(self) -> None:
        sink = StreamSink(io.StringIO(), as_json)
        self.switch = LevelSwitch(LogOutput(sink, Levels()), self.clock)

    @property
    def now(self) -> str:
        """
        What is logged.
        """
        return str(self.switch.levels)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """
    The levels of txaio are global: put back in the end.
    """
    yield Scene()
    set_global_log_level("info")


def test_for_good(scene: Scene) -> None:
    """
    Loggers follow, and the change is said.
    """
    with capturedLogs() as events:
        scene.switch.set(Levels("debug"), "laptop")
    assert scene.now == get_global_log_level() == "debug"
    (event,) = events
    assert (event["old"], event["new"], event["by"]) == ("info", "debug", "laptop")
    assert scene.clock.getDelayedCalls() == []


def test_for_a_while(scene: Scene) -> None:
    """
    Then back to what was said for good.
    """
    scene.switch.set(Levels("warn"), "laptop")
    scene.switch.set(Levels("debug"), "laptop", 10)
    scene.clock.advance(9)
    assert scene.now == "debug"
    scene.clock.advance(1)
    assert scene.now == "warn"


def test_a_second_change_ends_the_while_of_the_first(scene: Scene) -> None:
    """
    What was set for a while does not come back, and its end changes nothing.
    """
    scene.switch.set(Levels("debug"), "laptop", 10)
    scene.switch.set(Levels("error"), "archive", 20)
    scene.clock.advance(10)
    assert scene.now == "error"
    scene.clock.advance(10)
    assert scene.now == "info"
    scene.switch.set(Levels("debug"), "laptop", 10)
    scene.switch.set(Levels("warn"), "laptop")
    scene.clock.advance(10)
    assert scene.now == "warn"


def test_toggled(scene: Scene) -> None:
    """
    On, and back to what it was, also after a change for a while.
    """
    scene.switch.set(Levels("warn"), "laptop")
    scene.switch.toggle_debug("SIGUSR2")
    assert scene.now == "debug"
    scene.switch.toggle_debug("SIGUSR2")
    assert scene.now == "warn"
    scene.switch.set(Levels("error"), "laptop", 10)
    scene.switch.toggle_debug("SIGUSR2")
    scene.clock.advance(10)
    assert scene.now == "debug"
    scene.switch.toggle_debug("SIGUSR2")
    assert scene.now == "warn"


def test_toggled_where_debug_is_usual(scene: Scene) -> None:
    """
    Then off means info.
    """
    scene.switch.set(Levels("debug"), "laptop")
    scene.switch.toggle_debug("SIGUSR2")
    assert scene.now == "info"


def test_said_also_where_the_log_becomes_silent(scene: Scene) -> None:
    """
    The last line that is logged.
    """
    with capturedLogs() as events:
        scene.switch.set(Levels("error"), "laptop")
    assert [event["new"] for event in events] == ["error"]
