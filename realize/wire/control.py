"""
What the server answers about limits, its log, and what it is doing.

The own connection is everybody's; for anything else the peer needs the right
``control``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from txaio.tx import make_logger

from realize.errors import BadRequest, NoSuchScope, NotAllowed, PeerError, RealizeError
from realize.net.limits import CHANGES_PER_SECOND, Limits
from realize.net.scopes import DIRECTIONS, Direction, Party, Scope
from realize.net.session import Session
from realize.observe.events import LIMIT_REFUSED
from realize.observe.levels import Levels
from realize.texts import Label
from realize.units import MAX_DURATION
from realize.wire import commands
from realize.wire.link import Link
from realize.wire.payload import pack
from realize.wire.responders import Answer, Responders, Service
from realize.wire.status import (
    ConnectionStatus,
    DirectoryStatus,
    Status,
    Throttle,
    rate_text,
    read_rates,
)

#: Longest text of a log level that is looked at.
MAX_LEVEL: Final = 200

_SCOPES: Final = ("connection", "peer", "service")


class ControlledService(Service, Protocol):
    """
    A service that says of itself what it is doing.
    """

    def may_control(self, peer: str) -> bool:
        """
        Whether a peer may read the status and change limits.
        """

    def log_at(self, levels: Levels, by: str, seconds: int | None) -> Levels:
        """
        Log at these levels from now on.

        :param by: who wants it.
        :param seconds: for which; None for good.
        :returns: what was logged before.
        """

    def status(self) -> Awaitable[Sequence[DirectoryStatus]]:
        """
        The directories that are offered.  Answers within two seconds.
        """


class Everybody(Protocol):
    """
    All connections of a server.
    """

    since: float

    def connections(self) -> Sequence[Control]:
        """
        Those that were welcomed.
        """


class Teller:
    """
    Tells the other end of a connection what its limits are, one message at a time.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._latest: tuple[int | None, int | None] = (None, None)
        self._told: tuple[int | None, int | None] = (None, None)
        self._busy = False

    def tell(self, send: int | None, receive: int | None) -> None:
        """
        What it may send, and what it will be sent at most; None for no limit.
        """
        self._latest = (send, receive)
        if not self._busy:
            Deferred.fromCoroutine(self._tell())

    async def _tell(self) -> None:
        self._busy = True
        try:
            while self._told != self._latest and not self._link.ended:
                send, receive = self._told = self._latest
                await self._link.ask(
                    commands.SetThrottle,
                    scope="connection",
                    send=rate_text(send),
                    receive=rate_text(receive),
                )
        except RealizeError:
            # Who does not want to know is held to it all the same.
            return
        finally:
            self._busy = False


class Control(Responders):
    """
    The responders for limits and status.

    :ivar limits: all of them.
    :ivar session: the one that this connection belongs to, once it is welcomed.
    :ivar everybody: all connections.
    """

    log = make_logger()
    _service: ControlledService
    limits: Limits
    session: Session
    everybody: Everybody
    address: str
    software: Label
    since: float

    @commands.SetThrottle.responder
    def set_throttle(
        self,
        scope: str,
        name: str | None,
        connection: int | None,
        send: str | None,
        receive: str | None,
        seconds: int | None,
    ) -> Answer:
        try:
            target = self._target(scope, name, connection, "set")
            rates = read_rates(send=send, receive=receive)
            if seconds is not None and not 1 <= seconds <= MAX_DURATION:
                raise BadRequest(f"a limit is set for 1 to {MAX_DURATION} s")
            if not self.limits.may_change(self.peer):
                raise BadRequest(
                    f"more than {CHANGES_PER_SECOND} changes of limits in a second; "
                    "wait and try again"
                )
        except PeerError as error:
            self._refused(scope, send, receive, error)
            raise
        party: Party = "administrator"
        if target is self.session.scope and (
            connection is None or not self._service.may_control(self.peer)
        ):
            party = "peer"
        for direction in DIRECTIONS:
            if direction in rates:
                setting = target.setting(party, direction)
                setting.say(rates[direction], seconds, self.peer)
        self.limits.counted_change(made=True)
        return {"payload": pack(self._throttle(target))}

    @commands.GetThrottle.responder
    def get_throttle(
        self, scope: str, name: str | None, connection: int | None
    ) -> Answer:
        target = self._target(scope, name, connection, "read")
        return {"payload": pack(self._throttle(target))}

    @commands.GetStatus.responder
    async def get_status(self) -> Answer:
        if not self._service.may_control(self.peer):
            raise NotAllowed(self._lacks("read the status"))
        directories = list(await self._service.status())
        now = self.clock.seconds()
        status = Status(
            software=commands.SOFTWARE,
            seconds=now - self.everybody.since,
            service=self._throttle(self.limits.service),
            peers=[self._throttle(scope) for scope in self.limits.peers.values()],
            connections=[
                link.connection_status(self)
                for link in sorted(
                    self.everybody.connections(), key=lambda each: each.session.number
                )
            ],
            directories=directories,
        )
        return {"payload": pack(status)}

    @commands.SetLogLevel.responder
    def set_log_level(self, level: str, seconds: int | None) -> Answer:
        if not self._service.may_control(self.peer):
            raise NotAllowed(self._lacks("change the log level"))
        try:
            levels = Levels.parse(level[:MAX_LEVEL])
        except ValueError as error:
            raise BadRequest(str(error)) from None
        if seconds is not None and not 1 <= seconds <= MAX_DURATION:
            raise BadRequest(f"a log level is set for 1 to {MAX_DURATION} s")
        if not self.limits.may_change(self.peer):
            raise BadRequest(
                f"more than {CHANGES_PER_SECOND} changes in a second; wait and try "
                "again"
            )
        return {"before": str(self._service.log_at(levels, self.peer, seconds))}

    def connection_status(self, asking: Control) -> ConnectionStatus:
        """
        What this connection is doing.

        :param asking: the one that wants to know.
        """
        below = self.throttled
        rates = self.session.rates
        return ConnectionStatus(
            throttle=self._throttle(self.session.scope),
            address=Label(self.address),
            software=self.software,
            seconds=self.clock.seconds() - self.since,
            sent=below.sent,
            received=below.received,
            send_rate=round(rates["send"]),
            receive_rate=round(rates["receive"]),
            queued=below.queued,
            stores=self.store_names(),
            is_own=self is asking,
        )

    # -- scopes

    def _target(
        self, scope: str, name: str | None, connection: int | None, verb: str
    ) -> Scope:
        """
        The scope that is meant, if the peer may *verb* its limits.
        """
        if scope == "connection" and name is None:
            if connection in (None, self.session.number):
                return self.session.scope
            self._need_control(verb)
            session = self.limits.session(connection or 0)
            if session is not None:
                return session.scope
            numbers = [str(each.number) for each in self.limits.sessions]
            raise NoSuchScope(
                f"there is no connection {connection}; there are: {', '.join(numbers)}"
            )
        if connection is None:
            if scope == "service" and name is None:
                self._need_control(verb)
                return self.limits.service
            if scope == "peer" and name is not None:
                self._need_control(verb)
                if name in self.limits.peers:
                    return self.limits.peers[name]
                there = ", ".join(self.limits.peers)
                raise NoSuchScope(
                    f"there is no peer {name[:64]!r}; known here: {there}"
                )
        raise BadRequest(
            "a scope is service, peer with a name, or connection with or without "
            f"a number; got {scope[:40]!r}"
        )

    def _need_control(self, verb: str) -> None:
        if not self._service.may_control(self.peer):
            raise NotAllowed(self._lacks(f"{verb} limits beyond its own connection"))

    def _lacks(self, what: str) -> str:
        return f"{self.peer} may not {what}: that takes control = true"

    def _refused(
        self, scope: str, send: str | None, receive: str | None, error: PeerError
    ) -> None:
        self.limits.counted_change(made=False)
        named = {"send": send, "receive": receive}
        self.complaints.tell(
            self.peer,
            LIMIT_REFUSED,
            scope=scope,
            direction=" and ".join(each for each in DIRECTIONS if named[each]),
            by=self.peer,
            reason=str(error),
        )

    def _throttle(self, scope: Scope) -> Throttle:
        kind, name, number = "service", "", 0
        wider = [scope]
        for peer, theirs in self.limits.peers.items():
            if theirs is scope:
                kind, name = "peer", peer
                wider.append(self.limits.service)
        for session in self.limits.sessions:
            if session.scope is scope:
                kind, name, number = "connection", session.peer, session.number
                wider += [self.limits.peer(session.peer), self.limits.service]

        def smallest(direction: Direction) -> int | None:
            rates = [each.limit(direction).rate for each in wider]
            return min((rate for rate in rates if rate is not None), default=None)

        return Throttle(
            scope=Label(kind),
            name=Label(name),
            connection=number,
            send=scope.limit("send").rate,
            receive=scope.limit("receive").rate,
            effective_send=smallest("send"),
            effective_receive=smallest("receive"),
            send_seconds=scope.seconds_left("send"),
            receive_seconds=scope.seconds_left("receive"),
        )
