"""
The instruments, in one frozen group per area, all in a registry that is passed in.

Names are ``realize_<area>_<what>_<unit>[_total]``.  Every value that a label can have
is there from the start, at zero.  Labels come from bounded sets: ids of directories,
names of peers, commands, codes, outcomes.  ``docs/metrics.md`` lists everything.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Final, get_args

import twisted
from attrs import frozen
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

import realize
from realize.model import How
from realize.observe.levels import LEVELS

#: Why a connection was not served.
REFUSALS: Final = ("unknown key", "handshake", "deadline", "protocol", "too many")

#: Seconds; from an operation in memory to a disk that hangs.
_DURATIONS: Final = (0.001, 0.01, 0.1, 1, 10, 60, 600)

#: Seconds by which the reactor is late; a tenth is noticeable.
_LAGS: Final = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 5)

#: Files in one commit.
_GROUPS: Final = (1, 4, 16, 64, 256, 1024)


@frozen
class ProgramMetrics:
    """
    The program itself.

    :ivar lag: seconds by which the reactor was late for a timer.
    :ivar log_messages: events logged, by level.
    """

    lag: Histogram
    log_messages: Counter

    @classmethod
    def create(cls, registry: CollectorRegistry) -> ProgramMetrics:
        """
        Register these, the build's version, and what the process and Python tell.
        """
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        build = Info("realize_build", "What is running.", registry=registry)
        build.info(
            {
                "version": realize.__version__,
                "python": platform.python_version(),
                "twisted": twisted.__version__,
            }
        )
        metrics = cls(
            lag=Histogram(
                "realize_reactor_lag_seconds",
                "Seconds by which the reactor was late for a timer set each second.",
                buckets=_LAGS,
                registry=registry,
            ),
            log_messages=Counter(
                "realize_log_messages_total",
                "Events logged; those below the log level are not counted.",
                ["level"],
                registry=registry,
            ),
        )
        for level in LEVELS:
            metrics.log_messages.labels(level)
        return metrics


@frozen
class ConnectionMetrics:
    """
    Connections that peers make.

    :ivar open: now, by peer.
    :ivar opened: by peer.
    :ivar refused: by reason, one of :data:`REFUSALS`.
    :ivar network_bytes: as counted below TLS, by direction and peer.
    """

    open: Gauge
    opened: Counter
    refused: Counter
    network_bytes: Counter

    @classmethod
    def create(
        cls, registry: CollectorRegistry, peers: Iterable[str]
    ) -> ConnectionMetrics:
        """
        :param peers: the configured names.
        """
        metrics = cls(
            open=Gauge(
                "realize_connections_open",
                "Connections of peers that are served now.",
                ["peer"],
                registry=registry,
            ),
            opened=Counter(
                "realize_connections_opened_total",
                "Connections that were served, not counting those refused.",
                ["peer"],
                registry=registry,
            ),
            refused=Counter(
                "realize_connections_refused_total",
                "Connections that were closed before or instead of being served.",
                ["reason"],
                registry=registry,
            ),
            network_bytes=Counter(
                "realize_network_bytes_total",
                "Bytes of TCP connections, TLS and protocol included; not counting "
                "those that ended before the peer was known.",
                ["direction", "peer"],
                registry=registry,
            ),
        )
        for peer in peers:
            metrics.add_peer(peer)
        for reason in REFUSALS:
            metrics.refused.labels(reason)
        return metrics

    def add_peer(self, peer: str) -> None:
        """
        Start the series of a peer at zero.
        """
        self.open.labels(peer)
        self.opened.labels(peer)
        for direction in ("sent", "received"):
            self.network_bytes.labels(direction, peer)


@frozen
class CompressionMetrics:
    """
    Content that crosses the network compressed.

    :ivar content: bytes of it, by direction (``sent``, ``received``).
    :ivar crossed: bytes that it was compressed to, by direction.
    """

    content: Counter
    crossed: Counter

    @classmethod
    def create(cls, registry: CollectorRegistry) -> CompressionMetrics:
        """
        Every series starts at zero.
        """
        metrics = cls(
            content=Counter(
                "realize_compressed_content_bytes_total",
                "Content that crossed the network compressed, before it was.",
                ["direction"],
                registry=registry,
            ),
            crossed=Counter(
                "realize_compressed_network_bytes_total",
                "What that content was compressed to.",
                ["direction"],
                registry=registry,
            ),
        )
        for direction in ("sent", "received"):
            metrics.content.labels(direction)
            metrics.crossed.labels(direction)
        return metrics


@frozen
class CommandMetrics:
    """
    Requests of the protocol, on the side that answers and on the side that asks.

    :ivar requests: by side (``answer``, ``ask``) and command.
    :ivar errors: by side, command and code.
    :ivar in_progress: by side and command.
    :ivar duration: seconds from request to answer, by side and command.
    :ivar side: which of the two this is.
    """

    requests: Counter
    errors: Counter
    in_progress: Gauge
    duration: Histogram
    side: str

    @classmethod
    def create(
        cls,
        registry: CollectorRegistry,
        side: str,
        commands: Iterable[tuple[str, Iterable[str]]],
    ) -> CommandMetrics:
        """
        :param side: which of the two this program is: ``answer`` or ``ask``.
        :param commands: names of commands, each with the codes of its errors.
        """
        labels = ["side", "command"]
        metrics = cls(
            requests=Counter(
                "realize_command_requests_total",
                "Requests begun.",
                labels,
                registry=registry,
            ),
            errors=Counter(
                "realize_command_errors_total",
                "Requests answered with an error as a whole; failures of single files "
                "of a batch are not counted here.",
                [*labels, "code"],
                registry=registry,
            ),
            in_progress=Gauge(
                "realize_command_in_progress",
                "Requests that have no answer yet.",
                labels,
                registry=registry,
            ),
            duration=Histogram(
                "realize_command_duration_seconds",
                "Seconds from request to answer, waiting for limits included.",
                labels,
                buckets=_DURATIONS,
                registry=registry,
            ),
            side=side,
        )
        for command, codes in commands:
            metrics.requests.labels(side, command)
            metrics.in_progress.labels(side, command)
            metrics.duration.labels(side, command)
            for code in codes:
                metrics.errors.labels(side, command, code)
        return metrics

    def begin(self, command: str) -> None:
        """
        A request is on its way.
        """
        self.requests.labels(self.side, command).inc()
        self.in_progress.labels(self.side, command).inc()

    def end(self, command: str, seconds: float, code: str | None) -> None:
        """
        A request was answered, or never will be.

        :param code: of the error that was the answer; None for success.
        """
        self.in_progress.labels(self.side, command).dec()
        self.duration.labels(self.side, command).observe(seconds)
        if code is not None:
            self.errors.labels(self.side, command, code).inc()


@frozen
class DirectoryMetrics:
    """
    Files of the directories on this host, by directory.

    :ivar finished: files made final, also by how (:data:`realize.model.How`).
    :ivar removed: source files deleted.
    :ivar failed: files that could not be listed, read, written or removed.
    :ivar deferred: files left for a later run.
    :ivar file_bytes: content, also by direction (``written``, ``read``).
    :ivar reused_bytes: content taken from a file or partial present, not received.
    :ivar commit_duration: seconds that making a group of files durable took.
    :ivar commit_files: files in such a group.
    :ivar available: 1 while the root and its marker are there.
    :ivar free_bytes: that an ordinary user can still write.
    :ivar free_inodes: that are left.
    :ivar partial_files: under construction, of open connections.
    :ivar partial_bytes: in these.
    """

    finished: Counter
    removed: Counter
    failed: Counter
    deferred: Counter
    file_bytes: Counter
    reused_bytes: Counter
    commit_duration: Histogram
    commit_files: Histogram
    available: Gauge
    free_bytes: Gauge
    free_inodes: Gauge
    partial_files: Gauge
    partial_bytes: Gauge

    @classmethod
    def create(
        cls, registry: CollectorRegistry, directories: Iterable[str]
    ) -> DirectoryMetrics:
        """
        :param directories: their ids.
        """

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["directory", *labels], registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ["directory"], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                name, text, ["directory"], buckets=buckets, registry=registry
            )

        metrics = cls(
            finished=counter(
                "realize_files_finished_total",
                "Files that are verified, durable and under their name.",
                "how",
            ),
            removed=counter(
                "realize_files_removed_total",
                "Source files deleted after they were safe elsewhere.",
            ),
            failed=counter(
                "realize_files_failed_total",
                "Files that could not be read, written or removed; each attempt.",
            ),
            deferred=counter(
                "realize_files_deferred_total",
                "Files left for a later run, since they were changing or in use.",
            ),
            file_bytes=counter(
                "realize_file_bytes_total",
                "Content read for or written by moves, without protocol overhead.",
                "direction",
            ),
            reused_bytes=counter(
                "realize_file_reused_bytes_total",
                "Content taken from what was present, which did not cross the network.",
            ),
            commit_duration=histogram(
                "realize_commit_duration_seconds",
                "Seconds from the first fsync of a group of files to the last.",
                _DURATIONS,
            ),
            commit_files=histogram(
                "realize_commit_files", "Files made durable in one group.", _GROUPS
            ),
            available=gauge(
                "realize_directory_available",
                "1 while the directory and its marker are there, else 0.",
            ),
            free_bytes=gauge(
                "realize_directory_free_bytes",
                "Bytes of its file system that an ordinary user can still write.",
            ),
            free_inodes=gauge(
                "realize_directory_free_inodes", "Inodes left in its file system."
            ),
            partial_files=gauge(
                "realize_partial_files",
                "Files under construction of open connections; partials that earlier "
                "runs left are not counted.",
            ),
            partial_bytes=gauge(
                "realize_partial_bytes", "Bytes in the files under construction."
            ),
        )
        for directory in directories:
            metrics.add_directory(directory)
        return metrics

    def add_directory(self, directory: str) -> None:
        """
        Start the series of a directory at zero.
        """
        for plain in (
            self.removed,
            self.failed,
            self.deferred,
            self.reused_bytes,
            self.commit_duration,
            self.commit_files,
            self.available,
            self.free_bytes,
            self.free_inodes,
            self.partial_files,
            self.partial_bytes,
        ):
            plain.labels(directory)
        for how in get_args(How):
            self.finished.labels(directory, how)
        for direction in ("read", "written"):
            self.file_bytes.labels(directory, direction)
