"""
What of a move's metrics is delivered: pushed to a gateway, or written to a file.

A page that is scraped has everything.  What is delivered stays after the run, under
the names of many hosts, so it is what says how a move went: its own series, and of the
requests that it made only those that there were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

#: Most series of a run at a gateway.
MAX_SERIES: Final = 60

#: What begins the names of a move's own series.
_OF_MOVES: Final = "realize_move_"

#: Families of a push besides those, of which zeros are left out.
_COUNTED: Final = (
    "realize_build_info",
    "realize_command_requests",
    "realize_command_errors",
    "realize_compressed_content_bytes",
    "realize_compressed_network_bytes",
    "realize_log_messages",
)


@frozen(eq=False)
class MoveSeries(Collector):
    """
    A choice of the series of a registry.

    :ivar counted: whether what the program counted besides is among them.
    :ivar labels: added to each.
    """

    registry: CollectorRegistry
    counted: bool = False
    labels: Mapping[str, str] = {}

    def collect(self) -> Iterator[Metric]:
        """The series as they are now, at most :data:`MAX_SERIES` of them."""
        room = MAX_SERIES
        families = {family.name: family for family in self.registry.collect()}
        own = [name for name in families if name.startswith(_OF_MOVES)]
        for name in (*own, *(_COUNTED if self.counted else ())):
            if name not in families:
                continue
            family = families[name]
            samples = [
                each for each in family.samples if not each.name.endswith("_created")
            ]
            if name not in own:
                # One at least: what a family had in an earlier run is replaced by name.
                samples = [each for each in samples if each.value] or samples[:1]
            chosen = [self._labelled(sample) for sample in samples]
            if chosen[:room]:
                delivered = Metric(name, family.documentation, family.type, family.unit)
                delivered.samples = chosen[:room]
                room -= len(delivered.samples)
                yield delivered

    def _labelled(self, sample: Sample) -> Sample:
        return sample._replace(labels={**sample.labels, **self.labels})


def delivered(
    registry: CollectorRegistry,
    *,
    counted: bool = False,
    labels: Mapping[str, str] | None = None,
) -> CollectorRegistry:
    """A registry of what :class:`MoveSeries` chooses of another."""
    chosen = CollectorRegistry()
    chosen.register(MoveSeries(registry, counted, labels or {}))
    return chosen
