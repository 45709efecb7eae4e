"""
The system's ``ssh`` as it runs: what it says, and its end.

It ends when its socket is closed.  If it does not, it is told to, and then killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from realize.net.local_stream import begin_stream
from realize.net.ssh_start import StartedSsh

#: Bytes of standard error that are kept, the last ones.
MOST_SAID: Final = 8 * 1024

#: Seconds for which the end of the process is waited for once its socket is closed,
#: and again once it was told to end.
ENDING: Final = 3.0


def _kept(line: bytes) -> None:
    """
    Before the session begins, what is said explains why it does not.
    """


class _Said(LineOnlyReceiver):
    """
    What ssh writes to standard error.
    """

    delimiter = b"\n"
    MAX_LENGTH = MOST_SAID

    def __init__(self) -> None:
        self.tail = b""
        self.tell: Callable[[bytes], None] = _kept

    def dataReceived(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-MOST_SAID:]
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:  # noqa: N802  # Twisted's name
        self.tell(line)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802  # as above
        self.tell(line)


@implementer(IReadDescriptor)
class _Exit:
    """
    Sees a process end.
    """

    def __init__(self, process: subprocess.Popen[bytes], reactor: Any) -> None:
        self._process = process
        self._reactor = reactor
        self._fd = os.pidfd_open(process.pid)
        self.waiting: list[Deferred[None]] = []
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:  # noqa: N802  # Twisted's name
        return "ssh"

    def doRead(self) -> None:  # noqa: N802  # Twisted's name
        self.close()
        self._process.wait()
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._reactor.removeReader(self)
            os.close(self._fd)
            self._fd = -1


class SshProcess:
    """
    One that runs.

    :ivar end: our end of its standard input and output; whoever takes it closes it.
    """

    def __init__(self, started: StartedSsh, reactor: Any) -> None:
        self._reactor = reactor
        self._process = started.process
        self.end = started.end
        self._said = _Said()
        begin_stream(started.errors, self._said, reactor)
        self._exit = _Exit(self._process, reactor)

    @property
    def said(self) -> bytes:
        """
        The last of what it wrote to standard error.
        """
        return self._said.tail

    def tell(self, tell: Callable[[bytes], None]) -> None:
        """
        From now on, tell of each line of it.
        """
        self._said.tell = tell

    async def ended(self, seconds: float) -> int | None:
        """
        Wait for its end.

        :returns: its status, negative for a signal; None if it runs on.
        """
        if self._process.returncode is None:
            waiting: Deferred[None] = Deferred()
            self._exit.waiting.append(waiting)
            late = self._reactor.callLater(seconds, self._late, waiting)
            await waiting
            if late.active():
                late.cancel()
        # What it said last may be there, and not be read yet.
        await deferLater(self._reactor, 0)
        status: int | None = self._process.returncode
        return status

    def _late(self, waiting: Deferred[None]) -> None:
        if waiting in self._exit.waiting:
            self._exit.waiting.remove(waiting)
            waiting.callback(None)

    async def stop(self, at_once: bool = False) -> None:
        """
        See to it that it is gone.  Its socket is closed, or about to be.

        :param at_once: it has nothing to finish.
        """
        if at_once or await self.ended(ENDING) is None:
            self._signal(signal.SIGHUP)
            if await self.ended(ENDING) is None:
                self._signal(signal.SIGKILL)
                await self.ended(ENDING)
        self._exit.close()
        transport: Any = self._said.transport
        transport.abortConnection()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
