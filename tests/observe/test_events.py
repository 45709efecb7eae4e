"""
The catalogue of events, the code that logs them, and the page about them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from txaio.tx import make_logger

from realize.observe import events
from realize.observe.events import Event, catalogue
from realize.observe.formats import Record

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "realize").rglob("*.py"))
CATALOGUE = ROOT / "realize" / "observe" / "events.py"

#: What a logger can do; only :class:`Event` may ask for it.
LOGGER_METHODS = {
    *("trace", "debug", "info", "warn", "warning", "error", "critical", "failure"),
    *("emit", "msg", "err"),
}


def calls(path: Path) -> Iterator[ast.Call]:
    """
    All calls in a module.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def row(event: Event) -> str:
    """
    How the page describes an event.
    """
    message = event.message.replace("|", "\\|")
    fields = ", ".join(f"`{name}`" for name in event.fields) or "none"
    return f"| `{event.name}` | {event.level} | {message} | {fields} | {event.when} |"


def test_the_page_has_the_catalogue() -> None:
    """
    All of it, in its order, and nothing else.
    """
    page = (ROOT / "docs" / "logging.md").read_text("utf-8")
    table = page.split("<!-- events -->")[1].split("<!-- /events -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert rows == [row(event) for event in catalogue()]


def test_names_and_fields_are_sound() -> None:
    """
    Names are unique; no field takes the place of something that every line has, or
    that twisted.logger or the journal keeps for itself.
    """
    names = [event.name for event in catalogue()]
    assert len(set(names)) == len(names)
    for event in catalogue():
        assert event.name == event.name.lower().replace("_", "-")
        for name in event.fields:
            assert name.isidentifier()
            assert name.isascii()
            assert name not in ("level", "format", "event", "time", "message")
            assert not name.startswith(("log_", "txaio_"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_logged_that_is_not_in_the_catalogue(path: Path) -> None:
    """
    Modules have loggers only to hand them to an event.
    """
    if path == CATALOGUE:
        return
    for call in calls(path):
        called = call.func
        if not isinstance(called, ast.Attribute) or called.attr not in LOGGER_METHODS:
            continue
        owner = ast.unparse(called.value)
        assert owner.rpartition(".")[2] not in ("log", "_log", "logger"), (
            f"{path.name}:{call.lineno}: {owner}.{called.attr}"
        )


def test_every_event_is_logged_somewhere() -> None:
    """
    What the page promises can happen.
    """
    constants = {
        name for name, value in vars(events).items() if isinstance(value, Event)
    }
    used = {
        node.id
        for path in MODULES
        if path != CATALOGUE
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert constants - used == set()


def test_calls_have_exactly_the_fields_of_their_event() -> None:
    """
    Wherever an event is logged by its own name, with its fields spelt out.
    """
    checked = 0
    for path in MODULES:
        for call in calls(path):
            called = call.func
            if (
                not isinstance(called, ast.Attribute)
                or called.attr not in ("log", "log_failure")
                or not isinstance(called.value, ast.Name)
                or not isinstance(getattr(events, called.value.id, None), Event)
                or any(keyword.arg is None for keyword in call.keywords)
            ):
                continue
            event: Event = getattr(events, called.value.id)
            given = {keyword.arg for keyword in call.keywords} - {"failure"}
            assert given == set(event.fields), f"{path.name}:{call.lineno}"
            checked += 1
    assert checked > 20


def test_loggers_come_from_txaio() -> None:
    """
    So that a level that is off costs nothing.
    """
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "twisted.logger":
                assert "Logger" not in {alias.name for alias in node.names}, path
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                module = getattr(node, "module", None)
                assert "logging" not in names, path
                assert module not in ("logging", "twisted.python.log"), path


@pytest.mark.parametrize("event", catalogue(), ids=lambda event: event.name)
def test_messages_can_be_made(event: Event) -> None:
    """
    From any event with its fields, numbers where the message wants numbers.
    """
    seen: list[object] = []
    logger = make_logger(level="debug", observer=seen.append)
    fields = dict.fromkeys(event.fields, b"x{y}")
    numbers = {"seconds", "count", "size", "crossed"} & set(event.fields)
    event.log(logger, **(fields | dict.fromkeys(numbers, 1.5)))
    record = Record.of(seen[0])
    assert record.event == event.name
    assert record.level == event.level
    assert "Unable to format" not in record.message
    assert "{" not in record.message.replace("x{y}", "")
