"""
The instruments of limits: what is set, and what waiting for it costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Gauge

#: What a limit applies to.
DIRECTIONS: Final = ("send", "receive")


@frozen
class LimitMetrics:
    """
    Limits of the service, its peers and their connections.

    A limit that is off is infinite, so that a rate divided by it is zero.

    :ivar service: bytes per second, by direction.
    :ivar peer: bytes per second, by direction and peer.
    :ivar connections: how many have a limit of their own, by direction.
    :ivar waited: seconds, by direction and peer.
    :ivar changes: of limits that were asked for, by outcome (``made``, ``refused``).
    """

    service: Gauge
    peer: Gauge
    connections: Gauge
    waited: Counter
    changes: Counter

    @classmethod
    def create(
        cls, registry: CollectorRegistry, peers: Iterable[str] = ()
    ) -> LimitMetrics:
        """
        :param peers: the configured names.
        """
        metrics = cls(
            service=Gauge(
                "realize_service_limit_bytes_per_second",
                "Limit on all connections together; infinite while there is none.",
                ["direction"],
                registry=registry,
            ),
            peer=Gauge(
                "realize_peer_limit_bytes_per_second",
                "Limit on all connections of a peer; infinite while there is none. "
                "The limit of the service applies as well.",
                ["direction", "peer"],
                registry=registry,
            ),
            connections=Gauge(
                "realize_limited_connections",
                "Connections with a limit of their own, set at either end.",
                ["direction"],
                registry=registry,
            ),
            waited=Counter(
                "realize_limit_waited_seconds_total",
                "Seconds for which connections were held back by limits, added up "
                "over the connections; what a peer waits at its own end is not "
                "counted.",
                ["direction", "peer"],
                registry=registry,
            ),
            changes=Counter(
                "realize_limit_changes_total",
                "Changes of limits asked for at run time.",
                ["outcome"],
                registry=registry,
            ),
        )
        for direction in DIRECTIONS:
            metrics.service.labels(direction).set(math.inf)
            metrics.connections.labels(direction)
        for outcome in ("made", "refused"):
            metrics.changes.labels(outcome)
        for peer in peers:
            metrics.add_peer(peer)
        return metrics

    def add_peer(self, peer: str) -> None:
        """
        Start the series of a peer.
        """
        for direction in DIRECTIONS:
            self.peer.labels(direction, peer).set(math.inf)
            self.waited.labels(direction, peer)
