"""
A real ``realized`` under twistd, as its own process.

    with running_daemon(tmp_path, config) as daemon:
        talk_to("127.0.0.1", daemon.port)
    assert daemon.status == 0
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define

#: Seconds a daemon gets to start or to stop.
PATIENCE = 30

#: The programs of the environment in which the tests run.
TWISTD = str(Path(sys.executable).with_name("twistd"))


def twistd(
    directory: Path,
    *arguments: str,
    nodaemon: bool = True,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """
    Run ``twistd realized`` until it has ended or gone into the background.

    :param directory: working directory; the log and the pid file go there.
    :param environ: variables beside those that all tests have.
    """
    return subprocess.run(
        command_line(directory, arguments, nodaemon),
        cwd=directory,
        env={**os.environ, **(environ or {})},
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def command_line(
    directory: Path, arguments: Sequence[str], nodaemon: bool = True
) -> list[str]:
    """
    How to start ``realized`` with these arguments.
    """
    files = ["--pidfile", f"{directory}/pid", "--logfile", f"{directory}/log"]
    return [TWISTD, *(["-n"] if nodaemon else []), *files, "realized", *arguments]


@define
class RunningDaemon:
    """
    A daemon that listens.

    :ivar pid: of the process.
    :ivar log: its log file.
    :ivar status: its exit status, once it has ended.
    """

    pid: int
    log: Path
    status: int | None = None

    @property
    def address(self) -> str:
        """
        ``HOST:PORT`` of the first port it listens on.
        """
        return wait_for(self.log, r"realized \S+ listens on (\S+?),? ")[1]

    @property
    def port(self) -> int:
        """
        The number of that port.
        """
        return int(self.address.rpartition(":")[2])

    def logged(self, pattern: str) -> re.Match[str]:
        """
        Wait until the log has something that matches.
        """
        return wait_for(self.log, pattern)


def wait_for(log: Path, pattern: str) -> re.Match[str]:
    """
    Wait until a file has something that matches.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        text = log.read_text("utf-8", "replace") if log.exists() else ""
        if found := re.search(pattern, text, re.M):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"no {pattern!r} in {log}:\n{text}")
        time.sleep(0.02)


@contextmanager
def running_daemon(
    directory: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> Iterator[RunningDaemon]:
    """
    Start ``twistd -n realized``, wait until it listens, and stop it in the end.

    :param wrapper: what to put in front of the command, such as ``prlimit``.
    """
    log = directory / "log"
    log.unlink(missing_ok=True)
    process = subprocess.Popen(
        [*wrapper, *command_line(directory, arguments)],
        cwd=directory,
        env={**os.environ, **(environ or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
    )
    daemon = RunningDaemon(process.pid, log)
    try:
        deadline = time.monotonic() + PATIENCE
        while "listens on" not in (log.read_text() if log.exists() else ""):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"not started: {process.communicate()[0]}")
            time.sleep(0.02)
        yield daemon
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        daemon.status = process.returncode
