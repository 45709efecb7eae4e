"""
What the proofs have to say beside "passed": how often something was killed or cut.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("tests.proof.trees")

_LINES = pytest.StashKey[list[str]]()

#: Keeps a line for the end of the test run.
Tell = Callable[[str], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """
    Says a line at the end of the test run.
    """
    lines = request.config.stash.setdefault(_LINES, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """
    Print what was told.
    """
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("proofs")
        for line in lines:
            terminalreporter.line(line)
