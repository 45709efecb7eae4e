"""
The ports of the daemon.  They are open before anything else is started.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from realize.errors import ConfigError
from realize.net.address import is_endpoint, listening_sockets
from realize.peers import DEFAULT_PORT, Address


def open_ports(
    reactor: Any,
    text: str,
    factory: IProtocolFactory,
    default_port: int = DEFAULT_PORT,
) -> list[IListeningPort]:
    """
    Listen as the ``--address`` option, or one like it, says.

    Connections are answered once the reactor runs.

    :param text: ``HOST:PORT`` or an endpoint string.
    :raises ConfigError: that is not possible; the text says why.
    """
    if is_endpoint(text):
        return [_endpoint_port(reactor, text, factory)]
    try:
        address = Address.parse(text, listening=True, default_port=default_port)
    except ValueError as error:
        raise ConfigError(f"address: {error}") from None
    ports = []
    for opened in listening_sockets(address):
        with opened:
            ports.append(
                reactor.adoptStreamPort(opened.fileno(), opened.family, factory)
            )
    return ports


def port_name(port: IListeningPort) -> str:
    """
    Where a port listens, for people; ``HOST:PORT`` if it is one of TCP's.
    """
    host: Any = port.getHost()
    if isinstance(host, IPv4Address | IPv6Address):
        return str(Address(host.host, host.port))
    return os.fsdecode(host.name)


def _endpoint_port(
    reactor: Any, text: str, factory: IProtocolFactory
) -> IListeningPort:
    try:
        listening = serverFromString(reactor, text).listen(factory)
    except LookupError:
        raise ConfigError(
            f"cannot listen on {text}: systemd passed no such socket"
        ) from None
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"cannot listen on {text}: {error}") from None
    outcome: list[IListeningPort | Failure] = []
    listening.addBoth(outcome.append)
    # All kinds that is_endpoint() lets through listen at once.
    (port,) = outcome
    if isinstance(port, Failure):
        cause = port.value
        if isinstance(cause, CannotListenError):
            cause = cause.socketError
        reason = getattr(cause, "strerror", None) or cause
        raise ConfigError(f"cannot listen on {text}: {reason}")
    return port
