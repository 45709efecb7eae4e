"""
What the proofs have to say beside "passed": how often something was killed or cut.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("tests.proof.trees")

_LINE = "proof"

#: Keeps a line for the end of the test run.
Tell = Callable[[str], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """
    Says a line at the end of the test run.
    """
    # What belongs to the test's report comes from other processes, too.
    properties = request.node.user_properties
    return lambda line: properties.append((_LINE, f"{request.node.name}: {line}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """
    Print what was told.
    """
    lines = [
        line
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, line in report.user_properties
        if name == _LINE
    ]
    if lines:
        terminalreporter.section("proofs")
        for line in lines:
            terminalreporter.line(line)
