"""
TLS over real sockets, with OpenSSL's own client on the other end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import endpoints, reactor
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.utils import getProcessOutputAndValue
from zope.interface import implementer

from realize.net.keys import generate_key, public_bytes
from realize.net.tls import server_factory


@implementer(IHandshakeListener)
class Welcome(Protocol):
    """
    Greets who was let in, and closes.
    """

    def handshakeCompleted(self) -> None:
        assert self.transport is not None
        self.transport.write(b"welcome\n")

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@define
class Server:
    """
    A server on loopback and a client certificate for ``openssl s_client``.
    """

    port: int
    directory: Path
    allowed: set[bytes]
    refusals: list[tuple[str, str]]

    async def s_client(self, *options: str) -> str:
        """
        What openssl prints; it sends a line once it is connected.
        """
        command = [
            "s_client",
            "-ign_eof",
            "-connect",
            f"127.0.0.1:{self.port}",
            *options,
        ]
        out, err, _code = await getProcessOutputAndValue(
            "openssl", command, env=os.environ, stdinBytes=b"hello\n"
        )
        return (out + err).decode("utf-8", "replace")

    @property
    def certificate(self) -> tuple[str, ...]:
        """
        The options that show the certificate.
        """
        return (
            "-cert",
            str(self.directory / "client.crt"),
            "-key",
            str(self.directory / "client.key"),
        )


@pytest_twisted.async_yield_fixture
async def server(tmp_path: Path) -> Any:
    """
    A server that allows the key of ``client.key``.
    """
    key = generate_key(tmp_path / "client.key")
    command = f"req -x509 -new -key {tmp_path}/client.key -days 1 -subj /CN=client"
    made = await getProcessOutputAndValue(
        "openssl",
        [*command.split(), "-out", f"{tmp_path}/client.crt"],
        env=os.environ,
    )
    assert made[2] == 0, made
    allowed = {public_bytes(key)}
    refusals: list[tuple[str, str]] = []
    factory = server_factory(
        Factory.forProtocol(Welcome),
        Ed25519PrivateKey.generate(),
        lambda offered: offered in allowed,
        reactor,  # type: ignore[arg-type]  # mypy sees a module
        lambda _address, reason, text: refusals.append((reason, text)),
    )
    endpoint = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1")
    port = await endpoint.listen(factory)
    yield Server(port.getHost().port, tmp_path, allowed, refusals)
    await port.stopListening()


ALPN = ("-alpn", "realize")


@pytest_twisted.ensureDeferred
async def test_openssl_as_client(server: Server) -> None:
    """
    A second implementation needs no more than a key and the name of the protocol.
    """
    said = await server.s_client("-tls1_3", *ALPN, *server.certificate)
    assert "welcome" in said
    assert "New, TLSv1.3" in said
    assert server.refusals == []


@pytest_twisted.ensureDeferred
async def test_no_resumption(server: Server) -> None:
    """
    A session that began while the key was allowed does not outlive its removal.
    """
    session = server.directory / "session"
    options = ("-tls1_3", *ALPN, *server.certificate)
    said = await server.s_client(*options, "-sess_out", str(session))
    assert "welcome" in said
    resume = ("-sess_in", str(session)) if session.exists() else ()
    said = await server.s_client(*options, *resume)
    assert "Reused" not in said
    assert "welcome" in said

    server.allowed.clear()
    said = await server.s_client(*options, *resume)
    assert "welcome" not in said
    assert [reason for reason, _text in server.refusals] == ["unknown key"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-tls1_2", *ALPN), "TLS: unsupported protocol"),
        (("-tls1_3", *ALPN), "TLS: peer did not return a certificate"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_openssl_refused(
    server: Server, options: tuple[str, ...], text: str
) -> None:
    """
    Old TLS, and no certificate.
    """
    said = await server.s_client(*options)
    assert "welcome" not in said
    assert server.refusals == [("handshake", text)]


@pytest_twisted.ensureDeferred
async def test_openssl_without_the_protocol(server: Server) -> None:
    """
    The right key, but nothing said of the protocol.
    """
    said = await server.s_client("-tls1_3", *server.certificate)
    assert "welcome" not in said
    assert server.refusals == [
        ("handshake", "it does not speak the protocol of realize")
    ]
