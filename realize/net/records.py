"""
TLS for bulk bytes: many records for each call from above and from below.

A record carries at most 16 KiB.  Twisted's TLS passes each on by itself, through every
layer above or below, and copies it on the way several times; most of what a large
file costs would be that.  Here what arrives is decrypted as far as it goes and handed
over at once, and what is written is encrypted where it lies and given to the
transport at once.

Only the two loops that move bytes are replaced.  The handshake, closing, producers,
and the gathering of small writes are Twisted's.

pyOpenSSL's ``recv`` allocates and copies each record and looks for an error after it,
which takes as long as decrypting.  So :class:`_Direct` calls ``SSL_read`` itself, and
leaves to pyOpenSSL what a result that is no number of bytes means.  Where pyOpenSSL is
not made as that expects, ``recv`` it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn, cast

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, ITransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

#: Bytes that are decrypted at once; more become several pieces, that are joined.
PLAIN: Final = 256 * 1024

#: Bytes of records that are handed to the transport at once; a larger write becomes
#: several of them.
ENCRYPTED: Final = 272 * 1024

#: Most bytes in a record.
_RECORD: Final = 16 * 1024

#: Decrypts what has arrived on a connection and appends it to a list, until pyOpenSSL
#: has an error to raise, be it that there is no more.
Decrypt = Callable[[SSL.Connection, list[bytes]], NoReturn]


def _plain(tls: SSL.Connection, pieces: list[bytes]) -> NoReturn:
    """
    :data:`Decrypt` with what pyOpenSSL documents.
    """
    while True:
        pieces.append(tls.recv(_RECORD))


class _Direct:
    """
    :data:`Decrypt` with what lies below pyOpenSSL.

    :raises ImportError, AttributeError: it is made in another way.
    """

    def __init__(self) -> None:
        from OpenSSL._util import ffi, lib

        self._read: Any = lib.SSL_read
        self._copy: Any = ffi.buffer
        # Used by one connection after the other; nothing of it beyond one call.
        self._into: Any = ffi.new("char[]", PLAIN)

    def __call__(self, tls: SSL.Connection, pieces: list[bytes]) -> NoReturn:
        read, into, ssl = self._read, self._into, tls._ssl
        while True:
            have, count = 0, 1
            while count > 0 and have < PLAIN:
                count = read(ssl, into + have, PLAIN - have)
                have += max(count, 0)
            if have:
                pieces.append(self._copy(into, have)[:])
            if count <= 0:
                tls._raise_ssl_error(ssl, count)
                raise AttributeError("an error that pyOpenSSL does not know")


def decrypting() -> Decrypt:
    """
    The quickest way to decrypt that works with this pyOpenSSL.
    """
    trial, pieces = SSL.Connection(SSL.Context(SSL.TLS_METHOD)), list[bytes]()
    trial.set_connect_state()
    try:
        direct = _Direct()
        direct(trial, pieces)
    except SSL.WantReadError:
        return direct
    except (ImportError, AttributeError, TypeError, SSL.Error):
        return _plain


class BulkTLSTransport(BufferingTLSTransport):
    """
    The TLS layer of one connection.

    Its OpenSSL context must write a buffer whole (without
    ``SSL_MODE_ENABLE_PARTIAL_WRITE``); with that mode it works too, but slower.
    """

    factory: BulkTLSFactory

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
        write = cast(ITransport, self.transport).write
        more = True
        try:
            while more:
                data = self._tlsConnection.bio_read(ENCRYPTED)
                more = len(data) == ENCRYPTED
                write(data)
        except SSL.WantReadError:
            return  # there was nothing

    def _flushReceiveBIO(self) -> None:
        """
        Decrypt what has arrived and hand it over, and then the end, if that came.
        """
        if self._lostTLSConnection:
            return
        pieces: list[bytes] = []
        ended = False
        failure: Failure | None = None
        try:
            self.factory.decrypt(self._tlsConnection, pieces)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            ended = True
        except SSL.Error:
            failure = Failure()
        if pieces and not self._aborted:
            ProtocolWrapper.dataReceived(self, b"".join(pieces))
        if (ended or failure) and not self._lostTLSConnection:
            if ended:
                self._shutdownTLS()
            self._tlsShutdownFinished(failure)
        # What arrived may have been answered by TLS itself.
        self._flushSendBIO()


class BulkTLSFactory(TLSMemoryBIOFactory):
    """
    Makes the TLS layers of connections.

    :ivar decrypt: how they decrypt what arrives.
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
        self.decrypt = decrypting()
