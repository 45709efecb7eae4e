"""
Bytes as fast as they go, over TLS on loopback, from one process to another.

    python -m tests.support.flood '{"limit": 1048576, "seconds": 10}'

starts a second process that sends without end, limits one of the two, and prints how
many bytes had arrived when, as counted below TLS.
"""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

from attrs import asdict, define, evolve, field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from realize.memory import keep_freed_memory
from realize.net.keys import public_bytes
from realize.net.throttled import Shared, ThrottledFactory, throttled_below
from realize.net.tls import client_factory, server_factory
from realize.wire.link import TCP_NOTSENT_LOWAT, UNSENT, _tune

#: What is written at once.
PIECE = bytes(64 * 1024)

#: Seconds between two looks at how much has arrived.
INTERVAL = 0.01


@frozen
class Plan:
    """
    What to measure.

    :ivar limit: bytes per second; None for none.
    :ivar at: which end keeps to it.
    :ivar seconds: how long.
    :ivar changes: when to change it, in seconds, and to what.
    :ivar connections: how many send at once, under one limit.
    :ivar wrapped: whether the connections have a limiter at all.
    :ivar unsent: bytes that TCP may hold beyond what it has sent; None for what the
        system finds right.
    """

    limit: int | None = None
    at: Literal["sender", "receiver"] = "sender"
    seconds: float = 10.0
    changes: Sequence[tuple[float, int | None]] = ()
    connections: int = 1
    wrapped: bool = True
    unsent: int | None = UNSENT


@frozen
class Arrived:
    """
    :ivar times: seconds from the beginning of each look.
    :ivar totals: bytes that had arrived then, on each connection.
    :ivar cpu: processor seconds of both processes, their start included.
    """

    times: list[float]
    totals: list[list[int]]
    cpu: float = 0.0

    def between(self, begin: float, end: float) -> float:
        """
        Bytes per second from one time to another, over all connections.
        """
        first = next(at for at, when in enumerate(self.times) if when >= begin)
        last = max(at for at, when in enumerate(self.times) if when <= end)
        arrived = sum(self.totals[last]) - sum(self.totals[first])
        return arrived / (self.times[last] - self.times[first])

    def shares_after(self, begin: float) -> list[int]:
        """
        Bytes that each connection got from one time to the end.
        """
        first = next(at for at, when in enumerate(self.times) if when >= begin)
        return [
            last - before
            for before, last in zip(self.totals[first], self.totals[-1], strict=True)
        ]


def measure(plan: Plan) -> Arrived:
    """
    Do it, in two processes of their own.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.flood", json.dumps(asdict(plan))],
        capture_output=True,
        text=True,
        timeout=plan.seconds + 30,
        check=False,
    )
    # Twisted prints what is raised in a protocol, and goes on.
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return Arrived(**json.loads(done.stdout))


@implementer(IPushProducer, IHandshakeListener)
class Flood(Protocol):
    """
    Sends as long as it may.
    """

    running = False
    clock: EPollReactor

    def connectionMade(self) -> None:
        transport: Any = self.transport
        _tune(transport)
        unsent: int | None = self.factory.unsent  # type: ignore[union-attr]
        while isinstance(transport, ProtocolWrapper):
            transport = transport.transport
        handle = transport.getHandle()
        option = -1 if unsent is None else unsent
        handle.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, option)

    def handshakeCompleted(self) -> None:
        if self.factory.wrapped:  # type: ignore[union-attr]
            throttled_below(self.transport).begin_holding()
        self.running = True
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self._go()

    def _go(self) -> None:
        transport: Any = self.transport
        while self.running:
            transport.write(PIECE)

    def pauseProducing(self) -> None:
        self.running = False

    def resumeProducing(self) -> None:
        self.running = True
        self._go()

    def stopProducing(self) -> None:
        self.running = False


@implementer(IHandshakeListener)
class Drain(Protocol):
    """
    Takes what arrives.
    """

    def __init__(self, wrapped: bool) -> None:
        self.wrapped = wrapped
        self.ready = False
        self.got = 0

    def connectionMade(self) -> None:
        _tune(self.transport)

    def handshakeCompleted(self) -> None:
        self.ready = True
        if self.wrapped:
            throttled_below(self.transport).begin_holding()

    def dataReceived(self, data: bytes) -> None:
        self.got += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ready = False

    @property
    def arrived(self) -> int:
        """
        Bytes, below TLS if there is a limiter.
        """
        return throttled_below(self.transport).received if self.wrapped else self.got


@define
class _Process:
    """
    One of the two, with what both have in common.
    """

    plan: Plan
    reactor: Any = field(factory=EPollReactor)

    def shared(self, here: str) -> Shared:
        """
        The limits of this end, and their changes.
        """
        shared = Shared(self.reactor)
        if self.plan.at == here:
            limit = shared.send if here == "sender" else shared.receive
            limit.claim("plan", self.plan.limit)
            for seconds, rate in self.plan.changes:
                self.reactor.callLater(seconds, limit.claim, "plan", rate)
        return shared

    def wrap(self, factory: Any, here: str) -> Any:
        """
        Put the limiter below TLS, if there is to be one.
        """
        if not self.plan.wrapped:
            return factory
        return ThrottledFactory(factory, self.reactor, self.shared(here))


def send(plan: Plan, own: str, theirs: str) -> None:
    """
    The process that sends: prints its port, and ends when the other has gone.
    """
    process = _Process(plan)
    factory: Any = Factory.forProtocol(Flood)
    factory.wrapped = plan.wrapped
    factory.unsent = plan.unsent
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(own))
    secured = server_factory(
        factory, key, lambda offered: offered == bytes.fromhex(theirs), process.reactor
    )
    wrapped = process.wrap(secured, "sender")
    port = process.reactor.listenTCP(0, wrapped, interface="127.0.0.1")
    sys.stdout.write(f"{port.getHost().port}\n")
    sys.stdout.flush()
    process.reactor.callLater(plan.seconds + 20, process.reactor.stop)
    process.reactor.run()


def receive(plan: Plan) -> Arrived:
    """
    The process that receives and counts.
    """
    keys = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    sender = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.flood", json.dumps(asdict(plan))),
            *(keys[0].private_bytes_raw().hex(), public_bytes(keys[1]).hex()),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sender.stdout is not None
        arrived = _count(plan, keys, int(sender.stdout.readline()))
    finally:
        sender.kill()
        sender.wait()
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    return evolve(arrived, cpu=time.process_time() + theirs.ru_utime + theirs.ru_stime)


def _count(plan: Plan, keys: Sequence[Ed25519PrivateKey], port: int) -> Arrived:
    process = _Process(plan)
    clock = process.reactor
    drains = [Drain(plan.wrapped) for _ in range(plan.connections)]
    waiting = iter(drains)
    factory = Factory.forProtocol(lambda: next(waiting))
    secured = client_factory(factory, keys[1], public_bytes(keys[0]), clock)
    wrapped = process.wrap(secured, "receiver")
    begun: list[float] = []
    looked: list[float] = []

    def connect() -> None:
        """
        One after the other: so many handshakes at once would be refused.
        """
        if all(drain.ready for drain in drains[: len(begun)]):
            TCP4ClientEndpoint(clock, "127.0.0.1", port).connect(wrapped)
            begun.append(clock.seconds())
        if len(begun) < len(drains):
            clock.callLater(INTERVAL, connect)

    arrived = Arrived([], [])

    def look() -> None:
        if arrived.times or all(drain.ready for drain in drains):
            since = looked[0] if looked else clock.seconds()
            looked.append(clock.seconds())
            arrived.times.append(clock.seconds() - since)
            arrived.totals.append([drain.arrived for drain in drains])
            if arrived.times[-1] >= plan.seconds:
                clock.stop()
                return
        clock.callLater(INTERVAL, look)

    clock.callWhenRunning(connect)
    clock.callWhenRunning(look)
    clock.run()
    return arrived


if __name__ == "__main__":
    # As both programs do: without it, each read costs fresh pages.
    keep_freed_memory()
    wanted = Plan(**json.loads(sys.argv[1]))
    if len(sys.argv) > 2:
        send(wanted, *sys.argv[2:])
    else:
        json.dump(asdict(receive(wanted)), sys.stdout)
