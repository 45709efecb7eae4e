"""
The service that ``twistd realized`` runs.

Whatever can be wrong is found in :func:`makeService`, before twistd goes into the
background, and ends it with one line and status 1: later nobody would see it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.application.service import IService, IServiceCollection, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    maybeDeferred,
    race,
)
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from txaio.tx import make_logger

import realize
from realize.accounts import Accounts
from realize.config import Config, DirectorySettings
from realize.config_file import find_config, load_config, nowhere
from realize.daemon.access import Access
from realize.daemon.listening import open_ports, port_name
from realize.daemon.log import open_logs
from realize.daemon.monitoring import Monitoring
from realize.daemon.options import Options
from realize.daemon.reloading import Reloading, check_directories
from realize.daemon.upkeep import Upkeep
from realize.errors import ConfigError, RealizeError
from realize.memory import collect_rarely, keep_freed_memory
from realize.net.keys import load_private_key
from realize.net.limits import Limits
from realize.observe.events import BUG, STARTED, STOP_INCOMPLETE, STOPPED, STOPPING
from realize.peers import DEFAULT_PORT
from realize.store.directory import LocalDirectory
from realize.store.guard import ignore_lease_signals
from realize.store.work import WorkPool
from realize.units import format_rate
from realize.wire.compression import Compression
from realize.wire.server import ServerFactory

__all__ = ["Daemon", "Options", "makeService"]

#: Where the daemon listens if nobody says.
DEFAULT_ADDRESS: Final = f"*:{DEFAULT_PORT}"

#: Seconds that stopping may take.  What is being committed is finished in that time,
#: or found by the next run as after a power cut.
STOP_DEADLINE: Final = 60

_HERE: Final = Path()


def makeService(options: Options) -> IService:
    """
    Set up everything, or end the program.

    :raises SystemExit: something is wrong: one line, status 1; or ``--check`` was
        given and nothing is: status 0.
    """
    from twisted.internet import reactor

    try:
        return _make_daemon(options, os.environ, reactor)
    except RealizeError as error:
        raise SystemExit(f"realized: {error}") from None
    except OSError as error:
        place = error.filename or "working directory"
        raise SystemExit(f"realized: {place}: {error.strerror}") from None


def _make_daemon(options: Options, environ: Mapping[str, str], reactor: Any) -> Daemon:
    config = _read_config(options["config"], environ)
    key = load_private_key(_key_path(options["privkey"], environ, config), environ)
    monitoring = Monitoring(reactor, config)
    logs = open_logs(
        options, environ, config.service, sys.stdout, reactor, monitoring.logged
    )

    accounts = monitoring.accounts = Accounts()

    def make_directory(name: str, settings: DirectorySettings) -> LocalDirectory:
        records = monitoring.records(name, logs.audit, bytes(settings.path))
        return LocalDirectory(
            name, settings, reactor, records=records, accounts=accounts
        )

    access = Access(make_directory, reactor, logs.switch)
    access.use(config)
    check_directories(config, access.directories)
    limits = Limits(reactor, monitoring.limits)
    limits.configure(config)
    threads = WorkPool(reactor, name="zstd")
    compression = Compression(threads, metrics=monitoring.wire.compression)
    wire = ServerFactory(
        access,
        reactor,
        metrics=monitoring.wire,
        limits=limits,
        compression=compression,
    )
    reloading = Reloading(
        reactor,
        config,
        partial(_read_config, options["config"], environ, Path.cwd()),
        access,
        wire,
        monitoring,
    )
    upkeep = Upkeep(reactor, logs, reloading, partial(_status_line, limits), environ)

    def busy_changed() -> None:
        monitoring.busy_changed(limits.is_busy)
        upkeep.busy_changed(limits.is_busy)

    limits.busy_changed = busy_changed
    # Whoever sees a port open may send a signal.
    upkeep.listen()
    address = (
        options["address"]
        or environ.get("REALIZE_ADDRESS")
        or config.service.address
        or DEFAULT_ADDRESS
    )
    if options["check"] and address.startswith("systemd:"):
        ports = []  # passed to the service itself only, not to ExecStartPre
    else:
        ports = open_ports(reactor, address, wire.listening(key, accounts.places))
    metrics_addr = (
        options["metrics-addr"]
        or environ.get("REALIZE_METRICS_ADDR")
        or config.service.metrics_addr
    )
    if metrics_addr:
        monitoring.listen(metrics_addr)
    if options["check"]:
        sys.stdout.write("realized: everything that a start needs is there\n")
        raise SystemExit(0)
    return Daemon(reactor, access, wire, threads, ports, monitoring, upkeep)


def _read_config(
    flag: str | None, environ: Mapping[str, str], start: Path = _HERE
) -> Config:
    """
    :param start: the directory that a relative path of the file is meant from: in the
        background, twistd may go to another.
    """
    path = find_config(flag, environ)
    if path is None:
        raise ConfigError(nowhere(environ))
    return load_config(start / path)


def _key_path(flag: str | None, environ: Mapping[str, str], config: Config) -> Path:
    if asked := flag or environ.get("REALIZE_PRIVKEY"):
        return Path(asked)
    if config.privkey is None:
        raise ConfigError(
            "no private key; name one with --privkey FILE, or privkey in the "
            'configuration ("realize keygen FILE" makes one)'
        )
    return config.privkey


def _status_line(limits: Limits) -> str:
    """
    What goes on, for systemd's status.
    """
    sessions = limits.sessions
    received = sum(each.rates["receive"] for each in sessions)
    sent = sum(each.rates["send"] for each in sessions)
    return (
        f"{len(sessions)} connection{'' if len(sessions) == 1 else 's'}, "
        f"{format_rate(round(received))} received, {format_rate(round(sent))} sent"
    )


class Daemon(Service):
    """
    Offers directories to peers until it is stopped.

    :param threads: in which *wire* compresses.
    :param ports: open already; answered once the reactor runs.
    :param upkeep: runs beside it.
    """

    name = "realized"
    log = make_logger()

    def __init__(
        self,
        reactor: Any,
        access: Access,
        wire: ServerFactory,
        threads: WorkPool,
        ports: list[IListeningPort],
        monitoring: Monitoring,
        upkeep: Upkeep,
    ) -> None:
        self._reactor = reactor
        self._access = access
        self._wire = wire
        self._threads = threads
        self._ports = ports
        self._monitoring = monitoring
        self._upkeep = upkeep

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """
        Log by our observer if *parent* is the application that twistd has made.
        """
        self._upkeep.logs.install(parent)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """
        Prepare the process and say where we listen.
        """
        super().startService()
        ignore_lease_signals()
        keep_freed_memory()
        collect_rarely()
        self._monitoring.watch(self._access.directories.values())
        self._wire.limits.start()
        self._upkeep.start()
        STARTED.log(
            self.log,
            version=realize.__version__,
            address=" ".join(port_name(port) for port in self._ports),
            directories=" ".join(self._access.directories) or "nothing",
            peers=" ".join(self._access.peers) or "nobody",
        )

    def stopService(self) -> Deferred[None]:
        """
        Accept nobody, finish what is being committed, and close everything, within
        :data:`STOP_DEADLINE`.
        """
        super().stopService()
        # Whoever asks twice does not want to wait: nothing is lost by that.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        STOPPING.log(self.log)
        self._upkeep.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        finishing = Deferred.fromCoroutine(self._finish())
        finishing.addErrback(self._not_finished)
        too_late: Deferred[bool] = deferLater(self._reactor, STOP_DEADLINE)
        first, finished = await race([finishing, too_late])
        if first == 1:
            STOP_INCOMPLETE.log(self.log, seconds=STOP_DEADLINE)
        elif finished:
            STOPPED.log(self.log)

    def _not_finished(self, failure: Failure) -> bool:
        if not failure.check(CancelledError):
            BUG.log_failure(
                self.log, failure, what="Stopping", error=repr(failure.value)
            )
        return False

    async def _finish(self) -> bool:
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        await self._wire.stop()
        self._threads.close()
        await self._monitoring.stop()
        await DeferredList(
            [
                Deferred.fromCoroutine(directory.close())
                for directory in self._access.directories.values()
            ]
        )
        await self._upkeep.stop()
        return True
