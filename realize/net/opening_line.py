"""
The line with which a session on standard input and output begins.

A login shell may print what it likes before it.  So whoever has started the other end
looks for the line, within a bound, and keeps what came before it, which is what the
user has to be told if the line never comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.interfaces import IAddress, IHandshakeListener, IProtocolFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

#: The line.  Not text that somebody would print.
LINE: Final = b"\x00realize-session\n"

#: Most bytes that may come before it.
MOST_BEFORE: Final = 64 * 1024


class _Opened(ProtocolWrapper):
    """
    A connection whose other end needs no proof of who it is: ssh has seen to that.
    """

    factory: Any

    def write_view(self, data: bytes | memoryview) -> None:
        """
        As of what is below.
        """
        self.transport.write_view(data)  # type: ignore[union-attr]

    def writeSequence(self, data: Iterable[bytes]) -> None:
        # Nothing has to be encrypted in one piece here.
        for each in data:
            self.write_view(each)

    def _begin(self) -> None:
        listener = IHandshakeListener(self.wrappedProtocol)
        listener.handshakeCompleted()


class Saying(_Opened):
    """
    The end that says the line.
    """

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.write(LINE)
        self._begin()


class Awaiting(_Opened):
    """
    The end that looks for it.

    :ivar before: what came before it.
    :ivar found: whether it came.
    :ivar late: whether it was given up.
    """

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self.before = bytearray()
        self.found = self.late = False

    def dataReceived(self, data: bytes) -> None:
        if self.found:
            super().dataReceived(data)
            return
        self.before += data
        at = self.before.find(LINE)
        if at < 0:
            if len(self.before) > MOST_BEFORE:
                del self.before[MOST_BEFORE:]
                self.abortConnection()
            return
        rest = bytes(self.before[at + len(LINE) :])
        del self.before[at:]
        self.found = True
        self._begin()
        if rest:
            super().dataReceived(rest)

    def give_up(self) -> None:
        """
        Close, if the line has not come.
        """
        if not self.found:
            self.late = True
            self.abortConnection()

    def abortConnection(self) -> None:
        """
        Close at once.
        """
        self.transport.abortConnection()  # type: ignore[union-attr]


class OpenedFactory(WrappingFactory[_Opened]):
    """
    Puts one of the two below each protocol of a factory.

    :param kind: which.
    """

    noisy = False

    def __init__(self, kind: type[_Opened], wrapped: IProtocolFactory) -> None:
        super().__init__(wrapped)
        self.protocol = kind

    def buildProtocol(self, addr: IAddress | None) -> _Opened:
        return self.protocol(self, self.wrappedFactory.buildProtocol(addr))
