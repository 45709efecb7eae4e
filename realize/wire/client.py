"""
The client's end of a connection: the welcome, limits that the server asks for, and what
an end of the connection means.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

from realize.errors import (
    BadRequest,
    Incompatible,
    NotWelcomed,
    PeerGone,
    PeerRefused,
    RealizeError,
)
from realize.model import decode_hook
from realize.net.tls import connection_error
from realize.observe.metrics import CommandMetrics
from realize.texts import Label
from realize.wire import commands
from realize.wire.commands import Greeting
from realize.wire.complaints import Complaints
from realize.wire.compression import Compression
from realize.wire.flow import Budget
from realize.wire.link import Link
from realize.wire.payload import Malformed, Unpacked, decode, pack
from realize.wire.status import Throttle, read_rates

_GREETING: Final = msgspec.msgpack.Decoder(Greeting, dec_hook=decode_hook)


class ClientLink(Link):
    """
    A connection to a server.

    :param peer: the name that this host's configuration gives the server.
    :param key: the text of this host's public key.
    :param token: of the session.
    :param metrics: where requests are counted; by default, where nobody looks.
    :param compression: how content is compressed on the way; by default it is not.
    :ivar welcomed: fires with the greeting once the server has let us in.
    """

    def __init__(
        self,
        clock: IReactorTime,
        peer: str,
        key: str,
        token: bytes,
        metrics: CommandMetrics | None = None,
        compression: Compression | None = None,
    ) -> None:
        metrics = metrics or commands.command_metrics(CollectorRegistry(), "ask")
        super().__init__(clock, Budget(), Complaints(clock), metrics, compression)
        self.peer = peer
        self._key = key
        self._token = token
        self._was_welcomed = False
        self.welcomed: Deferred[Greeting] = Deferred(self._given_up)

    def _given_up(self, _welcomed: object) -> None:
        self.abort(PeerGone(f"{self.peer}: given up"))

    # -- what the server asks

    @commands.Welcome.responder
    def welcome(self, version: int, payload: Unpacked) -> dict[str, Any]:
        if self._was_welcomed:
            raise Malformed("welcomed twice")
        self._was_welcomed = True
        if version != commands.VERSION:
            older = "there" if version < commands.VERSION else "here"
            self._why = Incompatible(
                f"{self.peer} has version {version} of the protocol, this host "
                f"{commands.VERSION}: update realize {older}"
            )
            greet: Callable[[], None] = self.close
        else:
            greeting: Greeting = decode(_GREETING, payload.head)

            def greet() -> None:
                if not self.ended:
                    if self._compression is not None and "zstd" in greeting.features:
                        self._outgoing.mode = self._compression.mode
                    self.greeted()
                    self.welcomed.callback(greeting)

        # Not before this answer has been sent: no request may come before it.
        self.clock.callLater(0, greet)
        return {
            "version": commands.VERSION,
            "software": commands.SOFTWARE,
            "token": self._token,
            "compress": None if self._compression is None else self._compression.mode,
        }

    @commands.Closing.responder
    def closing(self, text: str, again: bool) -> dict[str, Any]:
        kind = PeerGone if again else PeerRefused
        self._why = self._why or kind(f"{self.peer}: {text}")
        return {}

    @commands.SetThrottle.responder
    def set_throttle(
        self,
        scope: str,
        name: str | None,
        connection: int | None,
        send: str | None,
        receive: str | None,
        seconds: int | None,
    ) -> dict[str, Any]:
        if scope != "connection" or (name, connection, seconds) != (None, None, None):
            raise BadRequest("only this connection can be limited here, and for good")
        own = self.throttled.own
        rates = read_rates(send=send, receive=receive)
        for direction, limit in (("send", own.send), ("receive", own.receive)):
            if direction in rates:
                limit.claim("peer", rates[direction])
        return {
            "payload": pack(
                Throttle(
                    Label("connection"),
                    send=own.send.rate,
                    receive=own.receive.rate,
                    effective_send=self.throttled.send_rate,
                    effective_receive=self.throttled.receive_rate,
                )
            )
        }

    # -- the end

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._hear_why()
        super().connectionLost(reason)
        if not self.welcomed.called:
            self.welcomed.errback(Failure(self.lost(reason)))

    def _hear_why(self) -> None:
        """
        Answers that wait behind one that is being decompressed are lost with the
        connection.  Why it was closed is not.
        """
        if self.ended or not self._decompressing:
            return
        with suppress(Malformed):
            while box := self._next_box():
                if box.get(amp.COMMAND) == commands.Closing.commandName:
                    self.ampBoxReceived(box)

    def lost(self, reason: Failure) -> RealizeError:
        if self._why is not None:
            return self._why
        error = connection_error(reason)
        if self._was_welcomed:
            return PeerGone(f"{self.peer}: the connection was lost: {error}")
        if reason.check(ConnectionLost):
            return NotWelcomed(
                f"{self.peer}: it cut the connection without a word of welcome"
            )
        elif reason.check(ConnectionDone):
            error = PeerRefused("it closed the connection without a word of welcome")
        if isinstance(error, PeerGone):
            return PeerGone(f"{self.peer}: {error}")
        if "certificate verify failed" in str(reason.value):
            return PeerRefused(
                f"{self.peer}: {error}; compare the pubkey that is configured here for "
                f"{self.peer} with the one that it has"
            )
        return PeerRefused(
            f"{self.peer} did not let this host in: {error}. If it should, its "
            f'configuration needs this host\'s key: pubkey = "{self._key}"'
        )
