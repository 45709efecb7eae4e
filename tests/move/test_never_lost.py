"""
Whatever happens, and whenever: every file is at the source, or complete and durable
at the destination.
"""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure as TwistedFailure

from realize.errors import (
    Busy,
    DigestMismatch,
    DiskError,
    NoSpace,
    PeerGone,
    SyncFailed,
)
from realize.move.mover import Mover
from realize.move.outcome import MoveSettings
from tests.support.memory.destination import MemoryDestination
from tests.support.memory.disk import Disk, Node
from tests.support.memory.link import Link
from tests.support.memory.source import MemorySource
from tests.support.memory.trouble import Trouble
from tests.support.moving import Recorder, drive

PATHS = [b"a", b"b", b"d/c", b"d/d", b"e/f/g"]

paths = st.sampled_from(PATHS)

EDITED = Random(9).randbytes(200_000)  # noqa: S311  # no secret

#: Under the limit below, a slice is 16 KiB: some files are small, some large.
#: The largest are compared with what the destination has, and have much in common.
contents = (
    st.builds(
        lambda seed, size: Random(seed).randbytes(size),  # noqa: S311  # no secret
        st.integers(0, 3),
        st.sampled_from([0, 1, 100, 16 * 1024, 40_000, 100_000]),
    )
    | st.builds(
        lambda size, at: EDITED[:at] + b"edited" + EDITED[at:size],
        st.sampled_from([150_000, 200_000]),
        st.sampled_from([0, 70_000, 140_000]),
    )
)

ends = st.sampled_from(["source", "destination"])


class Moving(RuleBasedStateMachine):
    """
    A move, disturbed in every way between any two events.

    ``truth`` has the content that each file of the source must not be lost in.
    """

    @initialize(
        here=st.dictionaries(paths, contents),
        there=st.dictionaries(paths, contents),
        begun=st.dictionaries(paths, contents),
        seed=st.integers(0, 1000),
        remove_directories=st.booleans(),
    )
    def begin(
        self,
        here: dict[bytes, bytes],
        there: dict[bytes, bytes],
        begun: dict[bytes, bytes],
        seed: int,
        remove_directories: bool,
    ) -> None:
        """
        Two disks with files, and partials of an earlier run.
        """
        self.random = Random(seed)  # noqa: S311  # no secret
        self.settings = MoveSettings(remove_directories=remove_directories)
        self.clock = Clock()
        self.trouble = Trouble()
        self.here, self.there = Disk("here"), Disk("there")
        self.truth = dict(here)
        self.versions = {path: {content} for path, content in there.items()}
        for path, content in here.items():
            self.here.put(path, content)
            self.versions.setdefault(path, set()).add(content)
        for path, content in there.items():
            self.there.put(path, content)
            self.there.files[path].durable = False
        for path, content in begun.items():
            self.there.partials[path] = bytearray(content)
        self.over: list[object] = []
        self.new_process()

    def new_process(self) -> None:
        self.mover = Mover(self.settings, self.clock, Recorder())
        self.mover.limit(64 * 1024)
        self.open()

    def open(self) -> None:
        links = [Link(self.clock, 0.01, self.jitter) for _ in range(2)]
        self.source = MemorySource(self.here, links[0], self.trouble, page_size=2)
        self.destination = MemoryDestination(self.there, links[1], self.trouble)
        self.over = []
        self.run = Deferred.fromCoroutine(self.mover.run(self.source, self.destination))
        self.run.addBoth(self.over.append)

    def jitter(self) -> float:
        return self.random.random() * 0.05

    # -- time

    @rule(events=st.integers(1, 30))
    def go_on(self, events: int) -> None:
        """
        Let some things happen, and begin again when all is over.
        """
        for _ in range(events):
            calls = self.clock.getDelayedCalls()
            if not calls:
                break
            nearest = min(call.getTime() for call in calls)
            self.clock.advance(max(0.0, nearest - self.clock.seconds()))
            self.nothing_is_lost()
        if self.over:
            self.begin_again()

    def begin_again(self) -> None:
        result = self.over[0]
        drive(self.clock, self.source.close())
        if isinstance(result, TwistedFailure):
            assert result.check(PeerGone), result.getTraceback()
            self.open()
        else:
            self.new_process()

    # -- what others do to the source

    @rule(path=paths, content=contents)
    def write_new(self, path: bytes, content: bytes) -> None:
        """
        Somebody makes a file, or replaces one.
        """
        self.here.put(path, content)
        self.note(path, content)

    @rule(path=paths)
    def append(self, path: bytes) -> None:
        """
        Somebody writes to a file, even if it is just being hidden.
        """
        node = self.here.hidden.get(path) or self.here.files.get(path)
        if node is not None:
            self.here.append(path, b"more")
            if path not in self.here.files or path not in self.here.hidden:
                self.note(path, node.content)

    @rule(path=paths, writers=st.integers(0, 1))
    def hold_open(self, path: bytes, writers: int) -> None:
        """
        Somebody opens a file for writing, or closes it.
        """
        if path in self.here.files:
            self.here.files[path].writers = writers

    @rule(path=paths)
    def delete(self, path: bytes) -> None:
        """
        Somebody deletes a file: it may be lost now.
        """
        if path in self.here.files:
            del self.here.files[path]
            self.truth.pop(path, None)

    def note(self, path: bytes, content: bytes) -> None:
        self.truth[path] = content
        self.versions.setdefault(path, set()).add(content)

    # -- faults

    @rule(end=ends)
    def lose_the_connection(self, end: str) -> None:
        """
        It breaks now.
        """
        getattr(self, end).link.lose()

    @rule()
    def kill(self) -> None:
        """
        The process ends without a word; hidden files stay hidden.
        """
        self.mover.abort()
        self.source.link.lose()
        self.destination.link.lose()
        self.new_process()

    @rule()
    def power_cut(self) -> None:
        """
        The destination loses what is not durable, and its connection.
        """
        self.destination.link.lose()
        self.there.power_cut()

    @rule(
        operation=st.sampled_from(
            [
                *("offer", "write", "reuse", "finish", "ask"),
                *("digest", "sign", "sign present", "read", "remove"),
            ]
        ),
        path=paths | st.none(),
        error=st.sampled_from(
            [
                NoSpace("full"),
                DiskError("broken"),
                SyncFailed("not durable"),
                DigestMismatch("differs"),
                Busy("held"),
            ]
        ),
    )
    def fail(self, operation: str, path: bytes | None, error: DiskError) -> None:
        """
        An operation goes wrong, for a file or altogether.
        """
        self.trouble.fail(operation, error, path)

    @rule()
    def stop(self) -> None:
        """
        The user has enough.
        """
        self.mover.stop()

    # -- what must hold

    @invariant()
    def nothing_is_lost(self) -> None:
        """
        Not even between two events.
        """
        for path, content in getattr(self, "truth", {}).items():
            nodes = [disk.get(path) for disk in (self.here.files, self.here.hidden)]
            target = self.there.files.get(path)
            if target is not None and target.durable:
                nodes.append(target)
            assert content in [node.content for node in nodes if node], path

    @invariant()
    def final_names_are_complete(self) -> None:
        """
        A name at the destination has the content of some version of the file.
        """
        for path, node in (self.there.files if hasattr(self, "there") else {}).items():
            assert node.content in self.versions[path], path

    def teardown(self) -> None:
        """
        Left alone, everything arrives.
        """
        if not hasattr(self, "truth"):
            return
        self.mover.abort()
        self.trouble = Trouble()
        for node in self.here.files.values():
            node.writers = 0
        self.new_process()
        while not self.over:
            self.go_on_quietly()
        assert self.over == [None], self.over
        assert self.here.contents() == {}
        for path, content in self.truth.items():
            node: Node = self.there.files[path]
            assert (node.content, node.durable) == (content, True)

    def go_on_quietly(self) -> None:
        calls = self.clock.getDelayedCalls()
        nearest = min(call.getTime() for call in calls)
        self.clock.advance(max(0.0, nearest - self.clock.seconds()))
        self.nothing_is_lost()


TestNeverLost = Moving.TestCase
TestNeverLost.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
