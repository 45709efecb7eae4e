"""
Processes, and what they cost: seconds of processor time and peak memory.

What a process used is known when it has ended, and includes the children it waited for
(``launcher.py``).  A server is started anew for every run and what it used until
it listened is taken off, so that nothing is carried from one run to the next.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from attrs import define, field

#: Seconds for a server to listen, or to end.
PATIENCE = 30.0

#: Seconds between looks at something that is about to happen.
_PAUSE = 0.01

#: Seconds in which a server that is done with its start uses nothing.
_REST = 1.0

_LAUNCHER = str(Path(__file__).with_name("launcher.py"))

_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """
    A program did not do what the benchmark needs.
    """


class Usage(msgspec.Struct, frozen=True):
    """
    What a process and its children used.

    :ivar cpu: seconds of processor time, user and system.
    :ivar memory: bytes of resident memory at the peak, of the largest of them.
    """

    cpu: float
    memory: int


def free_port() -> int:
    """
    A port that nobody listened on a moment ago.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """
    What programs are started with: nothing of the user's own settings, and no home
    where any could be found or left.
    """
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    fixed = {"HOME": "/dev/null", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return kept | fixed | dict(more)


class Ended(msgspec.Struct, frozen=True):
    """
    What ``launcher.py`` says of a program that has ended.

    :ivar seconds: from its start to its end.
    """

    pid: int
    status: int
    seconds: float
    cpu: float
    memory: int


class Started(msgspec.Struct, frozen=True):
    """
    What ``launcher.py`` says at first.
    """

    pid: int


@define
class Process:
    """
    A running program.

    :ivar log: where its output goes.
    """

    words: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(factory=dict)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        launcher = [sys.executable, "-I", "-S", _LAUNCHER, str(self._result)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*launcher, *self.words],
                cwd=self.log.parent,
                env=environment(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def _result(self) -> Path:
        return self.log.with_suffix(".result")

    @property
    def pid(self) -> int:
        """
        The number of the process, as soon as there is one.

        :raises Failed: there is none.
        """
        while not self._result.exists() and self.running():
            time.sleep(_PAUSE)
        if not self._result.exists():
            raise Failed(f"{self.words[0]} did not start\n{self.said()}")
        return msgspec.json.decode(self._result.read_bytes(), type=Started).pid

    def finish(self) -> Ended:
        """
        What it took, once it has ended well.

        :raises Failed: it ended in another way; with what it said.
        """
        ended = self.wait()
        if ended.status:
            raise Failed(f"{self.words[0]}: status {ended.status}\n{self.said()}")
        return ended

    def wait(self, patience: float | None = None) -> Ended:
        """
        What it took, once it has ended; it is killed after *patience* seconds.

        :raises Failed: it never started, or was killed.
        """
        try:
            status = self._process.wait(patience)
        except BaseException as error:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"{self.words[0]} does not end\n{self.said()}") from None
            raise
        if status:
            raise Failed(f"{self.words[0]} did not start\n{self.said()}")
        return msgspec.json.decode(self._result.read_bytes(), type=Ended)

    def terminate(self) -> None:
        """
        Ask it to end.
        """
        self._process.terminate()

    def said(self) -> str:
        """
        The end of its output.
        """
        return self.log.read_text("utf-8", "replace")[-4000:]

    def running(self) -> bool:
        """
        Whether it has not ended.
        """
        return self._process.poll() is None


def used(pid: int) -> float:
    """
    Seconds of processor time of a running process and the children it waited for.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def _has_children(pid: int) -> bool:
    return any(
        path.read_text().strip()
        for path in Path(f"/proc/{pid}/task").glob("*/children")
    )


@define
class Server(Process):
    """
    A program that listens on a port of 127.0.0.1.

    :ivar at_rest: whether only what it uses between its start and its end counts: a
        program may listen before it is done with the one, and the other takes time.
    """

    port: int = 0
    at_rest: bool = field(default=False, kw_only=True)
    usage: Usage | None = field(default=None, init=False)
    _before: float = field(default=0.0, init=False)

    def await_port(self) -> None:
        """
        Return once it listens.

        :raises Failed: it ended instead, or takes too long.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError as error:
                if not self.running() or time.monotonic() > deadline:
                    raise Failed(f"{self.words[0]}: {error}\n{self.said()}") from None
                time.sleep(_PAUSE)
            else:
                break
        self.await_children()
        if self.at_rest:
            self._await_rest()
        self._before = used(self.pid)

    def _await_rest(self) -> None:
        deadline = time.monotonic() + PATIENCE
        before = -1.0
        while (now := used(self.pid)) != before and time.monotonic() < deadline:
            before = now
            time.sleep(_REST)

    def await_children(self) -> None:
        """
        Return once nobody is being served any more.
        """
        deadline = time.monotonic() + PATIENCE
        while _has_children(self.pid) and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """
        End it; :attr:`usage` is what it used since it listened.
        """
        so_far = used(self.pid) if self.at_rest else None
        self.terminate()
        ended = self.wait(PATIENCE)
        cpu = ended.cpu if so_far is None else so_far
        self.usage = Usage(max(cpu - self._before, 0.0), ended.memory)


@contextmanager
def serving(servers: Sequence[Server]) -> Iterator[None]:
    """
    Wait until all listen, and end them afterwards.
    """
    try:
        for server in servers:
            server.await_port()
        yield
        for server in servers:
            server.await_children()
    finally:
        for server in servers:
            if server.running():
                server.stop()
