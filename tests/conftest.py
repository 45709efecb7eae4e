"""
Rules for all tests: what may be skipped, and where.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.support.requirements import missing

#: Set by ``.ci/run`` in CI, where everything that a test needs has been installed.
NO_SKIPS = "REALIZE_NO_SKIPS"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """
    Tests marked ``root`` need root and loop devices.
    """
    if item.get_closest_marker("root") and (lacks := missing(root=True, loop=True)):
        pytest.skip(f"needs {', '.join(lacks)}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """
    The same for modules that skip themselves whole.
    """
    report = yield
    if report.skipped and os.environ.get(NO_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped where {NO_SKIPS} is set: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """
    Where nothing may be skipped, a skip is a failure that says why it was one.
    """
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(NO_SKIPS):
        reason = call.excinfo.value if call.excinfo else "no reason"
        report.outcome = "failed"
        report.longrepr = f"skipped where {NO_SKIPS} is set: {reason}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """
    Give pytest-twisted the test as hypothesis has it.

    It wraps the inner test of a property once more for each parameter, and would
    then wait inside its own waiting.
    """
    handle = getattr(pyfuncitem.obj, "hypothesis", None)
    if handle is not None:
        handle.plain_test = getattr(handle, "plain_test", handle.inner_test)
        handle.inner_test = handle.plain_test
