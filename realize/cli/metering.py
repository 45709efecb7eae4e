"""
The metrics of one run of ``realize move``: served, pushed, written to a file.

None of it may change or delay the move: a gateway that is down costs a line, and at
the very end at most :data:`~realize.observe.push.DEADLINE` seconds.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, disable_created_metrics
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.web.client import Agent
from txaio.tx import make_logger

from realize.cli.endpoints import LocalPlace, Place, SshPlace
from realize.cli.exits import Exit
from realize.cli.metrics_options import MetricsChoice
from realize.errors import ConfigError
from realize.move.counting import Counting
from realize.net.address import listening_sockets
from realize.observe.delivery import delivered
from realize.observe.events import PUSH_FAILED
from realize.observe.lag import Lag
from realize.observe.metrics import (
    CommandMetrics,
    CompressionMetrics,
    ProgramMetrics,
)
from realize.observe.move_metrics import LAST_SUCCESS, MoveMetrics
from realize.observe.push import Gateway, Pusher, PushFailed
from realize.observe.site import metrics_site
from realize.observe.textfile import last_value, write_textfile
from realize.paths import printable
from realize.peers import METRICS_PORT, Address
from realize.wire.commands import command_metrics

#: Seconds that connecting to a gateway may take.
CONNECT_TIMEOUT: Final = 5


def label(place: Place) -> str:
    """
    What metrics call one end of a move: from a bounded set, so no path in it.
    """
    if isinstance(place, LocalPlace):
        return "local"
    if isinstance(place, SshPlace):
        return place.party
    return f"{place.peer.name}:{place.directory}"


def _labels_in(textfile: str) -> dict[str, str]:
    """
    What keeps the series of one text file apart from those of another: node_exporter
    puts all of them on one page, where two moves between local places look the same.
    """
    return {"move": printable(os.fsencode(Path(textfile).stem))}


class Metering:
    """
    The instruments of a run, and what becomes of them.

    :param options: what was asked for.
    :param dry_run: nothing is pushed or written: a rehearsal is no run.
    :ivar observer: keeps them up to date; give it to the mover.
    :ivar commands: for connections to peers.
    :ivar compressed: the same.
    :raises ConfigError: the gateway's URL is none; the text has no password.
    """

    log = make_logger()

    def __init__(
        self,
        reactor: Any,
        options: MetricsChoice,
        source: Place,
        destination: Place,
        dry_run: bool = False,
    ) -> None:
        disable_created_metrics()
        self._reactor = reactor
        self._options = options
        self._ends = (label(source), label(destination))
        self._registry = CollectorRegistry()
        self._program = ProgramMetrics.create(self._registry)
        self._move = MoveMetrics.create(self._registry, *self._ends)
        self.commands: CommandMetrics = command_metrics(self._registry, "ask")
        self.compressed = CompressionMetrics.create(self._registry)
        self.observer = Counting(self._move, self._ends)
        self._lag = Lag(self._program.lag, reactor)
        self._delivers = not dry_run
        self._ports: list[IListeningPort] = []
        self._loop: LoopingCall | None = None
        self._pushing: Deferred[None] | None = None
        self._pusher: Pusher | None = None
        self._complained = False
        self._finished = False
        self._began: float = reactor.seconds()
        if options.pushgateway:
            self._pusher = self._make_pusher(options.pushgateway)

    def _make_pusher(self, url: str) -> Pusher | None:
        options = self._options
        try:
            gateway = Gateway.parse(
                url, options.job, options.instance_name, self._end_labels
            )
        except ValueError as error:
            raise ConfigError(f"--metrics-pushgateway: {error}") from None
        if not self._delivers:
            return None
        agent = Agent(self._reactor, connectTimeout=CONNECT_TIMEOUT)
        return Pusher(
            gateway, delivered(self._registry, counted=True), agent, self._reactor
        )

    @property
    def _end_labels(self) -> dict[str, str]:
        return dict(zip(("source", "destination"), self._ends, strict=True))

    def start(self) -> None:
        """
        Serve, and begin to push.

        :raises ConfigError: the address cannot be listened on, or the folder of the
            text file cannot be written to.
        """
        self._check_textfile()
        if self._options.address:
            self._listen(self._options.address)
        self._lag.start()
        if self._pusher is not None:
            self._loop = LoopingCall(self._push_on_the_way)
            self._loop.clock = self._reactor
            # Not at once: a run that is over sooner pushes at its end.
            self._loop.start(self._options.interval, now=False)

    def retried(self) -> None:
        """
        A connection was lost and is made again.
        """
        self._move.retries.labels(*self._ends).inc()

    async def finish(self, status: Exit, seconds: float) -> tuple[Exit, str]:
        """
        Tell how the run ended, for the last time.

        :param status: of the move.
        :param seconds: that it took.
        :returns: the status of the program, and what went wrong with the metrics.
        """
        self._finished = True
        self._lag.stop()
        if self._loop is not None:
            self._loop.stop()
        if self._pushing is not None:
            self._pushing.cancel()
        now = time.time()
        success = now if status == Exit.MOVED else None
        if success is None and self._options.textfile:
            success = await self._in_thread(self._earlier_success)
        self._move.ended(int(status), seconds, now, success)
        problems = [await self._write(), await self._push_last()]
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        problem = "; ".join(filter(None, problems))
        if problem and status == Exit.MOVED:
            status = Exit.NOT_PUSHED
        return status, problem

    async def broken_off(self, status: Exit) -> None:
        """
        The same for a run that something ended before it could tell how; does
        nothing after :meth:`finish`.

        :param status: of the program.
        """
        if not self._finished:
            await self.finish(status, self._reactor.seconds() - self._began)

    # -- the page

    def _listen(self, text: str) -> None:
        try:
            address = Address.parse(text, listening=True, default_port=METRICS_PORT)
        except ValueError as error:
            raise ConfigError(f"--metrics-addr: {error}") from None
        site = metrics_site(self._registry, self._in_thread, self._reactor)
        for opened in listening_sockets(address):
            with opened:
                self._ports.append(
                    self._reactor.adoptStreamPort(opened.fileno(), opened.family, site)
                )

    def _in_thread(self, function: Any) -> Deferred[Any]:
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, function)

    # -- pushing

    def _push_on_the_way(self) -> None:
        if self._pushing is None:
            self._pushing = Deferred.fromCoroutine(self._push_once())

    async def _push_once(self) -> None:
        try:
            await self._push()
        except PushFailed as error:
            # Once: the last word is said at the end.
            if not self._complained:
                self._complained = True
                PUSH_FAILED.log(self.log, reason=str(error))
        except CancelledError:
            return
        else:
            self._complained = False
        finally:
            self._pushing = None

    async def _push_last(self) -> str:
        if self._pusher is None:
            return ""
        try:
            await self._push()
        except PushFailed as error:
            return f"metrics not pushed: {error}"
        return ""

    async def _push(self) -> None:
        if self._pusher is not None:
            await self._pusher.push()

    # -- the text file

    def _check_textfile(self) -> None:
        path = self._options.textfile
        if path is None:
            return
        folder = os.path.dirname(os.path.abspath(path))
        if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"--metrics-textfile: {path}: cannot be written")
        if not path.endswith(".prom"):
            raise ConfigError(
                f"--metrics-textfile: {path}: node_exporter reads only files whose "
                "names end in .prom"
            )

    def _earlier_success(self) -> float | None:
        path = self._options.textfile or ""
        return last_value(path, LAST_SUCCESS, self._end_labels | _labels_in(path))

    async def _write(self) -> str:
        path = self._options.textfile
        if path is None or not self._delivers:
            return ""
        try:
            chosen = delivered(self._registry, labels=_labels_in(path))
            await self._in_thread(partial(write_textfile, path, chosen))
        except OSError as error:
            return f"metrics not written to {path}: {error.strerror}"
        return ""
