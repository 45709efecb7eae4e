"""
The instruments of what the process has once: what each peer holds, and who waits.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable
from typing import Final

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge

from realize.accounts import Accounts

#: The names of what is shared, as :attr:`realize.accounts.Resource.name`.
RESOURCES: Final = ("descriptors", "memory", "space")


@define(eq=False)
class AccountMetrics:
    """
    What is shared among peers.

    :ivar total: what all may hold together, by resource.
    :ivar held: by resource and peer.
    :ivar refused: how often a peer was told to wait, by resource and peer.
    """

    total: Gauge
    held: Gauge
    refused: Counter
    _peers: set[str] = field(factory=set)
    _told: Count[tuple[str, str]] = field(factory=Count)

    @classmethod
    def create(
        cls, registry: CollectorRegistry, peers: Iterable[str] = ()
    ) -> AccountMetrics:
        """
        :param peers: the configured names.
        """
        metrics = cls(
            total=Gauge(
                "realize_shared_limit",
                "What all peers may hold together: descriptors, or bytes.",
                ["resource"],
                registry=registry,
            ),
            held=Gauge(
                "realize_shared_held",
                "What a peer holds of it.",
                ["resource", "peer"],
                registry=registry,
            ),
            refused=Counter(
                "realize_shared_refusals",
                "How often a peer was told to wait for it.",
                ["resource", "peer"],
                registry=registry,
            ),
        )
        for resource in RESOURCES:
            metrics.total.labels(resource)
        for peer in peers:
            metrics.add_peer(peer)
        return metrics

    def add_peer(self, peer: str) -> None:
        """
        Start the series of a peer.
        """
        self._peers.add(peer)
        for resource in RESOURCES:
            self.held.labels(resource, peer)
            self.refused.labels(resource, peer)

    def update(self, accounts: Accounts) -> None:
        """
        Take over how things stand.
        """
        total: Count[str] = Count()
        held: Count[tuple[str, str]] = Count()
        refused: Count[tuple[str, str]] = Count()
        for resource in accounts:
            total[resource.name] += resource.total
            for peer, count in resource.held_by().items():
                held[resource.name, peer] += count
            for peer, count in resource.refused.items():
                refused[resource.name, peer] += count
        for name in RESOURCES:
            self.total.labels(name).set(total[name])
            for peer in self._peers:
                key = name, peer
                self.held.labels(*key).set(held[key])
                self.refused.labels(*key).inc(refused[key] - self._told[key])
        self._told = refused
