"""
TLS between two hosts that know each other's public keys, and trust nothing else.

Both ends show a certificate that was made at start from their Ed25519 key.  What it
says does not matter: its key is compared with the keys that are allowed, and TLS 1.3
proves that the other end holds the private one.  So there is no CA, no name, no
revocation, and no clock to be right.

- :class:`_Gate` stands between TLS and the protocol.  Nothing reaches the protocol
  before the handshake is over and the key was compared; the handshake has a deadline.
- The verification callback is called more than once for one certificate, and not at
  all for a peer that shows none or resumes a session.  So a certificate is required,
  sessions are never resumed, and the gate looks at the key again at the end.
- In TLS 1.3 a client's handshake is over before the server has seen its certificate:
  a client that was refused learns it from an alert, instead of the server's first
  words.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, Literal, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionLost, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from realize.errors import PeerGone, PeerRefused
from realize.net.records import BulkTLSFactory, BulkTLSTransport
from realize.peers import public_key_text

#: The protocol name (ALPN) that both sides insist on.
ALPN: Final = b"realize"

#: Seconds a handshake may take.
HANDSHAKE_DEADLINE: Final = 10

#: Seconds that closing may take before the connection is aborted.
CLOSE_DEADLINE: Final = 5

#: Connections that may be in their handshake at once, in all and from one address.  To
#: one more, the oldest of the address that has most gives way.
MAX_PENDING: Final = 256
MAX_PENDING_PER_ADDRESS: Final = 8

#: ``SSL_MODE_ENABLE_PARTIAL_WRITE``, for which pyOpenSSL has no name.
_PARTIAL_WRITE: Final = 0x1

#: Why a connection was refused: its key is not among those allowed; the handshake
#: failed in another way, or took too long; or too many were in their handshake.
RefusalReason = Literal["unknown key", "handshake", "deadline", "too many"]

#: Told of each refusal: from where, why, and a line for people.
RefusalObserver = Callable[[IAddress | None, RefusalReason, str], None]


def server_factory(
    wrapped: IProtocolFactory,
    key: Ed25519PrivateKey,
    is_allowed: Callable[[bytes], bool],
    clock: IReactorTime,
    refused: RefusalObserver | None = None,
    places: int = MAX_PENDING,
) -> TLSMemoryBIOFactory:
    """
    Let in who has an allowed key, and nobody else.

    The protocols of *wrapped* hear ``handshakeCompleted`` if they provide
    ``IHandshakeListener``, only then ``dataReceived``, and in any case
    ``connectionLost``.

    :param is_allowed: asked anew for each connection, with the 32 bytes of its key.
    :param refused: told of each connection that did not get as far as that.
    :param places: most connections in their handshake.
    """
    return _PinnedFactory(
        False, wrapped, key, is_allowed, clock, refused or _not_told, places
    )


def client_factory(
    wrapped: IProtocolFactory,
    key: Ed25519PrivateKey,
    expected: bytes,
    clock: IReactorTime,
) -> TLSMemoryBIOFactory:
    """
    Talk to the holder of the public key *expected* only.

    As for :func:`server_factory`; that the handshake is over does not mean that the
    server lets us in.  :func:`connection_error` tells what a ``connectionLost`` means.
    """
    return _PinnedFactory(
        True, wrapped, key, lambda offered: offered == expected, clock, _not_told
    )


def _not_told(_address: IAddress | None, _reason: RefusalReason, _text: str) -> None:
    """
    Who does not listen to refusals hears of them in ``connectionLost``, if at all.
    """


def peer_public_key(transport: Any) -> bytes:
    """
    The 32 bytes of the key of whoever is at the other end of a TLS transport.

    :raises PeerRefused: it has shown no Ed25519 key.
    """
    certificate = transport.getPeerCertificate()
    key = certificate and _certificate_key(certificate)
    if not key:
        raise PeerRefused("the peer showed no Ed25519 key")
    return key


def close_transport(
    transport: Any, clock: IReactorTime, await_goodbye: bool = True
) -> IDelayedCall:
    """
    Close a connection, politely at first.

    What was written is still sent, but whatever happens the connection is gone after
    :data:`CLOSE_DEADLINE`.  TLS alone would wait without limit, both for a producer to
    unregister and for a peer to answer.

    :param await_goodbye: False to save a round trip, where nothing that may still
        come from the peer matters; what has not arrived by then is lost.
    :returns: the end of the deadline; may be cancelled in ``connectionLost``.
    """
    if isinstance(transport, BulkTLSTransport):
        transport.awaits_goodbye = await_goodbye
    transport.unregisterProducer()
    transport.loseConnection()
    return clock.callLater(CLOSE_DEADLINE, transport.abortConnection)


def connection_error(reason: Failure) -> PeerGone | PeerRefused:
    """
    What the end of a connection, or of the attempt to make one, means to who made it.

    :param reason: as given to ``connectionLost``, or the failure of an endpoint.
    """
    error = reason.value
    if isinstance(error, PeerGone | PeerRefused):
        return error
    if not isinstance(error, SSL.Error):
        return PeerGone(_plain_text(reason))
    text = _ssl_text(error)
    if "certificate verify failed" in text:
        return PeerRefused("it has another key than the one expected")
    if _says_unknown_key(text):
        return PeerRefused("it does not know this host's key")
    return PeerRefused(f"it is no realized, or an incompatible one (TLS: {text})")


def _plain_text(reason: Failure) -> str:
    """
    What a failure of the network means, without Twisted's and the system's numbers.
    """
    error: Any = reason.value
    if reason.check(DNSLookupError):
        return "no address is known for this name"
    number = getattr(error, "osError", None)
    if isinstance(number, int):
        return os.strerror(number)
    if reason.check(ConnectionLost):
        # Twisted's own word for it says no more.
        why = " ".join(map(str, error.args)).replace("Connection lost", "").rstrip(".")
        return f"it was cut off: {why}" if why else "it was cut off without a goodbye"
    return reason.getErrorMessage().rstrip(".") or type(error).__name__


def _says_unknown_key(text: str) -> bool:
    """
    Whether it is OpenSSL's word for: the other end did not like our certificate.
    """
    return ("alert" in text and "certificate" in text) or "unknown ca" in text


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class _Creator:
    """
    Makes the OpenSSL end of a connection; what it verifies, the gate decides.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # A write of many records is one call then, not one for each.
        context.clear_mode(_PARTIAL_WRITE)
        context.use_certificate(_certificate(key))
        context.use_privatekey(key)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
        context.set_alpn_protos([ALPN])
        context.set_alpn_select_callback(_select_alpn)
        self._context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context)

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context)


def _certificate(key: Ed25519PrivateKey) -> x509.Certificate:
    """
    A certificate for *key*, signed by itself, that is valid whatever a clock shows.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "realize")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        .sign(key, algorithm=None)
    )


def _certificate_key(certificate: X509) -> bytes | None:
    """
    The Ed25519 key in a certificate that came from the other side, if there is one.
    """
    try:
        key = certificate.to_cryptography().public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


# Neither callback may raise: the exception would leave entries in OpenSSL's error
# queue, which belongs to the thread, and hit whichever connection comes next.


def _verify(
    connection: SSL.Connection, certificate: X509, _error: int, depth: int, _ok: int
) -> bool:
    # The error is ignored: it says that nobody vouches for the certificate, or that
    # a clock is wrong, and neither matters to us.
    # Twisted has set the TLS transport as the connection's data.
    gate: _Gate = connection.get_app_data().wrappedProtocol
    return gate.verify(certificate, depth)


def _select_alpn(connection: SSL.Connection, offered: list[bytes]) -> Any:
    # A client that offers nothing of ours is turned away by the gate, as is one that
    # offers nothing at all, for which this is not called.
    return ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


class _PinnedFactory(BulkTLSFactory):
    """
    TLS, and a gate between it and each protocol.

    :ivar pending: connections in their handshake, by host, the oldest first.
    """

    def __init__(
        self,
        is_client: bool,
        wrapped: IProtocolFactory,
        key: Ed25519PrivateKey,
        is_allowed: Callable[[bytes], bool],
        clock: IReactorTime,
        refused: RefusalObserver,
        places: int = MAX_PENDING,
    ) -> None:
        super().__init__(_Creator(key), is_client, wrapped, clock)
        self.is_allowed = is_allowed
        self.clock = clock
        self.refused = refused
        self.places = places
        self.pending: dict[str, dict[_Gate, None]] = {}

    def buildProtocol(  # type: ignore[override]  # None refuses the connection
        self, addr: IAddress | None
    ) -> TLSMemoryBIOProtocol | None:
        inner = self.wrappedFactory.buildProtocol(addr)
        if inner is None:
            return None
        host = _network(str(getattr(addr, "host", "")))
        gate = _Gate(inner, self, addr, host)
        self._make_room(host)
        self.pending.setdefault(host, {})[gate] = None
        return self.protocol(self, gate)

    def _make_room(self, host: str) -> None:
        """
        End a handshake if there are as many as may be: not the new one's, or whoever
        holds all places with connections that say nothing would keep out everybody.
        """
        if len(self.pending.get(host, ())) < MAX_PENDING_PER_ADDRESS:
            if sum(map(len, self.pending.values())) < self.places:
                return
            host = max(self.pending, key=self._weight)
        gates = self.pending[host]
        # Who has said something is more likely to be somebody.
        next((gate for gate in gates if gate.is_silent), next(iter(gates))).give_way()

    def _weight(self, host: str) -> tuple[int, bool]:
        gates = self.pending[host]
        return len(gates), next(iter(gates)).is_silent

    def leave_pending(self, host: str, gate: _Gate) -> None:
        """
        A connection from *host* has ended its handshake, one way or the other.
        """
        gates = self.pending[host]
        del gates[gate]
        if not gates:
            del self.pending[host]


def _network(host: str) -> str:
    """
    To whom an address belongs: of one of IPv6, the network of 64 bits.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))


@implementer(IHandshakeListener)
class _Gate(Protocol):
    """
    Stands between TLS and a protocol until the peer is known to be one of ours.

    :ivar offered: the last key that the peer showed, if it showed any.
    """

    offered: bytes | None = None

    def __init__(
        self,
        inner: IProtocol,
        policy: _PinnedFactory,
        address: IAddress | None,
        host: str,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._address = address
        self._host = host
        self._pending = True
        self._deadline: IDelayedCall | None = None
        # As of :class:`~realize.net.records.Roomy`: asked for what it says only.
        self.room: Any = getattr(inner, "room", None)
        self.filled: Any = getattr(inner, "filled", None)

    def verify(self, certificate: X509, depth: int) -> bool:
        """
        Whether a certificate that the peer showed is that of an allowed key.

        Only the peer's own counts, at depth 0: one that was signed with an allowed
        key is a stranger.
        """
        key = _certificate_key(certificate) if depth == 0 else None
        self.offered = key or self.offered
        return key is not None and self._policy.is_allowed(key)

    def connectionMade(self) -> None:
        self._deadline = self._policy.clock.callLater(
            HANDSHAKE_DEADLINE,
            self._refuse,
            "deadline",
            f"no TLS handshake within {HANDSHAKE_DEADLINE} s",
        )
        self._inner.makeConnection(cast(ITransport, self.transport))

    def handshakeCompleted(self) -> None:
        tls: Any = self.transport
        certificate = tls.getPeerCertificate()
        if certificate is None or not self.verify(certificate, depth=0):
            self._refuse("unknown key", self._unknown_key())
        elif tls.negotiatedProtocol != ALPN:
            self._refuse("handshake", "it does not speak the protocol of realize")
        else:
            self._leave_pending()
            if IHandshakeListener.providedBy(self._inner):
                self._inner.handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        self._inner.dataReceived(data)

    @property
    def is_silent(self) -> bool:
        """
        Whether nothing has come from the other end yet.
        """
        below = getattr(self.transport, "transport", None)
        return not getattr(below, "received", 0)

    def give_way(self) -> None:
        """
        End the handshake: there are too many.
        """
        self._leave_pending()
        text = "too many connections in their handshake"
        self._policy.refused(self._address, "too many", text)
        tls: Any = self.transport
        if tls is not None:
            tls.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._leave_pending():
            self._policy.refused(self._address, *self._explain(reason))
        self._inner.connectionLost(reason)

    def _refuse(self, reason: RefusalReason, text: str) -> None:
        self._leave_pending()
        self._policy.refused(self._address, reason, text)
        # Who says nothing does not refuse us: it may be busy, or its host hang.
        kind = PeerGone if reason == "deadline" else PeerRefused
        tls: Any = self.transport
        tls.failVerification(Failure(kind(text)))

    def _leave_pending(self) -> bool:
        """
        The time before authentication ends; False if it had ended before.
        """
        if not self._pending:
            return False
        self._pending = False
        self._policy.leave_pending(self._host, self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        return True

    def _explain(self, reason: Failure) -> tuple[RefusalReason, str]:
        if self.offered is not None and not self._policy.is_allowed(self.offered):
            return "unknown key", self._unknown_key()
        if isinstance(reason.value, SSL.Error):
            text = _ssl_text(reason.value)
            if _says_unknown_key(text):
                text = f"it expects another key of this host ({text})"
            return "handshake", f"TLS: {text}"
        return "handshake", "it left before its handshake was over"

    def _unknown_key(self) -> str:
        if self.offered is None:
            return "it showed no Ed25519 key"
        return f"unknown key {public_key_text(self.offered)}"


def _ssl_text(error: SSL.Error) -> str:
    """
    What OpenSSL says about an error, on one line.
    """
    entries = error.args[0] if error.args else ()
    return "; ".join(str(entry[-1]) for entry in entries) or type(error).__name__
