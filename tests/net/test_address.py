"""
Listening: which sockets an address stands for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from realize.errors import ConfigError
from realize.net.address import client_endpoint, is_endpoint, listening_sockets
from realize.peers import Address


def socket_address(bound: socket.socket) -> Address:
    """
    Where a socket is bound.
    """
    host, port = bound.getsockname()[:2]
    return Address(host, port)


@contextmanager
def listening(text: str) -> Iterator[list[socket.socket]]:
    """
    Sockets for an address, closed in the end.
    """
    sockets = listening_sockets(Address.parse(text, listening=True))
    try:
        yield sockets
    finally:
        for opened in sockets:
            opened.close()


def test_one_address() -> None:
    """
    The system chooses a port, and connections arrive there.
    """
    with listening("127.0.0.1:0") as (server,):
        address = socket_address(server)
        assert address.host == "127.0.0.1"
        with socket.create_connection((address.host, address.port), timeout=5):
            assert not server.getblocking()
            server.accept()[0].close()


def test_every_address() -> None:
    """
    All addresses, old and new, have the same port.
    """
    with listening("*:0") as sockets:
        assert {opened.family for opened in sockets} <= {
            socket.AF_INET,
            socket.AF_INET6,
        }
        ports = {socket_address(opened).port for opened in sockets}
        assert len(ports) == 1
        with socket.create_connection(("127.0.0.1", ports.pop()), timeout=5):
            pass


def test_port_in_use() -> None:
    """
    A port can be listened on once; the complaint names it.
    """
    with listening("127.0.0.1:0") as (server,):
        address = socket_address(server)
        with pytest.raises(ConfigError) as raised:
            listening_sockets(address)
    assert str(raised.value) == f"cannot listen on {address}: Address already in use"


def test_half_a_port_in_use() -> None:
    """
    If one of several addresses is taken, none stays open.
    """
    with listening("*:0") as sockets:
        if len(sockets) < 2:
            pytest.skip("needs IPv6")
        port = socket_address(sockets[0]).port
        sockets[0].close()
        with pytest.raises(ConfigError, match="Address already in use"):
            listening_sockets(Address("*", port))
        with listening(f"127.0.0.1:{port}"):
            pass


def test_unknown_host() -> None:
    """
    A name that is none of this host's addresses cannot be listened on.
    """
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        listening_sockets(Address("192.0.2.1", 0))
    with pytest.raises(ConfigError, match=r"cannot listen on nowhere\.invalid:9771: "):
        listening_sockets(Address("nowhere.invalid", 9771))


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp:9771:interface=127.0.0.1", True),
        ("systemd:domain=INET6:index=0", True),
        ("ssl:9771", False),
        ("archive.example:9771", False),
        ("*:0", False),
        ("[::1]:9771", False),
        ("tcp", False),
    ],
)
def test_endpoint_strings(text: str, endpoint: bool) -> None:
    """
    Only the kinds that can be listened on in plain are endpoint strings.
    """
    assert is_endpoint(text) == endpoint


@pytest.mark.parametrize("host", ["my_archive", "-x.test", "a.example", "::1"])
def test_names_are_looked_up_as_they_are_written(host: str) -> None:
    """
    IDNA would refuse some that are in use; who resolves names decides.
    """
    asked: list[str] = []

    @implementer(IHostnameResolver)
    class Resolver:
        def resolveHostName(  # noqa: N802 - the interface's name
            self,
            receiver: IResolutionReceiver,
            name: str,
            port: int,
            *_: object,
        ) -> None:
            asked.append(name)
            receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", port))
            receiver.resolutionComplete()

    reactor = MemoryReactorClock()
    reactor.installNameResolver(Resolver())
    client_endpoint(reactor, Address(host, 9)).connect(Factory.forProtocol(Protocol))
    assert asked == [host]
    assert reactor.tcpClients[0][:2] == ("192.0.2.1", 9)
