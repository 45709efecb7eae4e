"""
Room on the disk.
"""

from __future__ import annotations

import threading

import pytest

from realize.errors import NoSpace
from realize.store.space import SpaceLedger


def test_promises_add_up():
    """
    What was promised before counts as used, although the disk does not know it yet.
    """
    ledger = SpaceLedger()
    ledger.promise(600, free=1000)
    with pytest.raises(NoSpace):
        ledger.promise(401, free=1000)
    ledger.promise(400, free=1000)
    assert ledger.promised == 1000


def test_release_makes_room():
    """
    What is given back can be promised to others.
    """
    ledger = SpaceLedger()
    ledger.promise(1000, free=1000)
    ledger.release(250)
    ledger.promise(250, free=1000)
    assert ledger.promised == 1000


def test_reserve_stays_free():
    """
    The configured reserve is not given away.
    """
    ledger = SpaceLedger(min_free=100)
    ledger.promise(900, free=1000)
    with pytest.raises(NoSpace):
        ledger.promise(1, free=1000)


def test_check_promises_nothing():
    """
    Asking what would be leaves no trace.
    """
    ledger = SpaceLedger()
    ledger.check(1000, free=1000)
    assert ledger.promised == 0


def test_text_has_the_figures():
    """
    The operator reads what was needed, what there is, and why that is not enough.
    """
    ledger = SpaceLedger(min_free=2**20)
    ledger.promise(2**20, free=2**30)
    with pytest.raises(NoSpace) as caught:
        ledger.promise(3 * 2**20, free=4 * 2**20)
    assert str(caught.value) == (
        "needs 3 MiB; 4 MiB free, of that 1 MiB to be kept free"
        " and 1 MiB promised to other files"
    )


def test_threads_lose_nothing():
    """
    Promises and releases from many threads end at zero.
    """
    ledger = SpaceLedger()

    def work() -> None:
        for _ in range(5000):
            ledger.promise(3, free=10**9)
            ledger.release(3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.promised == 0
