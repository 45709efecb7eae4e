"""
A daemon that nobody is connected to sleeps.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from realize.config import Config
from realize.daemon.monitoring import Monitoring
from realize.daemon.upkeep import STATUS_INTERVAL, Upkeep
from realize.observe.site import metrics_site
from tests.daemon.test_process import Host, start
from tests.support.daemon import PATIENCE, running_daemon
from tests.support.programs import free_port


def wakings(pid: int) -> int:
    """
    How often the threads of a process have gone to sleep.
    """
    lines = [
        line
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    ]
    return sum(int(line.split()[1]) for line in lines)


@pytest.mark.parametrize("with_metrics", [False, True])
def test_nothing_wakes_every_few_seconds(tmp_path: Path, with_metrics: bool) -> None:
    """
    Until somebody looks whether the directories are there.
    """
    host = Host(tmp_path)
    host.configure()
    metrics = f"--metrics-addr=127.0.0.1:{free_port()}"
    with running_daemon(host.root, *start(host, *[metrics] * with_metrics)) as daemon:
        deadline = time.monotonic() + PATIENCE
        while True:
            before = wakings(daemon.pid)
            time.sleep(3)
            if wakings(daemon.pid) == before:
                return
            assert time.monotonic() < deadline, "it never sleeps for three seconds"


@define
class Retired:
    """
    What a reload has left to tidy up.
    """

    is_untidy: bool = False

    async def tidy(self) -> None:
        """
        There is nothing to do yet.
        """


@define
class Manager:
    """
    The service manager.
    """

    socket: socket.socket

    def heard(self) -> list[str]:
        """
        What it was told since it was last asked.
        """
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(self.socket.recv(4096).decode())
        return heard


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """
    One that listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"{tmp_path}/notify")
        listener.setblocking(False)
        yield Manager(listener)


class Running(Clock):
    """
    A reactor that runs.
    """

    def callWhenRunning(self, function: Any) -> None:  # noqa: N802
        """
        Call it now.
        """
        function()


def upkeep(manager: Manager, retired: Retired) -> tuple[Upkeep, Running]:
    """
    What runs beside a daemon, and its clock.
    """
    clock = Running()
    logs: Any = None
    reloading: Any = retired
    environ = {"NOTIFY_SOCKET": manager.socket.getsockname()}
    beside = Upkeep(clock, logs, reloading, lambda: "all is well", environ)
    beside.start()
    return beside, clock


def test_status_is_told_while_there_are_connections(manager: Manager) -> None:
    """
    When the first comes, every few seconds, and once more when the last has gone.
    """
    beside, clock = upkeep(manager, Retired())
    assert manager.heard() == ["READY=1\nSTATUS=all is well"]
    assert clock.getDelayedCalls() == []
    beside.busy_changed(True)
    clock.pump([STATUS_INTERVAL] * 2)
    assert manager.heard() == ["STATUS=all is well"] * 3
    beside.busy_changed(False)
    assert manager.heard() == ["STATUS=all is well"]
    clock.advance(STATUS_INTERVAL)
    assert clock.getDelayedCalls() == []


def test_no_status_is_told_after_the_end(manager: Manager) -> None:
    """
    The last word is that the daemon stops, also when connections end after it.
    """
    beside, clock = upkeep(manager, Retired())
    beside.busy_changed(True)
    beside.stopping()
    beside.busy_changed(False)
    assert clock.getDelayedCalls() == []
    assert manager.heard()[-1].startswith("STOPPING=1")


def test_what_a_reload_has_left_is_tidied_up(manager: Manager) -> None:
    """
    Which may take longer than any connection.
    """
    retired = Retired()
    beside, clock = upkeep(manager, retired)
    retired.is_untidy = True
    beside.busy_changed(True)
    beside.busy_changed(False)
    clock.pump([STATUS_INTERVAL] * 3)
    assert len(clock.getDelayedCalls()) == 1
    retired.is_untidy = False
    clock.advance(STATUS_INTERVAL)
    assert clock.getDelayedCalls() == []


def test_lag_is_measured_while_there_are_connections() -> None:
    """
    And only where somebody can see it.
    """
    clock = MemoryReactorClock()
    clock.getThreadPool = lambda: None
    monitoring = Monitoring(clock, Config())
    monitoring.busy_changed(True)
    assert clock.getDelayedCalls() == []
    monitoring.listen("127.0.0.1:0")
    monitoring.watch([])
    assert clock.getDelayedCalls() == []
    monitoring.busy_changed(True)
    clock.pump([1.0] * 3)
    monitoring.busy_changed(False)
    assert clock.getDelayedCalls() == []
    count = "realize_reactor_lag_seconds_count"
    assert monitoring.registry.get_sample_value(count) == 3


def test_the_page_of_metrics_sets_no_timer() -> None:
    """
    Nobody needs the time for a log that is not written.
    """
    clock = Clock()
    monitoring = Monitoring(clock, Config())
    site = metrics_site(monitoring.registry, None, clock)  # type: ignore[arg-type]
    site.doStart()
    assert clock.getDelayedCalls() == []
    site.doStop()
