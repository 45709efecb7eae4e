"""
``python -m benchmarks.paired BEFORE AFTER [CASE...]``: what a change costs.

Two installations do the same work in turn, as A B B A, so that a machine that warms up
or fills up is fair to both.  Processor time is compared, of both ends together: other
work on the machine disturbs it least.  For each pair there is a ratio, and the median
of them is what to look at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import click
from attrs import frozen

from benchmarks import data
from benchmarks.contenders import Realize
from benchmarks.processes import Process, serving
from benchmarks.setup import Job

_MIB = 1024 * 1024


@frozen
class _Case:
    """
    What is moved.

    :ivar files: how many.
    :ivar size: bytes of each.
    :ivar options: of the move.
    """

    files: int
    size: int
    options: Sequence[str] = ()

    @property
    def moves(self) -> bool:
        """
        Whether the files are gone from the source afterwards.
        """
        return "--dry-run" not in self.options


@frozen
class _Cost:
    """
    Seconds of processor time.
    """

    command: float
    daemon: float

    @property
    def both(self) -> float:
        """
        Of both ends.
        """
        return self.command + self.daemon


@click.command()
@click.argument("before", type=click.Path(exists=True, path_type=Path))
@click.argument("after", type=click.Path(exists=True, path_type=Path))
@click.argument("cases", nargs=-1, metavar="[CASE...]")
@click.option("--pairs", type=click.IntRange(1), default=6, show_default=True)
@click.option(
    "--files",
    type=click.IntRange(1),
    default=5000,
    show_default=True,
    help="Small files.",
)
@click.option(
    "--large",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="MiB of the large file.",
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default="/var/tmp",  # noqa: S108 - a folder of our own is made there
    show_default=True,
    help="Where the files go that are moved.",
)
def main(
    before: Path,
    after: Path,
    cases: tuple[str, ...],
    pairs: int,
    files: int,
    large: int,
    work: Path,
) -> None:
    """
    Compare the processor time of two installations of realize.

    BEFORE and AFTER are directories with the programs realize and twistd.  CASE is
    large, small, start or listing; without any, all are run.
    """
    known = {
        "large": _Case(1, large * _MIB),
        "small": _Case(files, 4096),
        "start": _Case(1, 4096),
        "listing": _Case(files, 4096, ("--dry-run",)),
    }
    for name in cases or known:
        if name not in known:
            raise click.BadParameter(f"{name} is none of {', '.join(known)}")
        with tempfile.TemporaryDirectory(prefix="realize-paired-", dir=work) as folder:
            _compare(name, known[name], (before, after), pairs, Path(folder))


def _compare(
    name: str, case: _Case, programs: tuple[Path, Path], pairs: int, work: Path
) -> None:
    ends = [Realize(options=case.options, programs=each) for each in programs]
    master = work / "master"
    data.write_files(master, case.files, case.size, each=1000)
    numbers = iter(range(2 * pairs + 2))
    for end in ends:  # compiles modules, and fills caches
        _run(case, end, master, work / str(next(numbers)))
    costs: list[tuple[_Cost, _Cost]] = []
    for pair in range(pairs):
        done = {}
        for index in (0, 1) if pair % 2 == 0 else (1, 0):
            done[index] = _run(case, ends[index], master, work / str(next(numbers)))
        costs.append((done[0], done[1]))
        click.echo(f"{name} {pair + 1}: {done[1].both / done[0].both:.3f}", err=True)
    click.echo(f"{name}: {' '.join(_summary(costs))}")


def _summary(costs: Sequence[tuple[_Cost, _Cost]]) -> Iterator[str]:
    yield f"{median(after.both / before.both for before, after in costs):.3f}"
    for index, title in enumerate(("before", "after")):
        command = median(pair[index].command for pair in costs)
        daemon = median(pair[index].daemon for pair in costs)
        yield f"{title} {command:.3f}s + {daemon:.3f}s"


def _run(case: _Case, realize: Realize, master: Path, place: Path) -> _Cost:
    """
    One run, in a directory of its own: what an earlier one deleted is not in its way.
    """
    for name in ("destination", "scratch"):
        (place / name).mkdir(parents=True)
    source = place / "source"
    data.lay_out(master, source)
    job = Job(source, place / "destination", "push", place / "scratch")
    setup = realize.set_up(job)
    with serving(list(setup.servers.values())):
        ended = Process(setup.words, job.scratch / "command.log", setup.env).finish()
    left = data.measure(source).files
    if left != (0 if case.moves else case.files):
        raise click.ClickException(f"{left} files are at the source, see {place}")
    usage = setup.servers["daemon"].usage
    assert usage is not None, "a server that was stopped has a usage"
    return _Cost(ended.cpu, usage.cpu)


if __name__ == "__main__":
    main()
