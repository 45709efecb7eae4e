"""
What a run consists of: a command, the servers it talks to, the line between them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from attrs import define, field, frozen

from benchmarks.processes import Server, free_port

#: Which way files go: from this host to a server, back, between two servers at the
#: command of a third host, or from one local directory to another.
Direction = Literal["push", "pull", "relay", "local"]


@frozen
class Job:
    """
    Files to be moved.

    :ivar scratch: an empty directory for configurations and logs.
    :ivar delay: seconds that bytes take in each direction.
    :ivar counted: whether bytes on the wire are counted, which takes some time.
    """

    source: Path
    destination: Path
    direction: Direction
    scratch: Path
    delay: float = 0.0
    counted: bool = False


@define
class Setup:
    """
    A contender that is ready to begin.

    :ivar words: the command; its time is what is measured.
    :ivar env: variables for it.
    :ivar servers: what it talks to, by role, listening or about to.
    :ivar lines: the proxies in between.
    """

    job: Job
    words: Sequence[str] = ()
    env: Mapping[str, str] = field(factory=dict)
    servers: dict[str, Server] = field(factory=dict)
    lines: list[Server] = field(factory=list)

    def serve(self, role: str, words: Sequence[str], port: int) -> int:
        """
        Start a server, and a line to it if there is to be one.

        :returns: the port that the command has to connect to.
        """
        log = self.job.scratch / f"{role.replace(' ', '-')}.log"
        self.servers[role] = Server(words, log, port=port)
        if not self.job.delay and not self.job.counted:
            return port
        number, near = len(self.lines), free_port()
        counts = str(self._counts(number))
        module = [sys.executable, "-m", "benchmarks.proxy"]
        arguments = [str(near), str(port), str(self.job.delay), counts]
        root = str(Path(__file__).parent.parent)
        log = self.job.scratch / f"line-{number}.log"
        line = Server([*module, *arguments], log, {"PYTHONPATH": root}, port=near)
        self.lines.append(line)
        return near

    def wire(self) -> int | None:
        """
        Bytes that crossed, both ways; None if nobody counted.  Known when the lines
        have been stopped.
        """
        if not self.lines:
            return None
        return sum(
            sum(json.loads(self._counts(number).read_text()))
            for number in range(len(self.lines))
        )

    def _counts(self, number: int) -> Path:
        return self.job.scratch / f"line-{number}.json"


class Contender(Protocol):
    """
    A program that can do the work.
    """

    @property
    def name(self) -> str:
        """
        What the report calls it.
        """

    def missing(self) -> Sequence[str]:
        """
        Programs that this machine does not have.
        """

    def set_up(self, job: Job) -> Setup:
        """
        Write configurations and start servers.
        """


def find(program: str) -> str | None:
    """
    The path of a program: of this environment, or of the machine, for administrators
    too.
    """
    ours = Path(sys.executable).parent
    path = os.pathsep.join([str(ours), os.environ["PATH"], "/usr/sbin", "/sbin"])
    return shutil.which(program, path=path)


def lacking(*programs: str) -> Sequence[str]:
    """
    Those that this machine does not have.
    """
    return [program for program in programs if find(program) is None]
