"""
``docs/performance.md``: results as tables and charts.

What stands between the two marks is written anew; the rest of the page is prose that
people write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import charts
from benchmarks.results import CaseResult, Measured, Results
from benchmarks.scenarios import FULL, Case, cases
from benchmarks.targets import targets

Draw = Callable[[Results, Path], list[Path]]

_BEGIN: Final = "<!-- begin: written by python -m benchmarks -->"
_END: Final = "<!-- end -->"

_NEW: Final = f"# Performance\n\n{_BEGIN}\n{_END}\n"

_COLUMNS: Final = (
    "case",
    "program",
    "best",
    "worst",
    "CPU command",
    "CPU daemon",
    "memory command",
    "memory daemon",
    "on the wire",
)


def render(results: Results, docs: Path, draw: Draw = charts.draw) -> None:
    """
    Write the page and its charts.

    :param docs: the directory of the documentation.
    :param draw: makes the charts, in a directory, and says which.
    :raises ValueError: the page exists and lacks the marks.
    """
    page = docs / "performance.md"
    text = page.read_text() if page.exists() else _NEW
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page}: the marks are gone; put back {_BEGIN} and {_END}")
    drawn = draw(results, docs / "performance")
    page.write_text(f"{before}{_BEGIN}\n{_generated(results, drawn)}\n{_END}{after}")


def _generated(results: Results, drawn: Sequence[Path]) -> str:
    known = {case.name: case for case in cases(FULL) if case.name in results}
    parts = [
        "## Where",
        "\n".join(_machines(results.values())),
        "## Targets",
        _target_table(results),
        "## Figures",
        table({name: results[name] for name in known}),
        *_missing(results),
        *(f"![{path.stem}](performance/{path.name})" for path in drawn),
    ]
    return "\n" + "\n\n".join(parts) + "\n"


def _machines(results: Iterable[CaseResult]) -> Iterator[str]:
    """
    A line for each machine that results are from, and the dates.
    """
    dates: dict[str, set[str]] = {}
    for result in results:
        machine = result.machine
        versions = "; ".join(
            f"{name}: {text}" for name, text in machine.versions.items()
        )
        line = (
            f"{machine.cores} cores of {machine.processor}, "
            f"{machine.memory / 2**30:.0f} GiB, Linux {machine.kernel}, "
            f"{machine.file_system}. {versions}."
        )
        dates.setdefault(line, set()).add(result.date)
    for line, days in dates.items():
        yield f"- {line} ({', '.join(sorted(days))})"


def _target_table(results: Results) -> str:
    rows = []
    for target in targets():
        value = target.value(results)
        rows.append(
            (
                target.case,
                target.text,
                f"{'at least' if target.at_least else 'at most'} {target.limit:g}",
                "not measured" if value is None else f"{value:.3g}",
                "" if value is None else "met" if target.met(value) else "**missed**",
            )
        )
    return _markdown(("case", "what", "target", "measured", ""), rows)


def table(results: Results) -> str:
    """
    All figures, as Markdown.
    """
    titles: dict[str, Case] = {case.name: case for case in cases(FULL)}
    rows = []
    for name, result in results.items():
        first = f"{name}: {titles[name].title} ({_work(result)})"
        for contender, measured in result.contenders.items():
            rows.append((first, contender, *_figures(measured)))
            first = ""
    return _markdown(_COLUMNS, rows)


def _work(result: CaseResult) -> str:
    noun = "file" if result.files == 1 else "files"
    return f"{result.files:,} {noun}, {_size(result.size)}"


def _figures(measured: Measured) -> Iterator[str]:
    best = measured.best
    if best is None:
        yield "failed" if measured.failed else measured.problem
        yield from [""] * (len(_COLUMNS) - 3)
        return
    yield f"{best.seconds:.2f} s"
    yield f"{best.seconds * measured.spread:.2f} s"
    servers = [usage for role, usage in best.usage.items() if role != "command"]
    yield f"{best.usage['command'].cpu:.2f} s"
    yield " + ".join(f"{usage.cpu:.2f} s" for usage in servers)
    yield _size(best.usage["command"].memory)
    yield " + ".join(_size(usage.memory) for usage in servers)
    yield "" if measured.wire is None else f"{measured.wire / 1e6:.2f} MB"


def _missing(results: Results) -> Iterator[str]:
    """
    A line for each program that could not be compared with.
    """
    problems = {
        f"- {name}: {measured.problem}"
        for result in results.values()
        for name, measured in result.contenders.items()
        if measured.problem and not measured.failed
    }
    if problems:
        yield "Not there to compare with:\n\n" + "\n".join(sorted(problems))


def _size(size: int) -> str:
    for unit, bytes_in in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_in:
            return f"{size / bytes_in:.3g} {unit}"
    return f"{size} B"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
