"""
What the metrics say while a move runs, and after it.
"""

from __future__ import annotations

from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from realize.model import Attribute, File, Notice
from realize.move.counting import Counting
from realize.move.outcome import Kind, Outcome
from realize.observe.move_metrics import ATTRIBUTES, LAST_SUCCESS, OUTCOMES, MoveMetrics

ENDS = ("local", "archive:inbox")
LABELS = {"source": "local", "destination": "archive:inbox"}


@pytest.fixture
def registry() -> CollectorRegistry:
    """
    An empty registry.
    """
    return CollectorRegistry()


@pytest.fixture
def counting(registry: CollectorRegistry) -> Counting:
    """
    An observer of a move that has not begun.
    """
    return Counting(MoveMetrics.create(registry, *ENDS), ENDS)


def file(path: bytes, size: int, mtime: int) -> File:
    """
    A listed file; *mtime* in seconds.
    """
    return File(path, size, mtime * 10**9, 0o644, b"i")


def outcome(path: bytes, size: int, kind: Kind, sent: int = 0) -> Outcome:
    """
    The end of a file.
    """
    return Outcome(path, size, 0, kind, sent=sent)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """
    A sample of the move.
    """
    return registry.get_sample_value(name, {**LABELS, **labels})


def test_outcomes_are_those_of_the_mover() -> None:
    """
    The labels are written down twice, since metrics lie below the mover.
    """
    assert get_args(Kind) == OUTCOMES


def test_attributes_are_those_of_the_stores() -> None:
    """
    The same.
    """
    assert get_args(Attribute) == ATTRIBUTES


def test_what_was_not_kept(counting: Counting, registry: CollectorRegistry) -> None:
    """
    By attribute.
    """
    for lacks in (["permissions"], ["permissions", "time"], []):
        counting.ended([Outcome(b"a", 1, 0, "moved", not_kept=lacks)])
    name = "realize_move_not_kept_total"
    assert value(registry, name, attribute="permissions") == 2
    assert value(registry, name, attribute="time") == 1


def test_pending(counting: Counting, registry: CollectorRegistry) -> None:
    """
    Files are pending from the listing to the outcome.
    """
    counting.listed([file(b"a", 10, 300), file(b"b", 5, 100)])
    name = "realize_move_oldest_pending_timestamp_seconds"
    assert value(registry, "realize_move_pending_files") == 2
    assert value(registry, "realize_move_pending_bytes") == 15
    assert value(registry, name) == 100
    counting.ended([outcome(b"b", 5, "deferred")])
    assert value(registry, "realize_move_pending_bytes") == 10
    assert value(registry, name) == 300
    counting.restarted()
    counting.listed([file(b"a", 10, 300)])
    counting.ended([outcome(b"a", 10, "moved", sent=10)])
    assert value(registry, "realize_move_pending_files") == 0
    assert value(registry, "realize_move_pending_bytes") == 0
    assert value(registry, name) == 0


def test_bytes_by_how(counting: Counting, registry: CollectorRegistry) -> None:
    """
    What crossed, what was there, what was renamed.
    """
    counting.advanced(60, b"a")
    counting.ended(
        [
            outcome(b"a", 100, "replaced", sent=60),
            outcome(b"b", 30, "present"),
            outcome(b"c", 7, "renamed"),
            outcome(b"d", 999, "failed"),
        ]
    )
    name = "realize_move_bytes_total"
    assert value(registry, name, how="sent") == 60
    assert value(registry, name, how="reused") == 70
    assert value(registry, name, how="renamed") == 7
    assert value(registry, "realize_move_files_total", outcome="failed") == 1


def test_unreadable_places_are_failures(
    counting: Counting, registry: CollectorRegistry
) -> None:
    """
    They make the run fail, so they have to show.
    """
    counting.noticed(Notice(b"d", "unreadable", "Permission denied"))
    counting.noticed(Notice(b"l", "symlink"))
    assert value(registry, "realize_move_files_total", outcome="failed") == 1


def test_all_series_start_at_zero_but_those_of_an_end(
    counting: Counting, registry: CollectorRegistry
) -> None:
    """
    A gauge at zero would say that the last success was in 1970.
    """
    for kind in OUTCOMES:
        assert value(registry, "realize_move_files_total", outcome=kind) == 0
    assert value(registry, "realize_move_exit_code") is None
    assert b"last_" not in generate_latest(registry)
    counting.metrics.ended(1, 2.5, 1000.0, None)
    assert value(registry, "realize_move_exit_code") == 1
    assert value(registry, "realize_move_duration_seconds") == 2.5
    name = "realize_move_last_completion_timestamp_seconds"
    assert value(registry, name) == 1000
    assert value(registry, LAST_SUCCESS) is None


def test_success_is_exported_where_there_is_one(
    counting: Counting, registry: CollectorRegistry
) -> None:
    """
    With the run's own labels.
    """
    counting.metrics.ended(0, 2.5, 1000.0, 1000.0)
    assert value(registry, LAST_SUCCESS) == 1000
