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
there already, from where the bytes were received, and reads what was encrypted into
one buffer for all connections.  What a result that is no number of bytes means is left
to pyOpenSSL.  Where pyOpenSSL is not made as that expects, :class:`_Documented` it is.

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

    def feed(self, tls: SSL.Connection, data: bytes) -> None:
        """
        Bytes have arrived on a connection, and what came before is decrypted, as far as
        it goes.

        The caller keeps *data* until it feeds again, or nothing more is decrypted.
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

    def feed(self, tls: SSL.Connection, data: bytes) -> None:
        tls.bio_write(data)

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
        self._bio_of: Any = lib.BIO_new_mem_buf
        self._go_on: Any = lib.BIO_set_mem_eof_return
        self._set_bio: Any = lib.SSL_set_bio
        self._address: Any = ffi.from_buffer
        self._null: Any = ffi.NULL
        # Used by one connection after the other.
        self._from: Any = ffi.new("char[]", ENCRYPTED)
        self._sent = memoryview(ffi.buffer(self._from))

    def feed(self, tls: SSL.Connection, data: bytes) -> None:
        # OpenSSL reads from *data* itself.  It frees what it has read from before, so
        # pyOpenSSL has to forget that too.
        bio = self._bio_of(self._address(data), len(data))
        if bio == self._null:
            raise MemoryError
        # At the end of the data there is no more yet, which is not the end of all.
        self._go_on(bio, -1)
        self._set_bio(tls._ssl, bio, tls._from_ssl)
        tls._into_ssl = bio

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


#: A record that says: no agreement (an alert, fatal, 40).
_NO_AGREEMENT: Final = b"\x15\x03\x03\x00\x02\x02\x28"


def engine() -> Engine:
    """
    The quickest that works with this pyOpenSSL.
    """
    tls = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    tls.set_connect_state()
    try:
        direct = _Direct()
        if _works(direct, tls):
            return direct
    except (ImportError, AttributeError, TypeError):
        pass
    return _Documented()


def _works(engine: Engine, tls: SSL.Connection) -> bool:
    """
    Whether a connection says hello, waits for an answer, and hears it.
    """
    into = vars(tls).get("_into_ssl")
    if [name for name, value in vars(tls).items() if value is into] != ["_into_ssl"]:
        return False  # what is to be forgotten has another name, or several
    scratch = memoryview(bytearray(1))
    _count, nothing = engine.decrypt(tls, scratch)
    if not isinstance(nothing, SSL.WantReadError) or not engine.encrypted(tls):
        return False
    engine.feed(tls, _NO_AGREEMENT)
    _count, alert = engine.decrypt(tls, scratch)
    return type(alert) is SSL.Error


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

    #: What OpenSSL reads from, once the handshake is over, and whether it has read all.
    _fed: bytes | None = None
    _drained = False

    def makeConnection(self, transport: ITransport) -> None:
        #: Hands bytes to the transport that hold only until it returns.
        self._write_below: Callable[[bytes | memoryview], None] = getattr(
            transport, "write_view", lambda data: transport.write(bytes(data))
        )
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if self._drained:
            self.factory.engine.feed(self._tlsConnection, data)
            self._fed = data
            if self._appSendBuffer:
                self._unbufferPendingWrites()
            self._flushReceiveBIO()
        elif self._fed is None:
            super().dataReceived(data)
        # Otherwise TLS has ended, and nothing more is looked at.

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
        self._drained = False
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
        self._drained = isinstance(end, SSL.WantReadError)
        if isinstance(end, SSL.ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        elif not self._drained:
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
