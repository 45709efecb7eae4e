"""
How late the reactor is: what else it does is time in which nobody is served.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field
from prometheus_client import Histogram
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between measurements.
INTERVAL: Final = 1.0


@define(eq=False)
class Lag:
    """
    Sets a timer again and again, and observes by how many seconds it was late.
    """

    histogram: Histogram
    clock: IReactorTime
    _timer: IDelayedCall | None = field(init=False, default=None)
    _due: float = field(init=False, default=0.0)

    def start(self) -> None:
        """
        Begin to measure.
        """
        self._due = self.clock.seconds() + INTERVAL
        self._timer = self.clock.callLater(INTERVAL, self._observe)

    def stop(self) -> None:
        """
        Stop measuring.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _observe(self) -> None:
        self.histogram.observe(max(0.0, self.clock.seconds() - self._due))
        self.start()
