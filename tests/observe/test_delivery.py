"""
What of a move's metrics is pushed or written.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from realize.observe.delivery import MAX_SERIES, delivered
from realize.observe.metrics import CommandMetrics, ProgramMetrics
from realize.observe.move_metrics import MoveMetrics

COMMANDS = [f"Command{number}" for number in range(40)]
CODES = [f"CODE_{number}" for number in range(20)]


def registry() -> tuple[CollectorRegistry, CommandMetrics]:
    """All that a move counts."""
    everything = CollectorRegistry()
    ProgramMetrics.create(everything)
    move = MoveMetrics.create(everything, "local", "nas:inbox")
    move.ended(0, 1.5, 1000.0, 1000.0)
    commands = CommandMetrics.create(
        everything, "ask", [(name, CODES) for name in COMMANDS]
    )
    return everything, commands


def series(chosen: CollectorRegistry) -> list[Sample]:
    """As they are read at the other end."""
    text = generate_latest(chosen).decode()
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples]


def test_text_file_has_only_the_moves_own() -> None:
    """With a label that says which move."""
    everything, _commands = registry()
    found = series(delivered(everything, labels={"move": "camera"}))
    assert {each.labels["move"] for each in found} == {"camera"}
    assert all(each.name.startswith("realize_move_") for each in found)
    own = [
        each
        for each in series(everything)
        if each.name.startswith("realize_move_") and not each.name.endswith("_created")
    ]
    assert len(found) == len(own) > 10


def test_push_leaves_out_zeros() -> None:
    """Of what was asked only what was; each family has one series at least."""
    everything, commands = registry()
    commands.errors.labels("ask", "Command3", "CODE_4").inc(2)
    found = series(delivered(everything, counted=True))
    errors = [each for each in found if each.name == "realize_command_errors_total"]
    assert [(each.labels["code"], each.value) for each in errors] == [("CODE_4", 2)]
    assert len(found) <= MAX_SERIES
    requests = [e for e in found if e.name == "realize_command_requests_total"]
    assert [each.value for each in requests] == [0]


def test_push_is_bounded() -> None:
    """However much there is to count; the move's own come first."""
    everything, commands = registry()
    for name in COMMANDS:
        for code in CODES:
            commands.errors.labels("ask", name, code).inc()
    found = series(delivered(everything, counted=True))
    assert len(found) == MAX_SERIES
    names = {each.name for each in found}
    assert "realize_move_last_success_timestamp_seconds" in names


def test_values_are_those_of_now() -> None:
    """A push after another has what was counted meanwhile."""
    everything, commands = registry()
    chosen = delivered(everything, counted=True)
    series(chosen)
    commands.errors.labels("ask", "Command0", "CODE_0").inc()
    errors = [e for e in series(chosen) if e.name == "realize_command_errors_total"]
    assert [each.value for each in errors] == [1]
