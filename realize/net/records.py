"""
TLS for bulk bytes: many records for each call from above and from below.

A record carries at most 16 KiB.  Twisted's TLS passes each on by itself, through every
layer above or below, and copies it on the way several times; most of what a large
file costs would be that.  Here what arrives is decrypted as far as it goes and handed
over at once, and what is written is encrypted where it lies and given to the
transport at once.

Only the two loops that move bytes are replaced.  The handshake, closing, producers,
and the gathering of small writes are Twisted's.

pyOpenSSL's own calls allocate and copy each time, which takes as long as the
cryptography.  So :class:`_Direct` calls OpenSSL itself: it decrypts into memory that is
there already, and reads what was encrypted into one buffer for all connections.  What
a result that is no number of bytes means is left to pyOpenSSL.  Where pyOpenSSL is not
made as that expects, :class:`_Documented` it is.

A protocol can say where bytes are to go: :class:`Roomy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, ITransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

#: Most bytes that are decrypted at once for a protocol that has no room for them.
PLAIN: Final = 256 * 1024

#: Bytes of records that are handed to the transport at once; a larger write becomes
#: several of them.
ENCRYPTED: Final = 272 * 1024

#: Most bytes in a record.
_RECORD: Final = 16 * 1024


class Roomy(Protocol):
    """
    What a protocol below TLS may have besides ``dataReceived``: it knows that many
    bytes come, and has memory for them.
    """

    def room(self) -> memoryview | None:
        """
        Where the next bytes are to be put, as far as they go; one at least.

        None: ``dataReceived`` gets them, no more than one record's at a time, and then
        this is asked again.
        """

    def filled(self, count: int) -> None:
        """
        The first *count* bytes of what :meth:`room` answered are there.
        """


class Engine(Protocol):
    """
    How bytes get into and out of OpenSSL.
    """

    def decrypt(
        self, tls: SSL.Connection, into: memoryview
    ) -> tuple[int, SSL.Error | None]:
        """
        Decrypt what has arrived on a connection.

        :returns: bytes put into *into*, and why there are no more, if it is not full.
        """

    def encrypted(self, tls: SSL.Connection) -> bytes | memoryview:
        """
        What OpenSSL has for the other end, at most :data:`ENCRYPTED` bytes.

        A view holds until this is called again, for whatever connection.
        """


class _Documented:
    """
    :class:`Engine` with what pyOpenSSL documents.
    """

    def decrypt(
        self, tls: SSL.Connection, into: memoryview
    ) -> tuple[int, SSL.Error | None]:
        have = 0
        try:
            while have < len(into):
                have += tls.recv_into(into[have : have + _RECORD])
        except SSL.Error as error:
            return have, error.with_traceback(None)
        return have, None

    def encrypted(self, tls: SSL.Connection) -> bytes | memoryview:
        try:
            return tls.bio_read(ENCRYPTED)
        except SSL.WantReadError:
            return b""  # there is nothing


class _Direct:
    """
    :class:`Engine` with what lies below pyOpenSSL.

    :raises ImportError, AttributeError: it is made in another way.
    """

    def __init__(self) -> None:
        from OpenSSL._util import ffi, lib

        self._ssl_read: Any = lib.SSL_read
        self._bio_read: Any = lib.BIO_read
        self._address: Any = ffi.from_buffer
        # Used by one connection after the other.
        self._from: Any = ffi.new("char[]", ENCRYPTED)
        self._sent = memoryview(ffi.buffer(self._from))

    def decrypt(
        self, tls: SSL.Connection, into: memoryview
    ) -> tuple[int, SSL.Error | None]:
        read, ssl, size = self._ssl_read, tls._ssl, len(into)
        address = self._address(into)
        have = 0
        while have < size:
            count = read(ssl, address + have, size - have)
            if count <= 0:
                try:
                    tls._raise_ssl_error(ssl, count)
                except SSL.Error as error:
                    # A traceback would hold *into* until Python looks for garbage.
                    return have, error.with_traceback(None)
                raise AttributeError("an error that pyOpenSSL does not know")
            have += count
        return have, None

    def encrypted(self, tls: SSL.Connection) -> bytes | memoryview:
        # Memory has no errors: what is no number of bytes is nothing.
        count = self._bio_read(tls._from_ssl, self._from, ENCRYPTED)
        return self._sent[: max(count, 0)]


def engine() -> Engine:
    """
    The quickest that works with this pyOpenSSL.
    """
    trial = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    trial.set_connect_state()
    try:
        direct = _Direct()
        # It says hello, and waits for an answer.
        _count, nothing = direct.decrypt(trial, memoryview(bytearray(1)))
        if isinstance(nothing, SSL.WantReadError) and direct.encrypted(trial):
            return direct
    except (ImportError, AttributeError, TypeError):
        pass
    return _Documented()


class BulkTLSTransport(BufferingTLSTransport):
    """
    The TLS layer of one connection.

    Its OpenSSL context must write a buffer whole (without
    ``SSL_MODE_ENABLE_PARTIAL_WRITE``); with that mode it works too, but slower.

    :ivar awaits_goodbye: whether closing waits until the other end has closed too.
        TLS does not ask for that of who needs nothing more from there.
    """

    factory: BulkTLSFactory
    awaits_goodbye = True

    def makeConnection(self, transport: ITransport) -> None:
        #: Hands bytes to the transport that hold only until it returns.
        self._write_below: Callable[[bytes | memoryview], None] = getattr(
            transport, "write_view", lambda data: transport.write(bytes(data))
        )
        super().makeConnection(transport)

    def writeSequence(self, sequence: Iterable[bytes | memoryview]) -> None:
        """
        Write pieces of any size, without joining or gathering them.

        Unlike elsewhere they may be views.  Nothing of them is used after the return.
        """
        self._aggregator.flush()
        if self._lostTLSConnection or (self.disconnecting and self._producer is None):
            return
        for piece in sequence:
            self._encrypt(piece)
        self._flushSendBIO()

    def _write(self, bytes: bytes) -> None:  # Twisted's name
        self._encrypt(bytes)
        self._flushSendBIO()

    def _encrypt(self, data: bytes | memoryview) -> None:
        """
        Hand *data* to OpenSSL; what it does not take now waits, in order.
        """
        if self._lostTLSConnection:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._tlsConnection.send(view) :]
        except SSL.WantReadError:
            self._bufferedWrite(bytes(view))
        except SSL.Error:
            # As in the base class: the end of TLS becomes that of the transport.
            self._tlsShutdownFinished(Failure())

    def _flushSendBIO(self) -> None:
        """
        Give the transport all that OpenSSL has for the other end.
        """
        encrypted = self.factory.engine.encrypted
        while data := encrypted(self._tlsConnection):
            self._write_below(data)
            if len(data) < ENCRYPTED:
                return

    def _flushReceiveBIO(self) -> None:
        """
        Decrypt what has arrived and hand it over, and then the end, if that came.
        """
        decrypt, scratch = self.factory.engine.decrypt, self.factory.scratch
        room_of: Callable[[], memoryview | None] | None
        room_of = getattr(self.wrappedProtocol, "room", None)
        if room_of is not None:
            scratch = scratch[:_RECORD]
        end: SSL.Error | None = None
        while end is None and not self._lostTLSConnection:
            room = None if room_of is None or self._aborted else room_of()
            count, end = decrypt(self._tlsConnection, scratch if room is None else room)
            if not count or self._aborted:
                continue
            if room is None:
                ProtocolWrapper.dataReceived(self, bytes(scratch[:count]))
            else:
                roomy: Any = self.wrappedProtocol
                roomy.filled(count)
        if self._lostTLSConnection:
            return
        if isinstance(end, SSL.ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        elif not isinstance(end, SSL.WantReadError):
            self._tlsShutdownFinished(Failure(end))
        # What arrived may have been answered by TLS itself.
        self._flushSendBIO()

    def _shutdownTLS(self) -> None:
        super()._shutdownTLS()
        if not self.awaits_goodbye:
            below: Any = self.transport
            below.loseConnection()


class BulkTLSFactory(TLSMemoryBIOFactory):
    """
    Makes the TLS layers of connections.

    :ivar engine: how their bytes get into and out of OpenSSL.
    :ivar scratch: where what arrives is decrypted, if it has no room of its own; used
        by one connection after the other.
    """

    protocol = BulkTLSTransport

    def __init__(
        self,
        creator: Any,
        is_client: bool,
        wrapped: IProtocolFactory,
        clock: IReactorTime,
    ) -> None:
        super().__init__(creator, is_client, wrapped, clock)
        self.engine = engine()
        self.scratch = memoryview(bytearray(PLAIN))
