"""
What a recorder counts, logs and writes down.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from realize.errors import AlreadyExists, Busy, DiskError, SyncFailed
from realize.observe.audit import AuditLog
from realize.observe.events import catalogue
from realize.observe.journeys import LINES_AT_ONCE, LINES_PER_GROUP, LineBudget
from realize.observe.metrics import DirectoryMetrics
from realize.observe.recorder import (
    Party,
    Recorder,
    Records,
    Settled,
)
from tests.support.recording import at_once


@pytest.fixture
def registry() -> CollectorRegistry:
    """
    An empty registry.
    """
    return CollectorRegistry()


@pytest.fixture
def recorder(registry: CollectorRegistry, tmp_path: Path) -> Recorder:
    """
    A recorder with receipts in ``audit``.
    """
    metrics = DirectoryMetrics.create(registry, ["inbox"])
    audit = AuditLog(str(tmp_path / "audit"))
    records = Records("inbox", metrics, audit)
    return Recorder(records, Party("laptop", "5e55"), b"", at_once)


def settled(count: int) -> list[Settled]:
    """
    So many files of ten bytes that arrived.
    """
    return [Settled(b"f%d" % n, 10, bytes(32), "written") for n in range(count)]


def gone(count: int) -> list[Settled]:
    """
    So many files of ten bytes that were taken.
    """
    return [Settled(b"f%d" % n, 10, bytes(32)) for n in range(count)]


def names(events: list[dict[str, Any]]) -> list[str]:
    """
    The names of logged events.
    """
    return [event["event"] for event in events]


def test_few_files_get_a_line_each(
    recorder: Recorder, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """
    Counted by how they came to be.
    """
    with capturedLogs() as events:
        recorder.final(settled(LINES_PER_GROUP))
        recorder.removed(gone(2))
    assert names(events) == ["file-final"] * LINES_PER_GROUP + ["file-removed"] * 2
    labels = {"directory": "inbox", "how": "written"}
    count = registry.get_sample_value("realize_files_finished_total", labels)
    assert count == LINES_PER_GROUP
    lines = (tmp_path / "audit").read_text().splitlines()
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds == ["final"] * LINES_PER_GROUP + ["removed"] * 2


def test_many_files_get_one_line_and_all_receipts(
    recorder: Recorder, tmp_path: Path
) -> None:
    """
    So that a move of small files does not flood the journal.
    """
    with capturedLogs() as events:
        recorder.final(settled(1000))
    assert names(events) == ["files-final"]
    assert events[0]["count"] == 1000
    assert events[0]["size"] == 10_000
    assert len((tmp_path / "audit").read_text().splitlines()) == 1000


def test_no_receipt_no_success(registry: CollectorRegistry) -> None:
    """
    If receipts cannot be written, nothing is counted or logged as final.
    """
    metrics = DirectoryMetrics.create(registry, ["inbox"])
    records = Records("inbox", metrics, AuditLog("/dev/full"))
    recorder = Recorder(records, Party("p", "s"), b"", at_once)
    with capturedLogs() as events, pytest.raises(DiskError, match="audit log"):
        recorder.final(settled(1))
    assert events == []
    labels = {"directory": "inbox", "how": "written"}
    assert registry.get_sample_value("realize_files_finished_total", labels) == 0


def test_failures_and_deferrals_are_told_apart(
    recorder: Recorder, registry: CollectorRegistry
) -> None:
    """
    A deferred file is no failure; a failed fsync is more than one.
    """
    with capturedLogs() as events:
        recorder.failed(b"a", AlreadyExists("a: another file has this name"))
        recorder.failed(b"b", Busy("b: held by archive"))
        recorder.failed(b"c", SyncFailed("c: I/O error"))
    # The debug line is not there: its level is off.
    assert names(events) == ["file-failed", "file-failed", "sync-failed"]
    assert events[0]["text"] == "another file has this name"
    assert events[0]["path"] == b"a"
    value = registry.get_sample_value
    assert value("realize_files_failed_total", {"directory": "inbox"}) == 2
    assert value("realize_files_deferred_total", {"directory": "inbox"}) == 1


def test_what_is_logged_has_the_fields_of_the_catalogue(recorder: Recorder) -> None:
    """
    No field too many, none too few.
    """
    known = {event.name: set(event.fields) for event in catalogue()}
    with capturedLogs() as events:
        recorder.final(settled(1))
        recorder.final(settled(20))
        recorder.removed(gone(1))
        recorder.removed(gone(20))
        recorder.failed(b"a", SyncFailed("a: I/O error"))
    assert len(events) == 6
    for event in events:
        fields = {name for name in event if not name.startswith("log_")} - {"event"}
        assert fields == known[event["event"]]


def test_receipts_have_the_path_below_the_directory(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    """
    Whatever part of it was moved to.
    """
    metrics = DirectoryMetrics.create(registry, ["inbox"])
    records = Records("inbox", metrics, AuditLog(str(tmp_path / "audit")))
    Recorder(records, Party(), b"2026/11", at_once).final(settled(1))
    document = json.loads((tmp_path / "audit").read_text())
    assert (document["path"], document["peer"]) == ("2026/11/f0", "local")


def test_a_removal_whose_receipt_is_lost(registry: CollectorRegistry) -> None:
    """
    It has happened, so it is counted and logged, and so is the loss.
    """
    metrics = DirectoryMetrics.create(registry, ["inbox"])
    records = Records("inbox", metrics, AuditLog("/dev/full"))
    recorder = Recorder(records, Party("p", "s"), b"sub", at_once)
    with capturedLogs() as events:
        recorder.removed(gone(2))
    assert names(events) == ["file-removed", "file-removed", "receipts-lost"]
    assert (events[2]["count"], events[2]["path"]) == (2, b"sub/f1")
    value = registry.get_sample_value
    assert value("realize_files_removed_total", {"directory": "inbox"}) == 2


def test_files_that_somebody_else_tells_of(registry: CollectorRegistry) -> None:
    """
    They are counted, and no line is written; a disk that fails is told of all the same.
    """
    metrics = DirectoryMetrics.create(registry, ["/data"])
    recorder = Recorder(
        Records("/data", metrics, tells_files=False), Party(), b"", at_once
    )
    with capturedLogs() as events:
        recorder.final(settled(1))
        recorder.removed(gone(20))
        recorder.failed(b"a", SyncFailed("a: I/O error"))
    assert names(events) == ["sync-failed"]
    value = registry.get_sample_value
    assert value("realize_files_removed_total", {"directory": "/data"}) == 20


def test_many_single_files_share_lines(registry: CollectorRegistry) -> None:
    """
    Also if each comes alone, but all within a moment; none is forgotten.
    """
    metrics = DirectoryMetrics.create(registry, ["inbox"])
    records = Records("inbox", metrics, lines=LineBudget(Clock().seconds))
    recorder = Recorder(records, Party(), b"", at_once)
    with capturedLogs() as events:
        for _ in range(1000):
            recorder.final(settled(1))
        recorder.close()
    assert names(events) == ["file-final"] * LINES_AT_ONCE + ["files-final"]
    assert events[-1]["count"] == 1000 - LINES_AT_ONCE
    assert events[-1]["size"] == 10 * events[-1]["count"]


def test_a_flood_of_failures_is_counted(registry: CollectorRegistry) -> None:
    """
    A peer that asks for a thousand impossible names does not fill the journal.
    """
    metrics = DirectoryMetrics.create(registry, ["inbox"])
    records = Records("inbox", metrics, lines=LineBudget(Clock().seconds))
    recorder = Recorder(records, Party("laptop"), b"", at_once)
    with capturedLogs() as events:
        for number in range(1000):
            recorder.failed(b"%d" % number, AlreadyExists("is there"))
        recorder.close()
    assert names(events) == ["file-failed"] * LINES_AT_ONCE + ["errors-suppressed"]
    assert (events[-1]["peer"], events[-1]["count"]) == ("laptop", 900)
    value = registry.get_sample_value
    assert value("realize_files_failed_total", {"directory": "inbox"}) == 1000
