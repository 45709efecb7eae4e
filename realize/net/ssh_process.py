"""
The system's ``ssh`` as a process of ours: one socket is its standard input and output.

- It is in a session of its own, so that what a terminal sends to this program does not
  end it first; or where it may ask the user something, in ours with SIGINT blocked.
- It ends when the socket is closed.  If it does not, it is told to, and then killed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from zope.interface import implementer

from realize.errors import PeerRefused
from realize.net.local_stream import begin_stream, socket_pair
from realize.net.ssh_command import SshChoice, SshHost

#: Bytes of standard error that are kept, the last ones.
MOST_SAID: Final = 8 * 1024

#: Seconds for which the end of the process is waited for once its socket is closed,
#: and again once it was told to end.
ENDING: Final = 3.0

#: Seconds that ssh may take to say what is configured.
CONFIGURED: Final = 5.0


def may_ask() -> bool:
    """
    Whether a person is at a terminal whom ssh may ask for a password.
    """
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        return False


class _Said(Protocol):
    """
    What ssh writes to standard error.
    """

    def __init__(self) -> None:
        self.tail = b""

    def dataReceived(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-MOST_SAID:]


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

    :param words: the whole command.
    :param asks: whether it may ask the user something.
    :ivar end: our end of its standard input and output; whoever takes it closes it.
    :raises PeerRefused: it cannot be started; says what to do.
    """

    def __init__(self, words: Sequence[str], reactor: Any, asks: bool) -> None:
        self._reactor = reactor
        self.end, theirs = socket_pair()
        ours, errors = socket.socketpair()
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGINT} if asks else ()
        )
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own words
                words,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=errors.fileno(),
                start_new_session=not asks,
            )
        except OSError as error:
            self.end.close()
            ours.close()
            raise PeerRefused(
                f"{words[0]} cannot be started: {error.strerror}; install it (Debian: "
                "openssh-client), or name another with --ssh COMMAND"
            ) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            errors.close()
        self._said = _Said()
        begin_stream(ours, self._said, reactor)
        self._exit = _Exit(self._process, reactor)

    @property
    def said(self) -> bytes:
        """
        The last of what it wrote to standard error.
        """
        return self._said.tail

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


async def prefers_ciphers(choice: SshChoice, host: SshHost, reactor: Any) -> bool:
    """
    Whether the user's configuration leaves the ciphers to us, as far as ssh can tell.
    """
    asked = [choice.asking(host), choice.asking_defaults]
    answers = [Deferred.fromCoroutine(_ciphers(words, reactor)) for words in asked]
    chosen, usual = [await answer for answer in answers]
    return chosen is not None and chosen == usual


async def _ciphers(words: Sequence[str], reactor: Any) -> bytes | None:
    try:
        running = getProcessOutputAndValue(
            words[0], words[1:], os.environ, reactor=reactor
        )
        out, _err, status = await running.addTimeout(CONFIGURED, reactor)
    except Exception:  # noqa: BLE001 - whatever it is, ssh itself will tell
        return None
    for line in out.splitlines():
        if status == 0 and line.startswith(b"ciphers "):
            return bytes(line)
    return None
