"""
Which events are logged: a level for everything, and others for single areas.
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen
from twisted.logger import LogLevel

#: Names of the levels, most urgent first.
LEVELS: Final = ("error", "warn", "info", "debug")

#: The parts of the program that can have a level of their own.
AREAS: Final = ("store", "net", "wire", "move", "daemon", "cli", "observe")

_RANK: Final = {
    LogLevel.critical: 0,
    LogLevel.error: 0,
    LogLevel.warn: 1,
    LogLevel.info: 2,
    LogLevel.debug: 3,
}


@frozen
class Levels:
    """
    The least urgent level that is logged, in general and by area.

    :ivar general: one of :data:`LEVELS`.
    :ivar areas: exceptions, from names in :data:`AREAS`.
    """

    general: str = "info"
    areas: dict[str, str] = field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> Levels:
        """
        Read text such as ``info`` or ``info,wire=debug``.

        :raises ValueError: an unknown level or area, or one named twice.
        """
        general: str | None = None
        areas: dict[str, str] = {}
        for word in text.split(","):
            area, equals, level = word.strip().rpartition("=")
            if level not in LEVELS:
                raise ValueError(
                    f"unknown log level {level!r}: one of {', '.join(LEVELS)}, "
                    'also by area, as in "info,wire=debug"'
                )
            if not equals:
                if general is not None:
                    raise ValueError(f"two log levels, {general!r} and {level!r}")
                general = level
            elif area not in AREAS:
                raise ValueError(
                    f"unknown log area {area!r}: one of {', '.join(AREAS)}"
                )
            elif area in areas:
                raise ValueError(f"two log levels for {area!r}")
            else:
                areas[area] = level
        return cls(general or "info", areas)

    def __str__(self) -> str:
        exceptions = (f"{area}={level}" for area, level in self.areas.items())
        return ",".join((self.general, *exceptions))

    @property
    def most_verbose(self) -> str:
        """
        The level below which nothing is logged in any area.
        """
        return max((self.general, *self.areas.values()), key=LEVELS.index)

    def allow(self, namespace: str, level: LogLevel) -> bool:
        """
        Whether an event of this logger, at this level, is to be logged.

        :param namespace: dotted name of the module that logs.
        """
        area = namespace.split(".", 2)[1] if namespace.startswith("realize.") else ""
        wanted = self.areas.get(area, self.general)
        return _RANK[level] <= LEVELS.index(wanted)
