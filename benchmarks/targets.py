"""
What the results are held to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import frozen

from benchmarks.results import CaseResult, Measured, Results, Run

GIB = 1024**3
MIB = 1024**2


@frozen
class Target:
    """
    A number that must not be exceeded, or in one case reached.

    :ivar case: the name of the case it belongs to.
    :ivar text: what is compared, with the unit.
    :ivar limit: what it is held to.
    :ivar at_least: whether more is better.
    """

    case: str
    text: str
    limit: float
    value: Callable[[Results], float | None]
    at_least: bool = False

    def met(self, value: float) -> bool:
        """
        Whether this will do.
        """
        return value >= self.limit if self.at_least else value <= self.limit


def targets() -> Iterator[Target]:
    """
    All, in the order of the report.
    """
    daemon, fsync, ssh = "rsync daemon", "rsync daemon --fsync", "rsync over ssh"
    yield _time("large", daemon, 1.2)
    yield _time("large", fsync, 1.0)
    yield _time("large", ssh, 0.7)
    for role in ("command", "daemon"):
        text = f"CPU seconds a GiB, {role}"
        yield Target("large", text, 2.2, _best("large", _cpu_per_gib(role)))
    yield Target("large memory", "GB/s", 0.6, _best("large memory", _rate), True)
    yield _time("small", daemon, 1.0)
    yield _time("small", fsync, 0.1)
    yield _time("mixed", daemon, 1.0)
    yield _time("mixed", fsync, 0.2)
    for kind in ("large", "small"):
        yield _time_of(f"pull {kind}", kind, 1.3)
        yield _time_of(f"relay {kind}", kind, 2.2)
    for kind in ("large", "small"):
        yield _time(f"far {kind}", daemon, 1.0)
    yield _time_of("big-destination full", "big-destination empty", 1.3)
    for name in ("many tenth", "many", "many together"):
        for role in ("command", "daemon"):
            text = f"MiB of memory at the peak, {role}"
            yield Target(name, text, 100, _best(name, _memory(role)))
    yield _time_of("many", "many tenth", 11)
    yield _time_of("many together", "many tenth", 11)
    for kind in ("scattered", "inserted", "appended", "cut"):
        name = f"edited {kind}"
        yield Target(name, f"bytes on the wire, {daemon} = 1", 1.2, _wire(name, daemon))
        yield _time(name, fsync, 1.3 if kind == "cut" else 0.9)
    yield _time("local large", "cp, sync, rm", 1.0)
    yield _time("local small", "cp, sync, rm", 1.0)
    yield _time_of("local within large", "local within far", 1.2)
    yield Target("start help", "seconds", 0.15, _best("start help", _seconds))
    yield Target("start one", "seconds", 0.5, _best("start one", _seconds))
    idle = _best("start idle", lambda run, case: run.usage["daemon"].cpu / run.seconds)
    yield Target("start idle", "share of a processor", 0.001, idle)


Quantity = Callable[[Run, CaseResult], float]


def _seconds(run: Run, case: CaseResult) -> float:
    return run.seconds


def _rate(run: Run, case: CaseResult) -> float:
    return case.size / run.seconds / 1e9


def _cpu_per_gib(role: str) -> Quantity:
    return lambda run, case: run.usage[role].cpu / (case.size / GIB)


def _memory(role: str) -> Quantity:
    return lambda run, case: run.usage[role].memory / MIB


def _measured(results: Results, case: str, contender: str = "realize") -> Measured:
    found = results.get(case)
    return found.contenders.get(contender, Measured()) if found else Measured()


def _best(case: str, quantity: Quantity) -> Callable[[Results], float | None]:
    """
    A quantity of realize's quickest run.
    """

    def value(results: Results) -> float | None:
        run = _measured(results, case).best
        return quantity(run, results[case]) if run else None

    return value


def _time(case: str, contender: str, limit: float) -> Target:
    """
    Realize's best time over that of another.
    """

    def value(results: Results) -> float | None:
        ours, theirs = (
            _measured(results, case, name).best for name in ("realize", contender)
        )
        return ours.seconds / theirs.seconds if ours and theirs else None

    return Target(case, f"time, {contender} = 1", limit, value)


def _time_of(case: str, other: str, limit: float) -> Target:
    """
    Realize's best time over its own in another case.
    """

    def value(results: Results) -> float | None:
        ours, base = (_measured(results, name).best for name in (case, other))
        return ours.seconds / base.seconds if ours and base else None

    return Target(case, f"time, “{other}” = 1", limit, value)


def _wire(case: str, contender: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ours, theirs = (
            _measured(results, case, name).wire for name in ("realize", contender)
        )
        return ours / theirs if ours and theirs else None

    return value
