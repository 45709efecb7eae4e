"""
Who may import whom, as ``docs/architecture.md`` has it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import realize

ROOT = Path(realize.__file__).parent

#: Lowest first.  A module imports its own package and lower layers only.
LAYERS = (
    {"errors"},
    {"units", "paths", "memory", "digest", "inputs"},
    {"texts", "conflicts"},
    {"model", "peers", "schedule", "accounts"},
    {"delta"},
    {"config"},
    {"config_file"},
    {"observe"},
    {"store", "net"},
    {"wire"},
    {"move"},
    {"daemon", "cli"},
)

#: Below this layer there is no Twisted.
FIRST_WITH_TWISTED = "observe"

#: Who gets the global reactor and hands it on.
REACTOR = {"cli/main.py", "daemon/service.py"}

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def package_of(path: Path) -> str:
    """
    The part of ``realize`` that a module belongs to.
    """
    return path.parts[0].removesuffix(".py")


def imports(source: str) -> Iterator[str]:
    """
    Dotted names of all that is imported, wherever in the module it is.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what they import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def complaints(path: Path, source: str) -> Iterator[str]:
    """
    What is wrong with the imports of one module.
    """
    own = package_of(path)
    if own == "__init__":
        return
    if own not in LAYER_OF:
        yield f"{own} is in no layer"
        return
    for name in imports(source):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == "realize" and other in LAYER_OF and other != own:
            if LAYER_OF[other] >= LAYER_OF[own]:
                yield f"{own} may not import {name}"
        elif top in ("twisted", "txaio", "zope"):
            if LAYER_OF[own] < LAYER_OF[FIRST_WITH_TWISTED]:
                yield f"{own} may not import {name}"
            elif (
                name.startswith("twisted.internet.reactor")
                and path.as_posix() not in REACTOR
            ):
                yield f"{path} may not import the reactor"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_down(path: Path) -> None:
    """
    No import reaches up a layer or sideways into a sibling; below ``observe`` there is
    no Twisted; and two modules only import the reactor.
    """
    assert list(complaints(path, (ROOT / path).read_text())) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "from realize import model"),
        ("store/local.py", "import realize.wire.remote"),
        ("store/local.py", "from realize.net import tls"),
        ("cli/move.py", "from realize.daemon.service import make"),
        ("config.py", "from twisted.internet import defer"),
        ("units.py", "def f():\n    import txaio"),
        ("move/mover.py", "from twisted.internet import reactor"),
        ("cli/move.py", "import twisted.internet.reactor as r"),
        ("helpers.py", ""),
    ],
)
def test_what_is_forbidden_is_found(path: str, source: str) -> None:
    """
    The rule sees every way to break it.
    """
    assert len(list(complaints(Path(path), source))) == 1


def test_every_layer_exists() -> None:
    """
    No layer is listed that is long gone.
    """
    assert {package_of(path) for path in MODULES} - {"__init__"} == set(LAYER_OF)
