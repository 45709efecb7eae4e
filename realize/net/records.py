"""
TLS for bulk bytes: many records for each call from above and from below.

A record carries at most 16 KiB.  Twisted's TLS passes each on by itself, through every
layer above or below, and copies it on the way several times; most of what a large
file costs would be that.  Here what arrives is decrypted as far as it goes and handed
over at once, and what is written is encrypted where it lies and given to the
transport at once.

Only the two loops that move bytes are replaced.  The handshake, closing, producers,
and the gathering of small writes are Twisted's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from OpenSSL import SSL
from twisted.internet.interfaces import ITransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure

#: Most bytes of file data in a record.
RECORD: Final = 16 * 1024

#: Bytes of records that are handed to the transport at once; a larger write becomes
#: several of them.
ENCRYPTED: Final = 272 * 1024


class BulkTLSTransport(BufferingTLSTransport):
    """
    The TLS layer of one connection.

    Its OpenSSL context must write a buffer whole (without
    ``SSL_MODE_ENABLE_PARTIAL_WRITE``); with that mode it works too, but slower.
    """

    def writeSequence(self, sequence: Iterable[bytes | memoryview]) -> None:
        """
        Write pieces of any size, without joining or gathering them.

        Unlike elsewhere they may be views.  Nothing of them is used after the return.
        """
        self._aggregator.flush()
        if self.disconnecting and self._producer is None:
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
        try:
            while True:
                write(self._tlsConnection.bio_read(ENCRYPTED))
        except SSL.WantReadError:
            return

    def _flushReceiveBIO(self) -> None:
        """
        Decrypt what has arrived and hand it over, and then the end, if that came.
        """
        if self._lostTLSConnection:
            return
        receive = self._tlsConnection.recv
        records: list[bytes] = []
        ended = False
        failure: Failure | None = None
        try:
            while True:
                records.append(receive(RECORD))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            ended = True
        except SSL.Error:
            failure = Failure()
        if records and not self._aborted:
            ProtocolWrapper.dataReceived(self, b"".join(records))
        if (ended or failure) and not self._lostTLSConnection:
            if ended:
                self._shutdownTLS()
            self._tlsShutdownFinished(failure)
        # What arrived may have been answered by TLS itself.
        self._flushSendBIO()
