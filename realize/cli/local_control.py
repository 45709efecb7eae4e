"""
What a running move answers to its user: ``$XDG_RUNTIME_DIR/realize/PID.sock``.

A request and its answer are one line of JSON each.  Without XDG_RUNTIME_DIR there is no
socket.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from txaio.tx import make_logger

from realize.cli.local_folder import folder, own_folder, peer_user
from realize.cli.local_moves import MAX_LINE
from realize.cli.report import Ends
from realize.cli.throttling import WAYS, Throttling, Way
from realize.errors import RealizeError
from realize.move.mover import Mover
from realize.observe.events import BUG
from realize.units import MAX_DURATION, check_rate

#: Longest path of a socket; Linux takes 107 bytes.
MAX_PATH: Final = 107

#: Connections at once, and the seconds after which each is over.
MAX_CONNECTIONS: Final = 16
DEADLINE: Final = 10.0

_WORDS: Final[Mapping[str, Way]] = {way: way for way in WAYS}


@define(eq=False)
class Measured:
    """
    How fast something grows, from one look to the next.

    :ivar rate: per second.
    """

    rate: float = 0.0
    _count: int = 0
    _at: float | None = None

    def see(self, count: int, now: float) -> None:
        """
        Look at it; a number that has shrunk was begun anew.
        """
        if self._at is not None and now > self._at:
            self.rate = max(0, count - self._count) / (now - self._at)
        self._count, self._at = count, now


@define(eq=False)
class LocalControl:
    """
    Answers for one running move.

    :ivar mover: says what it has done so far.
    """

    reactor: Any
    ends: Ends
    throttling: Throttling
    mover: Mover
    environ: Mapping[str, str] = field(default=os.environ)
    _port: IListeningPort | None = None
    _began: float = 0.0
    _rates: dict[Way, Measured] = field(
        factory=lambda: {way: Measured() for way in WAYS}
    )
    _timer: IDelayedCall | None = None

    def start(self) -> str:
        """
        Listen.

        :returns: why that is not possible; empty if it is, or not wanted.
        """
        self._began = self.reactor.seconds()
        where = folder(self.environ)
        if where is None:
            return ""
        path = where / f"{os.getpid()}.sock"
        if len(os.fsencode(path)) > MAX_PATH:
            return f"no local control: {path}: the path is too long for a socket"
        try:
            os.close(own_folder(where))
            path.unlink(missing_ok=True)  # of a process that had our number before
            factory = _Answering(self)
            self._port = self.reactor.listenUNIX(os.fspath(path), factory, mode=0o600)
        except OSError as error:
            return f"no local control: {error.filename or path}: {error.strerror}"
        except CannotListenError as error:
            return f"no local control: {path}: {error.socketError}"
        self._measure()
        return ""

    async def stop(self) -> None:
        """
        Answer no more.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._port is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)  # removes the socket

    def _measure(self) -> None:
        self._timer = self.reactor.callLater(1, self._measure)
        for way, measured in self._rates.items():
            measured.see(self.throttling.counted(way), self.reactor.seconds())

    async def answer(self, request: Any) -> dict[str, Any]:
        """
        Do what is asked, and answer.

        :raises ValueError: that is no request; says why.
        """
        if not isinstance(request, dict):
            raise ValueError("a request is an object")  # noqa: TRY004  one kind of error
        said = ""
        match request.get("ask"):
            case "status":
                pass
            case "throttle":
                said = await self._throttle(request)
            case _:
                raise ValueError("status and throttle can be asked for")
        return self._status() | ({"said": said} if said else {})

    async def _throttle(self, request: Mapping[str, Any]) -> str:
        seconds = request.get("seconds")
        if seconds is not None and not (
            type(seconds) is int and 1 <= seconds <= MAX_DURATION
        ):
            raise ValueError(f"seconds: 1 to {MAX_DURATION}")
        rates = {way: request[way] for way in WAYS if way in request}
        for way, rate in rates.items():
            if rate is not None and type(rate) is not int:
                raise ValueError(f"{way}: bytes per second, or null for no limit")
            check_rate(rate)
        said = [
            await self.throttling.set(way, rate, seconds) for way, rate in rates.items()
        ]
        return "; ".join(filter(None, said))

    def _status(self) -> dict[str, Any]:
        totals, throttling = self.mover.totals, self.throttling
        return {
            "pid": os.getpid(),
            "source": self.ends.source,
            "destination": self.ends.destination,
            "seconds": round(self.reactor.seconds() - self._began, 3),
            "files": totals.succeeded,
            "sent": totals.sent,
            "left": totals.left,
            "complete": totals.complete,
            "limits": {
                way: {
                    "asked": throttling.asked(way),
                    "effective": throttling.effective(way),
                    "seconds_left": throttling.seconds_left(way),
                    "rate": round(self._rates[way].rate),
                }
                for way in throttling.ways
            },
        }


class _Answering(Factory):
    """
    Makes a :class:`_Asked` for each connection.
    """

    noisy = False

    def __init__(self, control: LocalControl) -> None:
        self.control = control
        self.open = 0

    def buildProtocol(self, addr: object) -> _Asked | None:
        if self.open >= MAX_CONNECTIONS:
            return None
        self.open += 1
        return _Asked(self)


class _Asked(LineOnlyReceiver):
    """
    Reads one request and answers it.
    """

    log = make_logger()

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE

    def __init__(self, factory: _Answering) -> None:
        self._answering = factory
        self._asked = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        clock = self._answering.control.reactor
        self._deadline = clock.callLater(DEADLINE, transport.abortConnection)
        if peer_user(transport.socket) not in (os.geteuid(), 0):
            transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:  # noqa: N802  Twisted's name
        if not self._asked:
            self._asked = True
            Deferred.fromCoroutine(self._answer(line)).addErrback(self._give_up)

    async def _answer(self, line: bytes) -> None:
        try:
            request = msgspec.json.decode(line)
            answer = await self._answering.control.answer(request)
        except RecursionError:
            answer = {"error": "nested too deep"}
        except (ValueError, RealizeError) as error:
            answer = {"error": str(error)}
        self.sendLine(json.dumps(answer).encode())
        transport: Any = self.transport
        transport.loseConnection()

    def _give_up(self, failure: Failure) -> None:
        """
        A bug ends the connection that met it, and no other.
        """
        BUG.log_failure(
            self.log, failure, what="local control", error=repr(failure.value)
        )
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline.active():
            self._deadline.cancel()
        self._answering.open -= 1
