"""
Results, what they are held to, and the page.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.processes import Usage
from benchmarks.report import render, table
from benchmarks.results import (
    CaseResult,
    Machine,
    Measured,
    Results,
    Run,
    read,
    write,
)
from benchmarks.scenarios import FULL, SMOKE, cases
from benchmarks.targets import Target, targets

GIB = 1024**3

MACHINE = Machine("a processor", 2, GIB, "6.1", "ext2/ext3", {"rsync": "3.5"})


def measured(*seconds: float, wire: int | None = None) -> Measured:
    """
    Runs of these times.
    """
    usage = {"command": Usage(1.0, 2**20), "daemon": Usage(3.0, 2**21)}
    return Measured([Run(time, usage) for time in seconds], wire)


def result(**contenders: Measured) -> CaseResult:
    """
    A case of one GiB.
    """
    names = {"rsync": "rsync daemon", "fsync": "rsync daemon --fsync"}
    return CaseResult(
        date="2026-11-24",
        files=1,
        size=GIB,
        load=0.5,
        machine=MACHINE,
        contenders={names.get(name, name): one for name, one in contenders.items()},
    )


RESULTS: Results = {
    "large": result(
        realize=measured(4.0, 3.0, 9.0, wire=1200),
        rsync=measured(2.0, 2.5, wire=1000),
        fsync=Measured(problem="missing: rsync"),
    ),
    "pull large": result(realize=measured(4.5)),
}


def target(case: str, text: str) -> Target:
    """
    The one that begins so.
    """
    (found,) = [t for t in targets() if t.case == case and t.text.startswith(text)]
    return found


def test_best_is_compared_with_best() -> None:
    """
    Minimum with minimum; absolute numbers are of the quickest run.
    """
    time = target("large", "time, rsync daemon = 1")
    assert time.value(RESULTS) == 1.5
    assert not time.met(1.5)
    assert time.met(1.2)
    assert target("large", "CPU seconds a GiB, daemon").value(RESULTS) == 3.0
    assert target("pull large", "time").value(RESULTS) == 1.5
    assert RESULTS["large"].contenders["realize"].spread == 3.0


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    """
    A peer that is missing, and a case that was not run.
    """
    assert target("large", "time, rsync daemon --fsync").value(RESULTS) is None
    assert target("small", "time, rsync daemon = 1").value(RESULTS) is None


def test_more_can_be_better() -> None:
    """
    A rate is held to a minimum.
    """
    rate = target("large memory", "GB/s")
    assert rate.met(0.7)
    assert not rate.met(0.5)


def test_every_target_is_of_a_case() -> None:
    """
    Nothing is held to a case or a contender that is never run.
    """
    known = {case.name: case for case in cases(FULL)}
    everything = {
        name: CaseResult(
            "",
            1,
            GIB,
            0,
            MACHINE,
            {one.name: measured(1.0, wire=1) for one in case.contenders},
        )
        for name, case in known.items()
    }
    for one in targets():
        assert one.case in known
        assert one.value(everything) is not None, one.text


def test_the_cases_are_the_same_in_small() -> None:
    """
    A smoke run runs all of them, under unique names.
    """
    names = [case.name for case in cases(FULL)]
    assert [case.name for case in cases(SMOKE)] == names
    assert len(set(names)) == len(names)


def test_results_are_kept(tmp_path: Path) -> None:
    """
    What is written is read again; without a file there is nothing.
    """
    file = tmp_path / "results.json"
    assert read(file) == {}
    write(file, RESULTS)
    assert read(file) == RESULTS


def test_a_missing_program_is_named() -> None:
    """
    In the table, in place of its figures.
    """
    lines = table(RESULTS).splitlines()
    (line,) = [line for line in lines if "--fsync" in line]
    assert "missing: rsync" in line
    assert len({line.count("|") for line in lines}) == 1


def test_a_missing_program_is_a_failure_where_none_may_be_missing() -> None:
    """
    One that failed always is.
    """
    case = result(
        realize=measured(1.0),
        rsync=Measured(problem="status 1", failed=True),
        fsync=Measured(problem="missing: rsync"),
    )
    assert case.failures(complete=False) == ["rsync daemon"]
    assert case.failures(complete=True) == ["rsync daemon", "rsync daemon --fsync"]


def test_the_page_keeps_what_people_wrote(tmp_path: Path) -> None:
    """
    Only what stands between the marks is written anew; without marks nothing is.
    """

    def draw(results: Results, directory: Path) -> list[Path]:
        return [directory / f"{name}.svg" for name in results]

    page = tmp_path / "performance.md"
    render(RESULTS, tmp_path, draw)
    text = page.read_text()
    page.write_text(f"before\n{text}\nafter\n")

    render({}, tmp_path, draw)

    again = page.read_text()
    assert again.startswith("before\n")
    assert again.endswith("\nafter\n")
    assert "| large" in text
    assert "4.00 s" not in again
    assert "(performance/large.svg)" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="marks"):
        render(RESULTS, tmp_path, draw)
    assert page.read_text() == "no marks"
