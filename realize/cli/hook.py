"""
``--on-moved COMMAND``: a program that is told which files have been moved.

It is run with one batch after the other, never twice at the same time, never through
a shell, and for a bounded time.  What becomes of it changes nothing about the files.
"""

from __future__ import annotations

import json
import os
import shlex
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from realize.digest import digest_text
from realize.errors import ConfigError
from realize.move.observers import IdleObserver
from realize.move.outcome import SUCCESSES, Outcome
from realize.paths import printable

#: How a batch stands on the program's standard input: names, each followed by a null
#: byte, or a line of JSON for each file.
Form = Literal["names", "json"]

#: Most files of one batch.
MAX_BATCH_FILES: Final = 1000

#: Most files that wait for the program; of more it is not told.
MAX_WAITING: Final = 200_000

#: Seconds that one run may take before it is killed.
DEFAULT_TIMEOUT: Final = 60.0

#: Bytes of what the program says that are remembered for a complaint.
_REMEMBERED: Final = 400


@frozen
class HookChoice:
    """
    What the user wants to be run.

    :ivar words: the program and its arguments; empty for none.
    :ivar timeout: seconds for one batch.
    """

    words: tuple[str, ...] = ()
    form: Form = "names"
    timeout: float = DEFAULT_TIMEOUT

    @classmethod
    def parse(cls, text: str, form: Form, timeout: float) -> HookChoice:
        """
        :param text: a command, in words as a shell would quote them.
        :raises ConfigError: it has no word, or an unclosed quote.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ConfigError(f"--on-moved: {error}") from None
        if not words:
            raise ConfigError("--on-moved: empty; write a command")
        if any("\0" in word for word in words):
            raise ConfigError("--on-moved: a null byte")
        return cls(words, form, timeout)


@define(eq=False)
class MovedHook(IdleObserver):
    """
    Runs a program with the files that have been moved.

    :ivar source: what messages call the two ends; the program finds them in its
        environment, as ``REALIZE_SOURCE`` and ``REALIZE_DESTINATION``.
    :ivar environ: the environment besides those.
    """

    _reactor: Any
    _choice: HookChoice
    source: str
    destination: str
    environ: Mapping[str, str] = field(factory=lambda: os.environ)
    _waiting: deque[Outcome] = field(factory=deque, init=False)
    _run: _Run | None = field(default=None, init=False)
    _idle: list[Deferred[None]] = field(factory=list, init=False)
    _failures: int = field(default=0, init=False)
    _untold: int = field(default=0, init=False)
    _complaint: str = field(default="", init=False)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the program of those that were moved."""
        moved = [each for each in outcomes if each.kind in SUCCESSES]
        room = MAX_WAITING - len(self._waiting)
        if len(moved) > room:
            self._untold += len(moved) - room
        self._waiting.extend(moved[:room])
        self._begin()

    async def finish(self) -> str:
        """
        Wait until the program has been told of all.

        :returns: what went wrong, in one line; empty if nothing did.
        """
        if self._run is not None:
            done: Deferred[None] = Deferred()
            self._idle.append(done)
            await done
        parts = []
        if self._failures:
            runs = "once" if self._failures == 1 else f"{self._failures:,} times"
            parts.append(f"failed {runs}: {self._complaint}")
        if self._untold:
            parts.append(f"was too slow to be told of {self._untold:,} files")
        name = printable(os.fsencode(self._choice.words[0]))
        return f"--on-moved: {name} {'; it '.join(parts)}" if parts else ""

    def _begin(self) -> None:
        if self._run is not None:
            return
        if not self._waiting:
            for done in self._idle:
                done.callback(None)
            self._idle.clear()
            return
        size = min(MAX_BATCH_FILES, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(size)]
        self._run = _Run(self._written(batch), self._ended)
        words = [os.fsencode(word) for word in self._choice.words]
        environ = dict(
            self.environ,
            REALIZE_SOURCE=self.source,
            REALIZE_DESTINATION=self.destination,
        )
        try:
            self._reactor.spawnProcess(self._run, words[0], words, env=environ)
        except OSError as error:
            self._ended(os.strerror(error.errno or 0))
            return
        self._run.limit(self._reactor, self._choice.timeout)

    def _written(self, batch: Sequence[Outcome]) -> bytes:
        if self._choice.form == "names":
            return b"".join((each.path_there or each.path) + b"\0" for each in batch)
        lines = (
            json.dumps(
                {
                    "path": os.fsdecode(outcome.path_there or outcome.path),
                    "size": outcome.size,
                    "how": outcome.kind,
                    "blake3": digest_text(outcome.digest) or None,
                }
            )
            for outcome in batch
        )
        return "".join(f"{line}\n" for line in lines).encode("ascii")

    def _ended(self, why: str) -> None:
        self._run = None
        if why:
            self._failures += 1
            self._complaint = self._complaint or why
        self._begin()


class _Run(ProcessProtocol):
    """
    One run of the program.

    :param ended: called once with why it failed; empty if it did not.
    """

    def __init__(self, data: bytes, ended: Any) -> None:
        self._data = data
        self._ended = ended
        self._said = b""
        self._limit: IDelayedCall | None = None
        self._late = 0.0

    def limit(self, reactor: Any, seconds: float) -> None:
        """Kill it if it takes longer."""
        self._limit = reactor.callLater(seconds, self._kill, seconds)

    def connectionMade(self) -> None:
        """Hand over the batch."""
        process = self._process
        process.write(self._data)
        process.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Remember the end of what it says."""
        self._said = (self._said + data)[-_REMEMBERED:]

    errReceived = outReceived

    def processExited(self, reason: Failure) -> None:
        """It has ended; what it started may go on."""
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._process.loseConnection()
        self._ended(self._why(reason))

    def _kill(self, seconds: float) -> None:
        self._late = seconds
        self._process.signalProcess("KILL")

    @property
    def _process(self) -> Any:
        # Twisted types it as one that may be missing, which it is not once connected.
        return self.transport

    def _why(self, reason: Failure) -> str:
        if reason.check(ProcessDone):
            return ""
        if self._late:
            return f"took longer than {self._late:g} s and was killed"
        status = getattr(reason.value, "exitCode", None)
        how = f"status {status}" if status is not None else f"{reason.value}"
        lines = self._said.strip().splitlines()
        return f"{how}: {printable(lines[-1])}" if lines else how
