"""
Complaints about files: equal ones are one line with a count and the first names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define, field

#: Names that such a line has at most.
NAMES: Final = 3

#: Most complaints of one kind that differ; the rest is counted.
MAX_COMPLAINTS: Final = 50


@define
class _Equal:
    """
    Files with the same complaint.
    """

    number: int = 0
    names: list[str] = field(factory=list)


@define(eq=False)
class Complaints:
    """
    What is complained about so far.

    :ivar _told: how many of the equal ones were told when they came.
    """

    _told: int = 0
    _groups: dict[tuple[str, str], _Equal] = field(factory=dict)
    _kinds: dict[str, int] = field(factory=dict)
    _others: dict[str, int] = field(factory=dict)

    def add(self, kind: str, name: str, why: str) -> bool:
        """
        Count a complaint.

        :returns: whether it is one to be told now.
        """
        equal = self._groups.get((kind, why))
        if equal is None:
            self._kinds[kind] = self._kinds.get(kind, 0) + 1
            if self._kinds[kind] > MAX_COMPLAINTS:
                self._others[kind] = self._others.get(kind, 0) + 1
                return False
            equal = self._groups[kind, why] = _Equal()
        equal.number += 1
        if equal.number <= self._told:
            return True
        if len(equal.names) < NAMES:
            equal.names.append(name)
        return False

    def take(self) -> Iterator[str]:
        """
        A line for all that was not told; each of them once.
        """
        for (kind, why), equal in self._groups.items():
            untold = equal.number - self._told
            if untold > 0:
                yield _line(kind, equal, untold, why, more=self._told > 0)
        for kind, number in self._others.items():
            yield f"{kind}: {number:,} more (--output json has them all)"
        self._groups.clear()
        self._kinds.clear()
        self._others.clear()


def _line(kind: str, equal: _Equal, number: int, why: str, *, more: bool) -> str:
    because = f": {why}" if why else ""
    if number == 1:
        return f"{kind}: {equal.names[0]}{because}"
    names = ", ".join(equal.names)
    rest = ", ..." if number > len(equal.names) else ""
    count = f"{number:,} more" if more else f"{number:,}"
    return f"{kind}: {count} ({names}{rest}){because}"
