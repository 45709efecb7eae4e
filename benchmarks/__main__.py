"""
``python -m benchmarks [SCENARIO...]``.
"""

from __future__ import annotations

import compileall
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import realize
from benchmarks import results as records
from benchmarks.measuring import Bench
from benchmarks.report import render, table
from benchmarks.scenarios import FULL, SMOKE, Case, cases

_ROOT = Path(__file__).parent
_RESULTS = _ROOT / "results.json"
_DOCS = _ROOT.parent / "docs"

#: What is said to be in memory is here: on Linux a tmpfs.
_MEMORY = "/dev/shm"  # noqa: S108


@click.command()
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO...]")
@click.option("--list", "only_list", is_flag=True, help="List the cases and leave.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Rounds that count.",
)
@click.option("--smoke", is_flag=True, help="Small sizes, one round, nothing is kept.")
@click.option(
    "--complete",
    is_flag=True,
    envvar="REALIZE_NO_SKIPS",
    help="Where a program to compare with is missing, fail.",
)
@click.option("--render", "only_render", is_flag=True, help="Report what was kept.")
@click.option(
    "--profile",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write flame graphs of one more run of realize there; takes py-spy.",
)
@click.option(
    "--work",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default="/var/tmp",  # noqa: S108 - a folder of our own is made there
    show_default=True,
    help="Where the files go that are moved: the disk that is measured.",
)
def main(
    scenarios: tuple[str, ...],
    only_list: bool,
    rounds: int,
    smoke: bool,
    complete: bool,
    only_render: bool,
    profile: Path | None,
    work: Path,
) -> None:
    """
    Measure realize beside other programs, and write docs/performance.md.

    SCENARIO is the first word of a case's name, or a whole name in quotes; without
    any, everything is measured.  Results are kept in benchmarks/results.json; those of
    cases that are not measured this time stay.
    """
    chosen = _chosen(list(cases(SMOKE if smoke else FULL)), scenarios)
    if only_list:
        for case in chosen:
            names = ", ".join(contender.name for contender in case.contenders)
            click.echo(f"{case.name:24} {case.title} ({names})")
        return
    kept = {} if smoke else records.read(_RESULTS)
    if only_render:
        render(kept, _DOCS)
        return
    # As in an installation: programs do not begin with compiling themselves.
    compileall.compile_dir(Path(realize.__file__).parent, quiet=1)
    failed: list[str] = []
    for name, result in _measure(chosen, rounds, work, profile, smoke):
        kept[name] = result
        failed += [f"{name}: {one}" for one in result.failures(complete)]
        if not smoke:
            records.write(_RESULTS, kept)
    click.echo(table({case.name: kept[case.name] for case in chosen}))
    if smoke:
        with tempfile.TemporaryDirectory() as docs:
            render(kept, Path(docs))
    else:
        render(kept, _DOCS)
    if failed:
        sys.exit("not measured: " + ", ".join(failed))


def _chosen(known: list[Case], words: Sequence[str]) -> list[Case]:
    chosen = [
        case for case in known if not words or {case.name, case.scenario} & set(words)
    ]
    names = {name for case in known for name in (case.name, case.scenario)}
    if unknown := set(words) - names:
        scenarios = ", ".join(dict.fromkeys(case.scenario for case in known))
        raise click.UsageError(f"no scenario {unknown.pop()!r}; there are {scenarios}")
    return chosen


def _measure(
    chosen: list[Case], rounds: int, work: Path, profile: Path | None, smoke: bool
) -> Iterator[tuple[str, records.CaseResult]]:
    """
    Run the cases in folders of our own.
    """
    prefix = "realize-benchmarks-"
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=work) as disk,
        tempfile.TemporaryDirectory(prefix=prefix, dir=_MEMORY) as memory,
    ):
        bench = Bench(
            Path(disk).resolve(),
            Path(memory).resolve(),
            lambda text: click.echo(text, err=True),
            profile.resolve() if profile else None,
            smoke,
        )
        for number, case in enumerate(chosen):
            yield case.name, bench.run(case, rounds)
            later = chosen[number + 1 :]
            bench.forget({one for case in later for one in (case.source, case.present)})


if __name__ == "__main__":
    main()
