"""
What the daemon counts and measures about itself, and where Prometheus reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool

from realize.accounts import Accounts
from realize.config import Config
from realize.daemon.health import INTERVAL, Health
from realize.daemon.listening import open_ports
from realize.observe.account_metrics import AccountMetrics
from realize.observe.audit import AuditLog
from realize.observe.lag import Lag
from realize.observe.limit_metrics import LimitMetrics
from realize.observe.metrics import DirectoryMetrics, ProgramMetrics
from realize.observe.recorder import Records
from realize.observe.site import metrics_site
from realize.peers import METRICS_PORT
from realize.store.directory import LocalDirectory
from realize.store.work import DiskThreads
from realize.wire.server import WireMetrics


class Monitoring:
    """
    The registry, its instruments, and what keeps them up to date.

    :ivar registry: all there is to see.
    :ivar program: the instruments of the program itself.
    :ivar wire: those of the connections.
    :ivar limits: those of the limits.
    :ivar shared: those of what peers share.
    :ivar accounts: what they hold of it, once there are any.
    """

    def __init__(self, reactor: Any, config: Config) -> None:
        # The time at which a series began tells nobody anything here.
        disable_created_metrics()
        self._reactor = reactor
        self.registry = CollectorRegistry()
        self.program = ProgramMetrics.create(self.registry)
        self.wire = WireMetrics.create(self.registry, config.peers)
        self.limits = LimitMetrics.create(self.registry, config.peers)
        self.shared = AccountMetrics.create(self.registry, config.peers)
        self.accounts: Accounts | None = None
        self._directories = DirectoryMetrics.create(self.registry, config.directories)
        self._lag = Lag(self.program.lag, reactor)
        self._watches: list[tuple[LoopingCall, DiskThreads]] = []
        self._watched: list[LocalDirectory] = []
        self._ports: list[IListeningPort] = []

    def records(
        self, directory: str, audit: AuditLog | None = None, place: bytes = b""
    ) -> Records:
        """
        Where what happens in a directory is kept.

        :param place: its absolute path.
        """
        self._directories.add_directory(directory)
        return Records(directory, self._directories, audit, place)

    def logged(self, level: str) -> None:
        """
        Count a line of the log.
        """
        self.program.log_messages.labels(level).inc()

    def listen(self, address: str) -> list[IListeningPort]:
        """
        Serve metrics at *address*, once the reactor runs.

        :raises ConfigError: that is not possible; the text says why.
        """
        in_thread = partial(
            deferToThreadPool, self._reactor, self._reactor.getThreadPool()
        )
        site = metrics_site(
            self.registry, in_thread, self._reactor, self._count_partials
        )
        self._ports = open_ports(self._reactor, address, site, METRICS_PORT)
        return self._ports

    def busy_changed(self, busy: bool) -> None:
        """
        There are connections now, or none any more.

        How late the reactor is is measured only while there are, and only if somebody
        can see it: a daemon without work sleeps.
        """
        self._lag.stop()
        if busy and self._ports:
            self._lag.start()

    def watch(self, directories: Iterable[LocalDirectory]) -> None:
        """
        Look after these directories, and no longer after those before.
        """
        self._unwatch()
        self._watched = list(directories)
        for directory in self._watched:
            threads = DiskThreads(0, 1, f"{directory.name} health")
            threads.start()
            in_thread = partial(deferToThreadPool, self._reactor, threads)
            loop = LoopingCall(Health(directory, in_thread, self._reactor).check)
            loop.clock = self._reactor
            loop.start(INTERVAL)
            self._watches.append((loop, threads))

    def _count_partials(self) -> None:
        if self.accounts is not None:
            self.shared.update(self.accounts)
        for directory in self._watched:
            partials = directory.under_construction()
            sizes = [have for _path, _size, have, _peer in partials]
            self._directories.partial_files.labels(directory.name).set(len(sizes))
            self._directories.partial_bytes.labels(directory.name).set(sum(sizes))

    def _unwatch(self) -> None:
        watches, self._watches = self._watches, []
        for loop, threads in watches:
            loop.stop()
            # Not waited for: the disk may hang.
            threads.adjustPoolsize(0, 0)

    async def stop(self) -> None:
        """
        Measure and serve no more.
        """
        self._lag.stop()
        self._unwatch()
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
