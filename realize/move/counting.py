"""
A move's metrics, kept up to date by what its observer hears.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from attrs import define, field

from realize.model import FAILURES, File, Notice
from realize.move.observers import IdleObserver
from realize.move.outcome import SUCCESSES, Outcome
from realize.observe.move_metrics import MoveMetrics

_NS: Final = 1_000_000_000


@define(eq=False)
class Counting(IdleObserver):
    """
    Tells :class:`~realize.observe.move_metrics.MoveMetrics` how a move goes.

    :ivar ends: values of the labels ``source`` and ``destination``.
    """

    metrics: MoveMetrics
    ends: tuple[str, str]
    _pending: dict[bytes, int] = field(factory=dict)
    _pending_bytes: int = 0

    def __attrs_post_init__(self) -> None:
        metrics = self.metrics
        for gauge, function in (
            (metrics.pending_files, partial(len, self._pending)),
            (metrics.pending_bytes, self._bytes),
            (metrics.oldest_pending, self._oldest),
        ):
            gauge.labels(*self.ends).set_function(function)

    # Called in the thread in which the metrics are put together.

    def _bytes(self) -> float:
        return self._pending_bytes

    def _oldest(self) -> float:
        # A copy first: the reactor's thread goes on meanwhile.
        return min(list(self._pending.values()), default=0) / _NS

    # Called by the mover.

    def listed(self, files: Sequence[File]) -> None:
        """
        These are pending now.
        """
        self._pending.update((file.path, file.mtime_ns) for file in files)
        self._pending_bytes += sum(file.size for file in files)

    def restarted(self) -> None:
        """
        What is pending will be listed again.
        """
        self._pending.clear()
        self._pending_bytes = 0

    def noticed(self, notice: Notice) -> None:
        """
        A place that cannot be read, or is not there, counts as a failed file.
        """
        if notice.kind in FAILURES:
            self.metrics.files.labels(*self.ends, "failed").inc()

    def advanced(self, nbytes: int, path: bytes) -> None:
        """
        Bytes have crossed.
        """
        self.metrics.bytes.labels(*self.ends, "sent").inc(nbytes)

    def reused(self, nbytes: int, path: bytes) -> None:
        """
        Counted when their file has come to its end.
        """

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        These are not pending any more.
        """
        reused = renamed = 0
        for outcome in outcomes:
            if self._pending.pop(outcome.path, None) is not None:
                self._pending_bytes -= outcome.size
            if outcome.kind == "renamed":
                renamed += outcome.size
            elif outcome.kind in SUCCESSES:
                reused += max(0, outcome.size - outcome.sent)
        kinds = Counter(outcome.kind for outcome in outcomes)
        for kind, number in kinds.items():
            self.metrics.files.labels(*self.ends, kind).inc(number)
        lacks = Counter(each for outcome in outcomes for each in outcome.not_kept)
        for attribute, number in lacks.items():
            self.metrics.not_kept.labels(*self.ends, attribute).inc(number)
        met = Counter(each.conflict for each in outcomes if each.conflict)
        for choice, number in met.items():
            self.metrics.conflicts.labels(*self.ends, choice).inc(number)
        self.metrics.bytes.labels(*self.ends, "reused").inc(reused)
        self.metrics.bytes.labels(*self.ends, "renamed").inc(renamed)
