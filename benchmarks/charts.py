"""
Results as bars.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.results import CaseResult, Results
from benchmarks.scenarios import FULL, cases

#: A colour for each program, the same in every chart.
_COLOURS: Final = {
    "realize": "#c2410c",
    "rsync daemon": "#94a3b8",
    "rsync daemon --fsync": "#475569",
    "rsync over ssh": "#60a5fa",
    "rclone over sftp": "#a78bfa",
    "cp, sync, rm": "#94a3b8",
}


def draw(results: Results, directory: Path) -> list[Path]:
    """
    Draw a chart for each scenario in which programs are compared.

    :returns: the files, in the order of the scenarios.
    """
    import matplotlib as mpl

    mpl.use("svg")
    # The same results make the same files.
    mpl.rcParams.update({"svg.hashsalt": "realize", "svg.fonttype": "none"})
    directory.mkdir(exist_ok=True)
    scenarios: dict[str, dict[str, CaseResult]] = {}
    for case in cases(FULL):
        if case.name in results and len(case.contenders) > 1:
            scenarios.setdefault(case.scenario, {})[case.title] = results[case.name]
    return [
        _draw_times(found, directory / f"{name}.svg")
        for name, found in scenarios.items()
    ]


def _draw_times(found: dict[str, CaseResult], path: Path) -> Path:
    """
    A bar up to the best time, and a line on to the worst.
    """
    from matplotlib import pyplot

    rows = [
        (title, name, measured)
        for title, result in found.items()
        for name, measured in result.contenders.items()
        if measured.best
    ]
    figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.35 * len(rows)))
    labels = []
    for row, (title, name, measured) in enumerate(rows):
        times = [run.seconds for run in measured.runs]
        axes.barh(row, min(times), color=_COLOURS.get(name, "#64748b"))
        axes.plot([min(times), max(times)], [row, row], color="black", linewidth=1)
        axes.annotate(
            f"{min(times):.2f}",
            (max(times), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
        begins = row == 0 or rows[row - 1][0] != title
        labels.append(f"{title}\n{name}" if begins else name)
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("seconds: best of the rounds, line to the worst; less is better")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return path
