"""
What was measured, as it is kept in a file.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks.processes import Usage


class Run(msgspec.Struct, frozen=True):
    """
    One run of one contender.

    :ivar seconds: from the command's start to its end.
    :ivar usage: of the command (``command``) and of each server, by role.
    """

    seconds: float
    usage: Mapping[str, Usage]


class Measured(msgspec.Struct, frozen=True):
    """
    All that is known of one contender in one case.

    :ivar runs: those that count, in order; empty if it was missing or failed.
    :ivar wire: bytes on the wire, both ways, of the run that does not count.
    :ivar problem: why there are no runs.
    :ivar failed: whether it was there and failed.
    """

    runs: list[Run] = []
    wire: int | None = None
    problem: str = ""
    failed: bool = False

    @property
    def best(self) -> Run | None:
        """
        The quickest run.
        """
        return min(self.runs, key=lambda run: run.seconds, default=None)

    @property
    def spread(self) -> float:
        """
        The slowest time over the quickest.
        """
        times = [run.seconds for run in self.runs]
        return max(times) / min(times)


class Machine(msgspec.Struct, frozen=True):
    """
    Where it was measured, and with what.
    """

    processor: str
    cores: int
    memory: int
    kernel: str
    file_system: str
    versions: Mapping[str, str]


class CaseResult(msgspec.Struct, frozen=True):
    """
    One case.

    :ivar date: when it was measured.
    :ivar files: how many were moved.
    :ivar size: their bytes.
    :ivar load: what else the machine did when it began: the load average.
    :ivar contenders: by name.
    """

    date: str
    files: int
    size: int
    load: float
    machine: Machine
    contenders: Mapping[str, Measured]

    def failures(self, complete: bool) -> list[str]:
        """
        The contenders that failed.

        :param complete: those that were missing, too.
        """
        return [
            name
            for name, one in self.contenders.items()
            if one.failed or (complete and one.problem)
        ]


#: Results by the name of the case.
Results = dict[str, CaseResult]


def read(path: Path) -> Results:
    """
    What the file holds; nothing if there is none.
    """
    if not path.exists():
        return {}
    return msgspec.json.decode(path.read_bytes(), type=Results)


def write(path: Path, results: Results) -> None:
    """
    Put them into the file, readable and in a stable order.
    """
    encoded = msgspec.json.encode(results, order="deterministic")
    path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def today() -> str:
    """
    The date, in UTC.
    """
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def machine(work: Path) -> Machine:
    """
    This one.
    """
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    kind = ["stat", "-f", "-c", "%T", str(work)]
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        file_system=_first_line(kind),
        versions={
            "python": platform.python_version(),
            "rsync": _first_line(["rsync", "--version"]),
            "rclone": _first_line(["rclone", "version"]),
            "ssh": _first_line(["ssh", "-V"]),
        },
    )


def _first_line(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "missing"
    return (done.stdout or done.stderr).partition("\n")[0].strip()
