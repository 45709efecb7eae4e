"""
The instruments of shares.
"""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry

from realize.accounts import Accounts, Resource
from realize.errors import OverShare
from realize.observe.account_metrics import AccountMetrics


def test_follows() -> None:
    """
    What is held now, and refusals so far, of configured peers.
    """
    registry = CollectorRegistry()
    metrics = AccountMetrics.create(registry, ["laptop"])
    accounts = Accounts(descriptors=Resource("descriptors", "descriptors", 16))
    account = accounts.descriptors.account("laptop", "1")
    other = accounts.descriptors.account("", "")
    other.take("x", 1)
    for device in (1, 2):
        space = accounts.space(device)
        space.total = 100
        space.account("laptop", "1").take("y", 10)
    account.take("x", 3)
    with suppress(OverShare):
        account.take("x", 16)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"realize_shared_{name}", labels)

    for _ in range(2):
        metrics.update(accounts)
        assert value("limit", resource="descriptors") == 16
        assert value("limit", resource="space") == 200
        assert value("held", resource="descriptors", peer="laptop") == 3
        assert value("held", resource="space", peer="laptop") == 20
        assert value("refusals_total", resource="descriptors", peer="laptop") == 1
    account.close()
    metrics.update(accounts)
    assert value("held", resource="descriptors", peer="laptop") == 0
