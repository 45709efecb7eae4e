"""
A connection to a peer's daemon for one question.
"""

from __future__ import annotations

import difflib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from realize.cli.endpoints import UnknownPeer
from realize.cli.opening import TOKEN_SIZE
from realize.cli.options import private_key_path, read_config, telling_where
from realize.config import PeerConfig
from realize.errors import ConfigError
from realize.peers import Address

if TYPE_CHECKING:
    from realize.wire.remote import Connection


@frozen
class PeerControl:
    """
    A peer that this host's configuration knows.

    :ivar key: where this host's private key is.
    """

    peer: PeerConfig
    key: Path

    @classmethod
    def find(cls, name: str, config: str | None, privkey: str | None) -> PeerControl:
        """
        :param name: of the peer, as the user gave it.
        :param config: what ``--config`` says.
        :param privkey: what ``--privkey`` says.
        :raises ConfigError: there is no such peer, or something is missing.
        """
        loaded, file = read_config(config)
        peer = loaded.peers.get(name)
        if peer is None:
            close = difflib.get_close_matches(name, loaded.peers, n=1)
            meant = f"; did you mean '{close[0]}'?" if close else ""
            with telling_where(file):
                raise UnknownPeer(
                    f"there is no peer '{name}' in the configuration{meant}"
                )
        if peer.address is None:
            raise ConfigError(
                f"[peers.{name}] has no address in the configuration, so it can "
                "connect to this host, but not be connected to"
            )
        return cls(peer, private_key_path(privkey, loaded, file))

    @asynccontextmanager
    async def connected(self, reactor: Any) -> AsyncIterator[Connection]:
        """
        A connection; leaving closes it.

        :raises PeerGone: the peer can't be reached.
        :raises PeerRefused: it does not want us, or is not the one we expect.
        """
        from realize.net.address import client_endpoint
        from realize.net.keys import load_private_key
        from realize.wire.remote import connect

        address = Address.parse(self.peer.address or "")
        connection = await connect(
            client_endpoint(reactor, address),
            load_private_key(self.key),
            self.peer.name,
            self.peer.public_key,
            secrets.token_bytes(TOKEN_SIZE),
            reactor,
            where=str(address),
        )
        try:
            yield connection
        finally:
            await connection.close()
