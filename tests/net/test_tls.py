"""
Who gets in, who does not, and what each side hears of it: real TLS, in memory.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from attrs import Factory as Default
from attrs import define
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface import implementer

from realize.errors import PeerGone, PeerRefused
from realize.net.keys import public_bytes
from realize.net.tls import (
    CLOSE_DEADLINE,
    HANDSHAKE_DEADLINE,
    MAX_PENDING,
    MAX_PENDING_PER_ADDRESS,
    client_factory,
    close_transport,
    connection_error,
    peer_public_key,
    server_factory,
)
from realize.peers import public_key_text

SERVER_KEY = Ed25519PrivateKey.generate()
CLIENT_KEY = Ed25519PrivateKey.generate()
STRANGER_KEY = Ed25519PrivateKey.generate()


@implementer(IHandshakeListener)
class Recorder(Protocol):
    """
    Says a word when the handshake is over, and remembers what it hears.
    """

    def __init__(self, greeting: bytes = b"") -> None:
        self.greeting = greeting
        self.handshakes = 0
        self.received = b""
        self.lost: Failure | None = None

    def handshakeCompleted(self) -> None:
        self.handshakes += 1
        assert self.transport is not None
        if self.greeting:
            self.transport.write(self.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


def made_by(protocol: Protocol) -> Factory[Protocol]:
    """
    A factory of this one protocol.
    """
    factory: Factory[Protocol] = Factory()
    factory.buildProtocol = lambda _addr: protocol  # type: ignore[method-assign]
    return factory


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Foreign:
    """
    The other end as somebody else might have set it up.
    """

    def __init__(self, change: Callable[[SSL.Context], None]) -> None:
        self.context = SSL.Context(SSL.TLS_METHOD)
        self.context.set_alpn_protos([b"realize"])
        self.context.set_verify(SSL.VERIFY_NONE)
        change(self.context)

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self.context)

    serverConnectionForTLS = clientConnectionForTLS


def certificate(
    key: Any,
    *,
    issuer: Ed25519PrivateKey | None = None,
    begins: int = 2020,
    ends: int = 2040,
) -> x509.Certificate:
    """
    A certificate for *key*, signed by *issuer* or else by itself.
    """

    def name(owner: Any) -> x509.Name:
        digest = x509.SubjectKeyIdentifier.from_public_key(owner.public_key()).digest
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, digest.hex())])

    signer = issuer or key
    return (
        x509.CertificateBuilder()
        .subject_name(name(key))
        .issuer_name(name(signer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(begins, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(ends, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(
            signer,
            None if isinstance(signer, Ed25519PrivateKey) else hashes.SHA256(),
        )
    )


@define
class Meeting:
    """
    A server that allows some keys, and clients that come to it.
    """

    clock: Clock = Default(Clock)
    allowed: set[bytes] = Default(lambda: {public_bytes(CLIENT_KEY)})
    refusals: list[tuple[str, str]] = Default(list)
    server: Recorder = Default(lambda: Recorder(b"welcome"))
    client: Recorder = Default(lambda: Recorder(b"hello"))

    def server_factory(self) -> TLSMemoryBIOFactory:
        """
        The server under test.
        """
        return server_factory(
            made_by(self.server),
            SERVER_KEY,
            lambda key: key in self.allowed,
            self.clock,
            lambda _address, reason, text: self.refusals.append((reason, text)),
        )

    def client_factory(self, key: Ed25519PrivateKey) -> TLSMemoryBIOFactory:
        """
        The client under test.
        """
        return client_factory(
            made_by(self.client), key, public_bytes(SERVER_KEY), self.clock
        )

    def foreign_client(
        self, change: Callable[[SSL.Context], None]
    ) -> TLSMemoryBIOFactory:
        """
        A client with a TLS of its own.
        """
        return TLSMemoryBIOFactory(
            Foreign(change), True, made_by(self.client), self.clock
        )

    def meet(self, server: TLSMemoryBIOFactory, client: Any) -> IOPump:
        """
        Connect two ends and let them talk until both are silent.
        """
        ends = [
            factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1000))
            for factory in (server, client)
        ]
        pump: IOPump = connect(
            ends[0],
            FakeTransport(ends[0], isServer=True),
            ends[1],
            FakeTransport(ends[1], isServer=False),
            clock=self.clock,
        )
        pump.flush()
        return pump

    def assert_turned_away(self, reason: str, text: str) -> None:
        """
        The server's protocol heard nothing but the end, and the refusal was told once.
        """
        assert self.server.handshakes == 0
        assert self.server.received == b""
        assert self.server.lost is not None
        assert self.refusals == [(reason, text)]
        assert self.clock.getDelayedCalls() == []


def uses(certificate: x509.Certificate, key: Any) -> Callable[[SSL.Context], None]:
    """
    Show this certificate.
    """

    def change(context: SSL.Context) -> None:
        context.use_certificate(certificate)
        context.use_privatekey(key)

    return change


def test_two_that_know_each_other() -> None:
    """
    Both ends learn the other's key, and talk TLS 1.3.
    """
    meeting = Meeting()
    meeting.meet(meeting.server_factory(), meeting.client_factory(CLIENT_KEY))

    assert meeting.client.received == b"welcome"
    assert meeting.server.received == b"hello"
    assert meeting.server.handshakes == meeting.client.handshakes == 1
    assert peer_public_key(meeting.server.transport) == public_bytes(CLIENT_KEY)
    assert peer_public_key(meeting.client.transport) == public_bytes(SERVER_KEY)
    tls: Any = meeting.server.transport
    assert tls.getHandle().get_protocol_version_name() == "TLSv1.3"
    assert tls.negotiatedProtocol == b"realize"
    assert meeting.refusals == []
    # The deadline of the handshake is over with it.
    assert meeting.clock.getDelayedCalls() == []


def test_unknown_key() -> None:
    """
    The server's log has the key to allow; the client, whose own handshake succeeds,
    hears from an alert that it is unknown.
    """
    meeting = Meeting()
    meeting.meet(meeting.server_factory(), meeting.client_factory(STRANGER_KEY))

    key = public_key_text(public_bytes(STRANGER_KEY))
    meeting.assert_turned_away("unknown key", f"unknown key {key}")
    assert meeting.client.received == b""
    assert meeting.client.lost is not None
    error = connection_error(meeting.client.lost)
    assert isinstance(error, PeerRefused)
    assert str(error) == "it does not know this host's key"


def test_keys_are_asked_about_at_each_connection() -> None:
    """
    A key can be allowed and removed while the server runs.
    """
    meeting = Meeting(allowed=set())
    server = meeting.server_factory()
    for expected in (0, 1, 0):
        meeting.server.handshakes = 0
        meeting.meet(server, meeting.client_factory(CLIENT_KEY))
        assert meeting.server.handshakes == expected
        meeting.allowed ^= {public_bytes(CLIENT_KEY)}


def test_key_removed_during_the_handshake() -> None:
    """
    What counts is whether the key is allowed when the handshake is over.
    """
    meeting = Meeting()
    answers = iter([True])
    server = server_factory(
        made_by(meeting.server),
        SERVER_KEY,
        lambda _key: next(answers, False),
        meeting.clock,
        lambda _address, reason, text: meeting.refusals.append((reason, text)),
    )
    meeting.meet(
        server, meeting.foreign_client(uses(certificate(CLIENT_KEY), CLIENT_KEY))
    )
    key = public_key_text(public_bytes(CLIENT_KEY))
    meeting.assert_turned_away("unknown key", f"unknown key {key}")


def test_unexpected_server() -> None:
    """
    The client gives nothing away to a server with another key.
    """
    meeting = Meeting()
    client = client_factory(
        made_by(meeting.client), CLIENT_KEY, public_bytes(STRANGER_KEY), meeting.clock
    )
    meeting.meet(meeting.server_factory(), client)

    assert meeting.client.handshakes == 0
    assert meeting.client.lost is not None
    error = connection_error(meeting.client.lost)
    assert isinstance(error, PeerRefused)
    assert str(error) == "it has another key than the one expected"
    assert meeting.server.received == b""


def test_no_certificate() -> None:
    """
    A client that shows nothing is not let in for want of a reason to refuse it.
    """
    meeting = Meeting()
    meeting.meet(
        meeting.server_factory(), meeting.foreign_client(lambda _context: None)
    )

    meeting.assert_turned_away("handshake", "TLS: peer did not return a certificate")
    assert meeting.client.lost is not None
    assert isinstance(connection_error(meeting.client.lost), PeerRefused)


def test_another_kind_of_key() -> None:
    """
    Only Ed25519 keys are compared, so no other can be mistaken for one.
    """
    meeting = Meeting()
    key = ec.generate_private_key(ec.SECP256R1())
    meeting.meet(
        meeting.server_factory(), meeting.foreign_client(uses(certificate(key), key))
    )
    meeting.assert_turned_away("handshake", "TLS: certificate verify failed")


def test_certificate_signed_by_an_allowed_key() -> None:
    """
    An allowed key vouches for nobody else, though it could sign certificates.
    """
    meeting = Meeting()
    authority = certificate(CLIENT_KEY)

    def change(context: SSL.Context) -> None:
        leaf = certificate(STRANGER_KEY, issuer=CLIENT_KEY)
        uses(leaf, STRANGER_KEY)(context)
        context.add_extra_chain_cert(authority)

    meeting.meet(meeting.server_factory(), meeting.foreign_client(change))
    meeting.assert_turned_away("handshake", "TLS: certificate verify failed")


def test_chains() -> None:
    """
    A certificate stands for itself; one that somebody else signed is not of our making.
    """
    meeting = Meeting(allowed={public_bytes(CLIENT_KEY), public_bytes(STRANGER_KEY)})

    def change(context: SSL.Context) -> None:
        uses(certificate(CLIENT_KEY, issuer=STRANGER_KEY), CLIENT_KEY)(context)
        context.add_extra_chain_cert(certificate(STRANGER_KEY))

    meeting.meet(meeting.server_factory(), meeting.foreign_client(change))
    meeting.assert_turned_away("handshake", "TLS: certificate verify failed")


@pytest.mark.parametrize(("begins", "ends"), [(1980, 1990), (2200, 2300)])
def test_clocks_do_not_matter(begins: int, ends: int) -> None:
    """
    A camera that believes it is 1970 has a certificate from the future, or an old one.
    """
    meeting = Meeting()
    shown = certificate(CLIENT_KEY, begins=begins, ends=ends)
    meeting.meet(
        meeting.server_factory(), meeting.foreign_client(uses(shown, CLIENT_KEY))
    )
    assert meeting.server.handshakes == 1
    assert meeting.server.received == b"hello"


def test_old_tls() -> None:
    """
    TLS 1.2 would show the certificates to anybody who listens.
    """
    meeting = Meeting()

    def change(context: SSL.Context) -> None:
        uses(certificate(CLIENT_KEY), CLIENT_KEY)(context)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)

    meeting.meet(meeting.server_factory(), meeting.foreign_client(change))
    meeting.assert_turned_away("handshake", "TLS: unsupported protocol")


@pytest.mark.parametrize("offered", [[], [b"h2", b"http/1.1"]])
def test_another_protocol(offered: list[bytes]) -> None:
    """
    An allowed key is not enough: the client has to mean this protocol.
    """
    meeting = Meeting()
    client = Foreign(uses(certificate(CLIENT_KEY), CLIENT_KEY))
    client.context = SSL.Context(SSL.TLS_METHOD)
    uses(certificate(CLIENT_KEY), CLIENT_KEY)(client.context)
    if offered:
        client.context.set_alpn_protos(offered)
    meeting.meet(
        meeting.server_factory(),
        TLSMemoryBIOFactory(client, True, made_by(meeting.client), meeting.clock),
    )
    meeting.assert_turned_away("handshake", "it does not speak the protocol of realize")


def test_server_of_another_protocol() -> None:
    """
    The client insists on the protocol too.
    """
    meeting = Meeting()
    server = TLSMemoryBIOFactory(
        Foreign(uses(certificate(SERVER_KEY), SERVER_KEY)),
        False,
        made_by(meeting.server),
        meeting.clock,
    )
    meeting.meet(server, meeting.client_factory(CLIENT_KEY))
    assert meeting.client.handshakes == 0
    assert meeting.client.lost is not None
    error = connection_error(meeting.client.lost)
    assert isinstance(error, PeerRefused)
    assert str(error) == "it does not speak the protocol of realize"


class Plain(Protocol):
    """
    Does not speak TLS at all.
    """

    def __init__(self, said: bytes) -> None:
        self.said = said

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.said)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "TLS: http request"),
        (b"\x00\x04_ask\x00\x011" * 100, "TLS: wrong version number"),
        (bytes(range(256)) * 300, "TLS: wrong version number"),
    ],
)
def test_no_tls(said: bytes, text: str) -> None:
    """
    Plain text and garbage end the connection, with one line, and harm no other.
    """
    meeting = Meeting()
    server = meeting.server_factory()
    meeting.meet(server, made_by(Plain(said)))
    meeting.assert_turned_away("handshake", text)

    meeting.meet(server, meeting.client_factory(CLIENT_KEY))
    assert meeting.server.received == b"hello"


def test_silence() -> None:
    """
    A handshake has a deadline, for one who says nothing and one who does so slowly.
    """
    meeting = Meeting()
    slow = Plain(b"\x16")
    pump = meeting.meet(meeting.server_factory(), made_by(slow))
    assert slow.transport is not None

    for byte in b"\x03\x01\x01\x00\x01\x00\x00\xfc\x03":
        meeting.clock.advance(HANDSHAKE_DEADLINE / 10)
        slow.transport.write(bytes([byte]))
        pump.flush()
    assert meeting.refusals == []
    meeting.clock.advance(HANDSHAKE_DEADLINE / 10)
    pump.flush()
    meeting.assert_turned_away("deadline", "no TLS handshake within 10 s")


def test_a_server_that_hangs() -> None:
    """
    It does not refuse anybody: trying again later can help.
    """
    meeting = Meeting()
    pump = meeting.meet(made_by(Plain(b"")), meeting.client_factory(CLIENT_KEY))
    meeting.clock.advance(HANDSHAKE_DEADLINE)
    pump.flush()
    assert meeting.client.lost is not None
    error = connection_error(meeting.client.lost)
    assert type(error) is PeerGone
    assert str(error) == "no TLS handshake within 10 s"


def test_a_server_that_leaves_early() -> None:
    """
    Nor does one that is gone before the handshake is over.
    """
    meeting = Meeting()
    server = Plain(b"")
    pump = meeting.meet(made_by(server), meeting.client_factory(CLIENT_KEY))
    assert server.transport is not None
    server.transport.loseConnection()
    pump.flush()
    assert meeting.client.lost is not None
    assert type(connection_error(meeting.client.lost)) is PeerGone


def test_leaving_early() -> None:
    """
    A connection that is closed again, as by a port scan, leaves nothing behind.
    """
    meeting = Meeting()
    plain = Plain(b"")
    pump = meeting.meet(meeting.server_factory(), made_by(plain))
    assert plain.transport is not None
    plain.transport.loseConnection()
    pump.flush()
    meeting.assert_turned_away("handshake", "it left before its handshake was over")


def gates(server: Any) -> int:
    """
    How many connections are in their handshake.
    """
    return sum(map(len, server.pending.values()))


def test_too_many_from_one_address() -> None:
    """
    One address has a few handshakes at a time: its oldest gives way to a new one, and
    those that ended do not count.
    """
    meeting = Meeting()
    server = meeting.server_factory()
    pumps = [
        meeting.meet(server, made_by(Plain(b"")))
        for _ in range(MAX_PENDING_PER_ADDRESS)
    ]
    assert gates(server) == MAX_PENDING_PER_ADDRESS
    meeting.meet(server, meeting.client_factory(CLIENT_KEY))
    assert meeting.server.handshakes == 1
    for pump in pumps:
        pump.flush()
    assert [pump.serverIO.disconnected for pump in pumps] == [True] + [False] * 7
    assert meeting.refusals == [("too many", "too many connections in their handshake")]
    assert gates(server) == MAX_PENDING_PER_ADDRESS - 1

    pumps[1].clientIO.loseConnection()
    pumps[1].flush()
    for _ in range(2):
        meeting.meet(server, meeting.client_factory(CLIENT_KEY))
    assert meeting.server.handshakes == 3
    assert [pump.serverIO.disconnected for pump in pumps].count(True) == 2


def connected(meeting: Meeting, server: Any, host: str) -> Any:
    """
    A connection from somewhere that says nothing.
    """
    family = IPv6Address if ":" in host else IPv4Address
    protocol = server.buildProtocol(family("TCP", host, 1))
    protocol.makeConnection(StringTransport())
    return protocol


def test_too_many_in_all() -> None:
    """
    However many addresses somebody has, the handshakes are bounded, and somebody else
    finds a place: that of the oldest, of the address that has most.
    """
    meeting = Meeting()
    server = meeting.server_factory()
    twice = [connected(meeting, server, "203.0.113.1") for _ in range(2)]
    for number in range(MAX_PENDING - 2):
        connected(meeting, server, f"198.51.{number // 200}.{number % 200}")
    assert meeting.refusals == []
    connected(meeting, server, "203.0.113.2")
    assert [each.transport.disconnected for each in twice] == [True, False]
    assert gates(server) == MAX_PENDING
    connected(meeting, server, "203.0.113.3")
    assert gates(server) == MAX_PENDING
    assert len(meeting.refusals) == 2


@pytest.mark.parametrize(
    ("addresses", "networks"),
    [
        (["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"], 2),
        (["::ffff:192.0.2.1", "192.0.2.1"], 1),
        (["fe80::1%eth0", "fe80::2%eth1"], 1),
        (["192.0.2.1", "192.0.2.2"], 2),
    ],
)
def test_addresses_of_one(addresses: list[str], networks: int) -> None:
    """
    Whoever has one address of IPv6 has 2**64.
    """
    meeting = Meeting()
    server: Any = meeting.server_factory()
    for each in addresses:
        connected(meeting, server, each)
    assert len(server.pending) == networks


@implementer(IPushProducer)
class Endless:
    """
    A producer that never ends by itself.
    """

    def pauseProducing(self) -> None:
        """
        Nothing to pause.
        """

    def resumeProducing(self) -> None:
        """
        Nothing to resume.
        """

    def stopProducing(self) -> None:
        """
        Nothing to stop.
        """


def test_closing() -> None:
    """
    What was written arrives, and the deadline can be called off at the end.
    """
    meeting = Meeting()
    pump = meeting.meet(meeting.server_factory(), meeting.client_factory(CLIENT_KEY))
    transport: Any = meeting.server.transport
    transport.registerProducer(Endless(), True)
    transport.write(b", and bye")
    deadline = close_transport(transport, meeting.clock)
    pump.flush()

    assert meeting.client.received == b"welcome, and bye"
    assert meeting.server.lost is not None
    assert meeting.client.lost is not None
    deadline.cancel()
    assert meeting.clock.getDelayedCalls() == []


@pytest.mark.parametrize("await_goodbye", [True, False])
def test_closing_takes_a_round_trip_or_none(await_goodbye: bool) -> None:
    """
    Who needs nothing more from the peer is done when all is sent; the peer gets it
    all, and sees an end in good order.
    """
    meeting = Meeting()
    pump = meeting.meet(meeting.server_factory(), meeting.client_factory(CLIENT_KEY))
    transport: Any = meeting.client.transport
    transport.registerProducer(Endless(), True)
    transport.write(b", and bye")
    deadline = close_transport(transport, meeting.clock, await_goodbye)

    # Nothing has been pumped yet: the peer knows nothing of it.
    assert pump.clientIO.disconnecting == (not await_goodbye)
    pump.flush()
    assert meeting.server.received == b"hello, and bye"
    assert meeting.server.lost is not None
    assert meeting.server.lost.check(ConnectionDone)
    assert meeting.client.lost is not None
    deadline.cancel()
    assert meeting.clock.getDelayedCalls() == []


def test_closing_on_a_silent_peer() -> None:
    """
    A peer that does not answer is given up after the deadline, producer or not.
    """
    meeting = Meeting()
    pump = meeting.meet(meeting.server_factory(), meeting.client_factory(CLIENT_KEY))
    transport: Any = meeting.server.transport
    transport.registerProducer(Endless(), True)
    close_transport(transport, meeting.clock)

    # Nothing is pumped: the peer never hears of it.
    meeting.clock.advance(CLOSE_DEADLINE - 0.1)
    assert not pump.serverIO.disconnecting
    meeting.clock.advance(0.1)
    assert pump.serverIO.disconnecting


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ConnectionDone(), PeerGone, "Connection was closed cleanly"),
        (ConnectionLost("broken"), PeerGone, "it was cut off: broken"),
        (ConnectionLost("Connection lost"), PeerGone, "cut off without a goodbye"),
        (ConnectionRefusedError(111, "x: 111"), PeerGone, "Connection refused"),
        (DNSLookupError("no such host"), PeerGone, "no address is known for this name"),
        (
            SSL.Error([("SSL routines", "", "tlsv13 alert certificate required")]),
            PeerRefused,
            "it does not know this host's key",
        ),
        (
            SSL.Error([("SSL routines", "", "wrong version number")]),
            PeerRefused,
            "it is no realized, or an incompatible one (TLS: wrong version number)",
        ),
        (PeerRefused("as it was"), PeerRefused, "as it was"),
    ],
)
def test_what_the_end_of_a_connection_means(
    error: Exception, kind: type[Exception], text: str
) -> None:
    """
    Whether trying again helps depends on who ended it and why.
    """
    meant = connection_error(Failure(error))
    assert type(meant) is kind
    assert text in str(meant)
