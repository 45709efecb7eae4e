"""
What tests of the mover share: a recording observer, a clock that is driven, and a
scene of two disks in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure as TwistedFailure

from realize.model import File, Notice
from realize.move.mover import Mover
from realize.move.outcome import MoveSettings, Outcome
from realize.move.selection import Selection, rule_lists
from tests.support.memory.destination import MemoryDestination
from tests.support.memory.disk import Disk
from tests.support.memory.link import Link
from tests.support.memory.source import MemorySource
from tests.support.memory.trouble import Trouble

T = TypeVar("T")


def without(glob: str) -> Selection:
    """All files but those of a glob."""
    return Selection(lists=rule_lists([("exclude", glob)]))


def drive(
    clock: Clock,
    coroutine: Coroutine[Deferred[Any], Any, T],
    each: Callable[[], None] = lambda: None,
) -> T:
    """
    Run a coroutine to its end, advancing the clock from one event to the next.

    :param each: called after every event.
    """
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    each()
    while not results:
        calls = clock.getDelayedCalls()
        assert calls, "waits for ever"
        clock.advance(max(0.0, min(call.getTime() for call in calls) - clock.seconds()))
        each()
    if isinstance(results[0], TwistedFailure):
        results[0].raiseException()
    return results[0]  # type: ignore[no-any-return]  # what addBoth was given


@define
class Recorder:
    """
    An observer that remembers everything.
    """

    outcomes: list[Outcome] = field(factory=list)
    notices: list[Notice] = field(factory=list)
    doubts: list[str] = field(factory=list)
    larges: list[tuple[bytes, int, int]] = field(factory=list)
    arrived: int = 0
    found: int = 0
    found_there: int = 0
    restarts: int = 0

    def listed(self, files: Sequence[File]) -> None:
        self.found += len(files)

    def restarted(self) -> None:
        self.restarts += 1

    def noticed(self, notice: Notice) -> None:
        self.notices.append(notice)

    def doubted(self, text: str) -> None:
        self.doubts.append(text)

    def began(self, path: bytes, size: int, kept: int) -> None:
        self.larges.append((path, size, kept))

    def advanced(self, nbytes: int, path: bytes) -> None:
        self.arrived += nbytes

    def reused(self, nbytes: int, path: bytes) -> None:
        self.found_there += nbytes

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes

    def kinds(self) -> dict[bytes, str]:
        """
        The kind of outcome by path; each path has one outcome only.
        """
        kinds = {outcome.path: outcome.kind for outcome in self.outcomes}
        assert len(kinds) == len(self.outcomes)
        return dict(kinds)

    def of(self, path: bytes) -> Outcome:
        """
        The one outcome of a path.
        """
        (outcome,) = [each for each in self.outcomes if each.path == path]
        return outcome


@define
class Scene:
    """
    Two disks, what lies between, and a mover.

    :ivar delay: seconds of a round trip to the source, and to the destination.
    """

    settings: MoveSettings = field(factory=MoveSettings)
    delay: tuple[float, float] = (0.01, 0.01)
    page_size: int = 1000
    here: Disk = field(factory=lambda: Disk("here"))
    there: Disk = field(factory=lambda: Disk("there"))
    clock: Clock = field(factory=Clock)
    trouble: Trouble = field(factory=Trouble)
    seen: Recorder = field(factory=Recorder)
    mover: Mover = field(init=False)
    source: MemorySource = field(init=False)
    destination: MemoryDestination = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.mover = Mover(self.settings, self.clock, self.seen)
        self.open()

    def open(self) -> None:
        """
        Open both stores anew.
        """
        links = [Link(self.clock, delay) for delay in self.delay]
        self.source = MemorySource(self.here, links[0], self.trouble, self.page_size)
        self.destination = MemoryDestination(self.there, links[1], self.trouble)

    def run(self, each: Callable[[], None] = lambda: None) -> Recorder:
        """
        Run the mover on the open stores, and close them.
        """
        try:
            drive(self.clock, self.mover.run(self.source, self.destination), each)
        finally:
            drive(self.clock, self.source.close())
            drive(self.clock, self.destination.close())
        assert not self.clock.getDelayedCalls() or self.mover.stopped
        return self.seen
