"""
Running cases: the contenders in turn, round after round.

A round has one run of each contender, so that what else the machine does meets all of
them; the first round does not count, and in it the bytes on the wire are counted.
Every run begins with the same files, written to disk, and an empty destination (or the
same present one), and is checked afterwards: all files there, none left.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from benchmarks import data
from benchmarks.processes import Failed, Process, Usage, serving
from benchmarks.results import CaseResult, Measured, Run, machine, today
from benchmarks.scenarios import Case, Recipe
from benchmarks.setup import Contender, Job, find

#: Files of a case up to which contents are compared too, not only numbers and sizes.
_COMPARED = 10

#: More files than that are not deleted between runs.  An ext4 without a journal does
#: not use the inode of a deleted file again for minutes, and looks at each of them
#: whenever a file is made near them: one run would slow down the next.
_DELETED = 1000


@define
class Bench:
    """
    Where things are done.

    :ivar work: a directory on the disk that is measured; all of it is ours.
    :ivar memory: a directory on tmpfs; all of it is ours.
    :ivar profiles: where profiles of realize's processes go, if they are wanted.
    :ivar say: tells the user.
    :ivar smoke: whether there is only one round, in which all is done that a full run
        does.
    """

    work: Path
    memory: Path
    say: Callable[[str], None]
    profiles: Path | None = None
    smoke: bool = False
    _masters: dict[Recipe, Path] = field(factory=dict)
    _discarded: int = 0

    def run(self, case: Case, rounds: int) -> CaseResult:
        """
        All runs of a case.

        :param rounds: those that count; at least 1.
        """
        load = os.getloadavg()[0]
        master = self._master(case.source)
        contained = data.measure(master)
        problems: dict[str, str] = {}
        failed: set[str] = set()
        runs: dict[str, list[Run]] = {one.name: [] for one in case.contenders}
        wires: dict[str, int | None] = {}
        for contender in case.contenders:
            if lacks := contender.missing():
                problems[contender.name] = f"missing: {', '.join(lacks)}"
        first = 1 if self.smoke or not case.warm_up else 0
        last = 1 if self.smoke else case.rounds or rounds
        for number in range(first, last + 1):
            counted = self.smoke or number == 0
            for contender in case.contenders:
                name = contender.name
                if name in problems:
                    continue
                try:
                    run, wire = self._run(case, contender, counted)
                except Failed as error:
                    problems[name] = str(error)
                    failed.add(name)
                    self.say(f"{case.name}: {name} failed: {error}")
                    continue
                if wire is not None:
                    wires[name] = wire
                if number:
                    runs[name].append(run)
                self.say(f"{case.name} {number}: {name} {run.seconds:.2f} s")
        if self.profiles:
            for contender in case.contenders:
                if contender.name == "realize" and contender.name not in problems:
                    self._profile(case, contender)
        return CaseResult(
            date=today(),
            files=contained.files,
            size=contained.size,
            load=round(load, 1),
            machine=machine(self.work),
            contenders={
                name: Measured(
                    [] if name in problems else done,
                    wires.get(name),
                    problems.get(name, ""),
                    name in failed,
                )
                for name, done in runs.items()
            },
        )

    def forget(self, needed: Container[Recipe | None]) -> None:
        """
        Delete data that nobody needs any more.
        """
        for recipe, path in list(self._masters.items()):
            if recipe not in needed:
                self._discard(path)
                del self._masters[recipe]

    def _master(self, recipe: Recipe) -> Path:
        """
        The data of a recipe, made when it is first wanted.
        """
        if recipe not in self._masters:
            path = self.work / "masters" / recipe.name
            data.empty(path)
            self.say(f"making the data: {recipe.name}")
            recipe.fill(path)
            self._masters[recipe] = path
        return self._masters[recipe]

    def _run(
        self, case: Case, contender: Contender, counted: bool
    ) -> tuple[Run, int | None]:
        """
        One run, and the bytes on the wire if they were counted.

        :raises Failed: a program ended badly, or the files are not where they should
            be.
        """
        with self._job(case, counted) as job:
            setup = contender.set_up(job)
            with serving([*setup.servers.values(), *setup.lines]):
                log = job.scratch / "command.log"
                ended = Process(setup.words, log, setup.env).finish()
            if case.moves:
                self._check(case, job)
        used = {"command": Usage(ended.cpu, ended.memory)}
        for role, server in setup.servers.items():
            assert server.usage is not None, "a server that was stopped has a usage"
            used[role] = server.usage
        return Run(ended.seconds, used), setup.wire() if job.counted else None

    @contextmanager
    def _job(self, case: Case, counted: bool) -> Iterator[Job]:
        source = (self.memory if case.from_memory else self.work) / "source"
        destination = (self.memory if case.to_memory else self.work) / "destination"
        scratch = self.work / "scratch"
        data.lay_out(self._master(case.source), source)
        if case.keeps_present:
            destination = self._kept(case)
        elif case.present:
            data.lay_out(self._master(case.present), destination)
        else:
            data.empty(destination)
        data.empty(scratch)
        counted = counted and case.direction != "local"
        try:
            yield Job(source, destination, case.direction, scratch, case.delay, counted)
        finally:
            if case.keeps_present:
                self._remove_moved(case, destination)
            else:
                self._discard(destination)
            self._discard(source)

    def _discard(self, directory: Path) -> None:
        """
        Clear a directory away; its files are deleted at the end if they are many.
        """
        if not directory.exists():
            return
        many = data.measure(directory).files > _DELETED
        if many and directory.is_relative_to(self.work):
            aside = self.work / "discarded" / str(self._discarded)
            aside.parent.mkdir(exist_ok=True)
            directory.rename(aside)
            self._discarded += 1
        else:
            shutil.rmtree(directory, ignore_errors=True)

    def _remove_moved(self, case: Case, destination: Path) -> None:
        master = self._master(case.source)
        for path, _ in data.files(master):
            (destination / path.relative_to(master)).unlink(missing_ok=True)

    def _kept(self, case: Case) -> Path:
        """
        A destination that is too large to be made for every run.
        """
        assert case.present is not None, "only what is present can be kept"
        path = self._master(case.present)
        data.settle(path)
        return path

    def _check(self, case: Case, job: Job) -> None:
        wanted = self._master(case.source)
        left = data.measure(job.source).files
        if left:
            raise Failed(f"{left} files are still at the source")
        missing = different = 0
        contents = data.measure(wanted).files <= _COMPARED
        for path, size in data.files(wanted):
            moved = job.destination / path.relative_to(wanted)
            try:
                same = moved.stat().st_size == size
            except FileNotFoundError:
                missing += 1
                continue
            if not same or (contents and not filecmp.cmp(path, moved, shallow=False)):
                different += 1
        if missing or different:
            raise Failed(f"{missing} files did not arrive, {different} are different")

    def _profile(self, case: Case, realize: Contender) -> None:
        """
        One more run, which does not count, under a profiler.
        """
        assert self.profiles is not None, "profiles are made only where they are wanted"
        self.profiles.mkdir(parents=True, exist_ok=True)
        with self._job(case, counted=False) as job:
            setup = realize.set_up(job)
            with serving([*setup.servers.values(), *setup.lines]):
                command = Process(setup.words, job.scratch / "command.log", setup.env)
                pids = {role: server.pid for role, server in setup.servers.items()}
                profilers = [
                    self._profiler(case, role, pid, job.scratch)
                    for role, pid in {"command": command.pid, **pids}.items()
                ]
                command.finish()
            for profiler in profilers:
                profiler.finish()

    def _profiler(self, case: Case, role: str, pid: int, scratch: Path) -> Process:
        assert self.profiles is not None, "profiles are made only where they are wanted"
        name = f"{case.name}-{role}".replace(" ", "-")
        file = self.profiles / f"{name}.svg"
        self.say(f"profile: {file}")
        words = [_py_spy(), "record", "--native", "--threads", "--rate", "200"]
        words += ["--pid", str(pid), "--output", str(file)]
        return Process(words, scratch / f"profile-{name}.log")


def _py_spy() -> str:
    """
    :raises Failed: it is missing.
    """
    if path := find("py-spy"):
        return path
    raise Failed("profiles are wanted, and py-spy is missing")
