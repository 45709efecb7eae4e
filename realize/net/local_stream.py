"""
Connections that are no network's: a socket between two processes, or between this one
and its standard input and output.

What is built on TCP works on them unchanged: limits, flow control, closing.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
from typing import Any, Final, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IProtocol
from twisted.internet.tcp import Connection

from realize.net.ssh_start import socket_pair
from realize.net.throttled import BULK

#: Bytes that a pipe of a session is made to hold.
PIPE: Final = 1024 * 1024

#: Seconds for which the last bytes are waited for when a stream ends.
LAST_BYTES: Final = 5.0


class LocalStream(Connection):
    """
    One end of a pair of connected sockets.
    """

    logstr = "LocalStream"

    def __init__(self, end: socket.socket, protocol: IProtocol, reactor: Any) -> None:
        super().__init__(end, protocol, reactor)
        self.connected = 1

    def getHost(self) -> UNIXAddress:  # Twisted's name
        """
        This end has no name.
        """
        return UNIXAddress(None)

    def getPeer(self) -> UNIXAddress:  # Twisted's name
        """
        Nor has the other.
        """
        return UNIXAddress(None)


def begin_stream(end: socket.socket, protocol: IProtocol, reactor: Any) -> None:
    """
    Connect a protocol to one end of a pair of sockets, which is its own from now on.
    """
    stream = LocalStream(end, protocol, reactor)
    protocol.makeConnection(cast(Any, stream))
    if not stream.disconnected:
        stream.startReading()


class StandardStream:
    """
    Standard input and output of this process as one socket.

    Two threads carry the bytes, since either may be anything: pipes as sshd gives them,
    a file, a terminal.  Neither keeps the process from ending.

    :ivar end: the socket.  It comes to its end when standard input does.
    """

    def __init__(self, source: int = 0, target: int = 1) -> None:
        self.end, inner = socket_pair()
        for fd in (source, target):
            _enlarge(fd)
            os.set_blocking(fd, True)
        self._inner = inner
        reading = threading.Thread(
            target=self._carry_in, args=(source,), daemon=True, name="input"
        )
        self._writing = threading.Thread(
            target=self._carry_out, args=(target,), daemon=True, name="output"
        )
        reading.start()
        self._writing.start()

    def drain(self) -> None:
        """
        Wait until what was written has left, at most :data:`LAST_BYTES`.  Blocks.
        """
        self._writing.join(LAST_BYTES)

    def _carry_in(self, source: int) -> None:
        _carry(source, self._inner.fileno())
        _shut(self._inner, socket.SHUT_WR)

    def _carry_out(self, target: int) -> None:
        if not _carry(self._inner.fileno(), target):
            # Nobody reads any more: what is written on is not kept.
            _shut(self._inner, socket.SHUT_RDWR)
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), target)


def _carry(source: int, target: int) -> bool:
    """
    Carry bytes until there are no more.

    :returns: False if they could not be delivered.
    """
    buffer = memoryview(bytearray(BULK))
    while True:
        try:
            count = os.readv(source, [buffer])
        except OSError:
            return True
        if not count:
            return True
        rest = buffer[:count]
        while rest:
            try:
                rest = rest[os.write(target, rest) :]
            except OSError:
                return False


def _shut(end: socket.socket, how: int) -> None:
    try:
        end.shutdown(how)
    except OSError:
        return


def _enlarge(fd: int) -> None:
    """
    Have a pipe hold more; one of many, or an unprivileged user's, may have to do.
    """
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)
    except OSError:
        return
