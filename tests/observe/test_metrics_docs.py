"""
Metrics, their documentation, the alert rules and the dashboard, held to each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from realize.config import Config
from realize.daemon.monitoring import Monitoring
from realize.observe.account_metrics import AccountMetrics
from realize.observe.limit_metrics import LimitMetrics
from realize.observe.metrics import (
    CompressionMetrics,
    ConnectionMetrics,
    DirectoryMetrics,
    ProgramMetrics,
)
from realize.observe.move_metrics import MoveMetrics
from realize.wire.commands import command_metrics

ROOT = Path(__file__).parents[2]

#: Explained elsewhere.
FOREIGN = ("process_", "python_")

#: Put there by Prometheus and the Pushgateway.
SCRAPED = {"up"}
TARGET_LABELS = {"instance", "job", "le"}

ROW = re.compile(
    r"^\| `(?P<name>realize_\w+)` \| (?P<type>\w+) \| (?P<labels>[^|]*) \| "
    r"(?P<unit>[^|]+) \| (?P<text>[^|]+) \|$",
    re.MULTILINE,
)


def families() -> Iterator[Metric]:
    """
    Everything that either program registers.
    """
    registry = CollectorRegistry()
    ProgramMetrics.create(registry)
    ConnectionMetrics.create(registry, ["laptop"])
    command_metrics(registry, "answer")
    CompressionMetrics.create(registry)
    LimitMetrics.create(registry, ["laptop"])
    AccountMetrics.create(registry, ["laptop"])
    DirectoryMetrics.create(registry, ["inbox"])
    MoveMetrics.create(registry, "local", "archive:inbox").ended(0, 1.0, 2.0, 2.0)
    yield from registry.collect()


def name_of(family: Metric) -> str:
    """
    The name as it is documented.
    """
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    return family.name + suffix


def exported() -> dict[str, tuple[str, frozenset[str]]]:
    """
    Type and labels of each series of ours.
    """
    found = {}
    for family in families():
        if not family.name.startswith(FOREIGN):
            assert family.samples, f"{family.name} does not start at zero"
            labels = frozenset().union(*(set(each.labels) for each in family.samples))
            kind = "gauge" if family.type == "info" else family.type
            found[name_of(family)] = (kind, labels - {"le"})
    return found


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """
    Type and labels of each series in the documentation.
    """
    text = (ROOT / "docs" / "metrics.md").read_text()
    return {
        row["name"]: (row["type"], frozenset(re.findall(r"`(\w+)`", row["labels"])))
        for row in ROW.finditer(text)
    }


def test_documentation_lists_what_is_exported() -> None:
    """
    Each series, with its type and labels; none that is not there.
    """
    assert documented() == exported()


def test_names_follow_the_conventions() -> None:
    """
    Base units, counters with ``_total``, a help text that is a sentence.
    """
    for family in families():
        if family.name.startswith(FOREIGN):
            continue
        assert family.name.startswith("realize_")
        assert not re.search(r"_(ms|kb|mb|minutes|percent)(_|$)", family.name)
        assert family.documentation.endswith(".")


def expressions() -> Iterator[tuple[str, str]]:
    """
    Each expression of the rules and of the dashboard, with where it is from.
    """
    rules = (ROOT / "deploy" / "prometheus" / "realize.rules.yml").read_text()
    for number, expression in enumerate(re.findall(r"^ +expr: (.+)$", rules, re.M)):
        yield f"rule {number}", expression
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "realize.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_rules_and_dashboard_name_what_exists(where: str, expression: str) -> None:
    """
    Every series, and every label of it.
    """
    known = exported()
    series = set(re.findall(r"\brealize_\w+", expression))
    assert series or "up{" in expression
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        labels |= {label.strip() for label in group.split(",")}
    allowed = set(TARGET_LABELS)
    for name in series:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        found = known.get(name) or known.get(base)
        assert found, f"{where}: {name} does not exist"
        allowed |= found[1]
    assert labels <= allowed, f"{where}: {labels - allowed}"


def test_annotations_and_legends_name_labels_that_exist() -> None:
    """
    A label that no series has would show as nothing.
    """
    known = TARGET_LABELS.union(*(labels for _kind, labels in exported().values()))
    rules = (ROOT / "deploy" / "prometheus" / "realize.rules.yml").read_text()
    dashboard = (ROOT / "deploy" / "grafana" / "realize.json").read_text()
    used = set(re.findall(r"\$labels\.(\w+)", rules))
    used |= set(re.findall(r"\{\{(\w+)\}\}", dashboard))
    assert used
    assert used <= known


def test_the_daemon_has_every_group() -> None:
    """
    What is documented for it is registered by it.
    """
    reactor: Any = object()
    monitoring = Monitoring(reactor, Config())
    names = {name_of(family) for family in monitoring.registry.collect()}
    text = (ROOT / "docs" / "metrics.md").read_text()
    daemon = text.split("### A move")[0]
    assert {row["name"] for row in ROW.finditer(daemon)} <= names
