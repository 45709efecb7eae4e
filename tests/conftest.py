"""
Rules for all tests: what may be skipped, and where; what has to run alone; and that
nothing comes in from around them.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import resource
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
from pytest_timeout import Settings
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.support.requirements import missing
from tests.support.surroundings import settle

#: Set by ``.ci/run`` in CI, where everything that a test needs has been installed.
NO_SKIPS = "REALIZE_NO_SKIPS"


#: Seconds that a test may take.
LIMIT: Final = pytest.StashKey[float]()

#: Names what a proof has to say, in the report of its test.
TOLD = "told"

#: What all processes of a test run hold while they run a test: together, or alone.
#: A file that is there anyway.
LOCK = Path(__file__)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """
    Before the first test module is imported; after pytest has looked for the variables
    that say how it is to report.
    """
    settle()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Tests marked ``alone`` come last, where fewer others have to wait for them.
    """
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """
    Of several processes, all the others wait while one runs a test marked ``alone``.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        return (yield)


@pytest.fixture(autouse=True)
def _same_limit() -> Generator[None]:
    """
    What a program does to its own limits, which a test does in its place, ends with it.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    if resource.getrlimit(resource.RLIMIT_NOFILE) != before:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


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
def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> None:
    """
    Remember how long the test may take.
    """
    item.stash[LIMIT] = settings.timeout


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """
    Give pytest-twisted the test as hypothesis has it, and coroutines with an end.

    It wraps the inner test of a property once more for each parameter, and would
    then wait inside its own waiting.

    The signal of pytest-timeout raises in whatever runs: while a coroutine waits, that
    is the reactor, which logs it and goes on.  So the reactor ends what waits for it.
    """
    handle = getattr(pyfuncitem.obj, "hypothesis", None)
    if handle is not None:
        handle.plain_test = getattr(handle, "plain_test", handle.inner_test)
        handle.inner_test = handle.plain_test
    elif inspect.iscoroutinefunction(pyfuncitem.obj) and LIMIT in pyfuncitem.stash:
        pyfuncitem.ihook.pytest_timeout_cancel_timer(item=pyfuncitem)
        pyfuncitem.obj = ending(pyfuncitem.obj, pyfuncitem.stash[LIMIT])


def ending(
    test: Callable[..., Coroutine[Deferred[Any], Any, None]], limit: float
) -> Callable[..., Deferred[None]]:
    """
    *test* as a function that cancels what it waits for when the time is over.

    :param limit: seconds.
    """

    def too_long(result: object, seconds: float) -> NoReturn:
        waited = result.value if isinstance(result, Failure) else None
        raise TimeoutError(f"still waiting after {seconds:g} s") from waited

    def begin(**arguments: Any) -> Deferred[None]:
        begun = Deferred.fromCoroutine(test(**arguments))
        clock: Any = reactor
        return begun.addTimeout(limit, clock, too_long)

    return begin


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """
    Print what proofs have to say, in whichever process they ran.
    """
    lines = [
        line
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, line in report.user_properties
        if name == TOLD
    ]
    if lines:
        terminalreporter.section("proofs")
        for line in lines:
            terminalreporter.line(line)
