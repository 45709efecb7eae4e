"""
The instruments of one move, which may be scraped, pushed, or written to a file.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Gauge

from realize.conflicts import CHOICES

#: Outcomes of files, as :data:`realize.move.outcome.Kind` has them.
OUTCOMES: Final = (
    "moved",
    "replaced",
    "present",
    "renamed",
    "deferred",
    "gone",
    "failed",
)

#: How content came to the destination: over the network, from what was there already,
#: by a rename inside one file system.
BYTES_BY: Final = ("sent", "reused", "renamed")

#: What files may arrive without, as :data:`realize.model.Attribute` has them.
ATTRIBUTES: Final = ("permissions", "time")

#: The series that a run exports only if it succeeded.
LAST_SUCCESS: Final = "realize_move_last_success_timestamp_seconds"

_ENDS: Final = ("source", "destination")


@frozen
class MoveMetrics:
    """
    One move, by its two ends: ``PEER:DIRECTORY``, or ``local``.

    All series have the labels ``source`` and ``destination``, set once and for all.

    :ivar files: by outcome.
    :ivar bytes: of content that arrived, by how.
    :ivar not_kept: files that arrived without an attribute, by attribute.
    :ivar conflicts: files of which another one had the name, by what was done.
    :ivar pending_files: listed and without an outcome; more may not be listed yet.
    :ivar pending_bytes: sizes of these.
    :ivar oldest_pending: seconds since 1970, when the oldest of these changed; 0 if
        there is none.
    :ivar retries: connections that were lost and made again.
    """

    files: Counter
    bytes: Counter
    not_kept: Counter
    conflicts: Counter
    pending_files: Gauge
    pending_bytes: Gauge
    oldest_pending: Gauge
    retries: Counter
    _registry: CollectorRegistry
    _source: str
    _destination: str

    @classmethod
    def create(
        cls, registry: CollectorRegistry, source: str, destination: str
    ) -> MoveMetrics:
        """
        Register what can be told while the move runs.
        """

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, [*_ENDS, *labels], registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, _ENDS, registry=registry)

        metrics = cls(
            files=counter(
                "realize_move_files_total",
                "Files that have come to their end in this run.",
                "outcome",
            ),
            bytes=counter(
                "realize_move_bytes_total",
                "Content that arrived in this run, without protocol overhead.",
                "how",
            ),
            not_kept=counter(
                "realize_move_not_kept_total",
                "Files that arrived without an attribute that the file system of the "
                "destination did not take over.",
                "attribute",
            ),
            conflicts=counter(
                "realize_move_conflicts_total",
                "Files of which another one had the name at the destination.",
                "choice",
            ),
            pending_files=gauge(
                "realize_move_pending_files",
                "Files listed that have no outcome yet; the listing is some thousands "
                "of files ahead of the move, no more.",
            ),
            pending_bytes=gauge(
                "realize_move_pending_bytes", "Sizes of the pending files."
            ),
            oldest_pending=gauge(
                "realize_move_oldest_pending_timestamp_seconds",
                "When the oldest of the pending files was changed; 0 without any.",
            ),
            retries=counter(
                "realize_move_retries_total",
                "Attempts to connect again after a connection was lost.",
            ),
            registry=registry,
            source=source,
            destination=destination,
        )
        ends = (source, destination)
        for outcome in OUTCOMES:
            metrics.files.labels(*ends, outcome)
        for how in BYTES_BY:
            metrics.bytes.labels(*ends, how)
        for attribute in ATTRIBUTES:
            metrics.not_kept.labels(*ends, attribute)
        for choice in CHOICES:
            metrics.conflicts.labels(*ends, choice)
        for plain in (
            metrics.pending_files,
            metrics.pending_bytes,
            metrics.oldest_pending,
            metrics.retries,
        ):
            plain.labels(*ends)
        return metrics

    def ended(
        self, exit_code: int, seconds: float, now: float, last_success: float | None
    ) -> None:
        """
        Register what can be told of a run only once it has ended; call it once.

        The time of the last success is exported only where there is one: a gauge at
        zero would look like a success in 1970, and erase a real one at a gateway.

        :param seconds: that the run took.
        :param now: seconds since 1970.
        :param last_success: *now* if this run succeeded; otherwise what is known of
            an earlier one, or None.
        """
        values = [
            (
                "realize_move_duration_seconds",
                "Seconds that the last run took.",
                seconds,
            ),
            (
                "realize_move_exit_code",
                "Exit code of the last run; see the documentation of the command.",
                exit_code,
            ),
            (
                "realize_move_last_completion_timestamp_seconds",
                "When the last run ended, successful or not.",
                now,
            ),
        ]
        if last_success is not None:
            values.append((LAST_SUCCESS, "When a run last succeeded.", last_success))
        for name, text, value in values:
            gauge = Gauge(name, text, _ENDS, registry=self._registry)
            gauge.labels(self._source, self._destination).set(value)
