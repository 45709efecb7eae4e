"""
How exact limits are, and what a limiter costs that has nothing to do.

    python -m benchmarks.throttle_accuracy [--seconds 10] [--rounds 3] [--write]

prints the tables of ``docs/throttling.md``, and with ``--write`` puts them there.
Bytes go over TLS on loopback, from one process to another.  Three minutes; one with
``--seconds 2 --rounds 1``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Literal

import click

from realize.units import format_rate
from realize.wire.link import UNSENT
from tests.support.flood import Arrived, Plan, measure

K, M = 1024, 1024 * 1024

#: Bytes per second.
LIMITS = (K, 10 * K, M, 50 * M, 500 * M)

DOCS = Path(__file__).parents[1] / "docs" / "throttling.md"
HEADING = "## How exact it is\n"

#: Seconds for which each way of doing without a limit is measured, and those at its
#: beginning that do not count.
COST_SECONDS = 3.5
COST_BEGIN = 0.5


def busiest(arrived: Arrived, begin: float, end: float) -> float:
    """
    Most bytes in any one second.
    """
    starts = [when for when in arrived.times if begin <= when <= end - 1]
    return max(arrived.between(when, when + 1) for when in starts[::10])


def longest_gap(arrived: Arrived, begin: float) -> float:
    """
    The longest time without a byte, in seconds.
    """
    last, gap, before = begin, 0.0, -1
    for when, totals in zip(arrived.times, arrived.totals, strict=True):
        if when >= begin and sum(totals) != before:
            gap = max(gap, when - last)
            last, before = when, sum(totals)
    return gap


def row(limit: int, at: Literal["sender", "receiver"], seconds: float) -> str:
    """
    One limit at one end.
    """
    # A handshake is paid for at first: 4 s at 1 KiB/s.
    begin = 5.0 if limit < 4 * K else 1.0
    arrived = measure(Plan(limit=limit, at=at, seconds=begin + seconds))
    reached = arrived.between(begin, begin + seconds)
    most = busiest(arrived, begin, begin + seconds)
    gap = longest_gap(arrived, begin)
    return (
        f"| {format_rate(limit)} | {at} | {format_rate(round(reached))} | "
        f"{100 * (reached / limit - 1):+.1f}% | {100 * (most / limit - 1):+.1f}% | "
        f"{1000 * gap:.0f} ms |"
    )


def accuracy(seconds: float) -> Iterator[str]:
    """
    The table of limits.
    """
    yield "| limit | kept by | reached | off by | busiest second | longest gap |"
    yield "|---|---|---|---|---|---|"
    for at in ("sender", "receiver"):
        for limit in LIMITS:
            yield row(limit, at, seconds)


def cost(rounds: int) -> Iterator[str]:
    """
    The table of limiters that have nothing to do, or a limit that is never met.

    :param rounds: how often each is measured, in turns.
    """
    ways = {
        "no limiter": Plan(wrapped=False, seconds=COST_SECONDS),
        "a limiter without a limit": Plan(seconds=COST_SECONDS),
        "... and TCP's own buffers": Plan(seconds=COST_SECONDS, unsent=None),
        "a limit of 1 GiB/s": Plan(limit=1024 * M, seconds=COST_SECONDS),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    works: dict[str, list[float]] = {name: [] for name in ways}
    starting = measure(Plan(seconds=0)).cpu
    for _ in range(rounds):
        for name, plan in ways.items():
            arrived = measure(plan)
            rates[name].append(arrived.between(COST_BEGIN, COST_SECONDS))
            gib = sum(arrived.totals[-1]) / (1024 * M)
            works[name].append((arrived.cpu - starting) / gib)
    yield "| | reached | processor time for a GiB, both ends |"
    yield "|---|---|---|"
    for name in ways:
        rate, work = format_rate(round(median(rates[name]))), median(works[name])
        yield f"| {name} | {rate} | {work:.2f} s |"


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="For each limit.")
@click.option("--rounds", default=3, show_default=True, help="Of what it costs.")
@click.option("--write", is_flag=True, help="Put the tables into docs/throttling.md.")
def main(seconds: float, rounds: int, write: bool) -> None:
    """
    Measure how exact limits are, and what a limiter costs.
    """
    lines = [
        f"Over TLS on loopback, from one process to another, {seconds:.0f} s for each "
        f"limit; a machine with",
        f"{os.cpu_count()} processors (load {os.getloadavg()[0]:.1f} at the start) and "
        f"Python {platform.python_version()}, by",
        "`python -m benchmarks.throttle_accuracy --write`. *Kept by the receiver* is "
        "against a sender who does not care.",
        "",
    ]
    for line in accuracy(seconds):
        click.echo(line)
        lines.append(line)
    lines += [
        "",
        "What it costs to have a limiter, by the median of "
        f"{rounds} rounds in turns. The third line is without the bound",
        f"of {UNSENT // K} KiB on what TCP takes over.",
        "",
    ]
    for line in cost(rounds):
        click.echo(line)
        lines.append(line)
    if write:
        text, heading, _old = DOCS.read_text().partition(HEADING)
        DOCS.write_text(text + heading + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
