"""
From an address as it is written down to sockets and endpoints.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

from realize.errors import ConfigError
from realize.peers import ANY_HOST, Address

#: Seconds to try each address of a host.
CONNECT_TIMEOUT: Final = 10

#: What an endpoint string begins with.  Any other word before a colon is a host.
ENDPOINT_KINDS: Final = ("systemd", "tcp", "tcp6")

_BACKLOG: Final = 512

# What an endpoint calls the host whose name it need not know.
_ANY_NAME: Final = "host.invalid"


def is_endpoint(text: str) -> bool:
    """
    Whether *text* is one of Twisted's endpoint strings and not ``HOST:PORT``.
    """
    kind, colon, _rest = text.partition(":")
    return bool(colon) and kind in ENDPOINT_KINDS


def client_endpoint(reactor: Any, address: Address) -> HostnameEndpoint:
    """
    How to connect to *address*: all that its name resolves to, fastest first.

    A name need not be one that IDNA allows, as ``my_archive`` is not: whether it is
    known is for those to say who resolve names.
    """
    asking = _Asking(reactor, address.host)
    return HostnameEndpoint(asking, _ANY_NAME, address.port, CONNECT_TIMEOUT)


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class _Asking:
    """
    A reactor that resolves one name, as it is written, whichever is asked for.

    ``HostnameEndpoint`` itself refuses what is not IDNA.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    @property
    def nameResolver(self) -> IHostnameResolver:  # noqa: N802 - the interface's name
        """
        What resolves the name.
        """
        return self

    def installNameResolver(  # noqa: N802 - the interface's name
        self, resolver: IHostnameResolver
    ) -> IHostnameResolver:
        """
        Resolve by another one.
        """
        installed: IHostnameResolver = self._reactor.installNameResolver(resolver)
        return installed

    def resolveHostName(  # noqa: N802 - the interface's name
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """
        Resolve the name that this is for.
        """
        resolver: IHostnameResolver = self._reactor.nameResolver
        return resolver.resolveHostName(
            resolutionReceiver,
            self._name,
            portNumber,
            addressTypes,
            transportSemantics,
        )


def listening_sockets(address: Address) -> list[socket.socket]:
    """
    Bind and listen on *address*, without a reactor.

    A name that has several addresses is listened on at all of them, with the same
    port.

    :raises ConfigError: that is not possible; the text says why.
    """
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, host in _resolve(address):
            try:
                sockets.append(_listen(family, host, port))
            except OSError as error:
                # A kernel without IPv6 is no reason not to listen on every address.
                if address.host == ANY_HOST and error.errno in (
                    errno.EAFNOSUPPORT,
                    errno.EADDRNOTAVAIL,
                ):
                    continue
                raise
            port = sockets[-1].getsockname()[1]
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise ConfigError(f"cannot listen on {address}: {error.strerror}") from None
    if not sockets:
        raise ConfigError(f"cannot listen on {address}: no network at all")
    return sockets


def _resolve(address: Address) -> list[tuple[int, str]]:
    """
    Families and numeric hosts of *address*, in order, without duplicates.
    """
    if address.host == ANY_HOST:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, str(to[0])) for family, _, _, _, to in found))


def _listen(family: int, host: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((host, port))
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened
