"""
Room on the disk.
"""

from __future__ import annotations

import threading

import pytest

from realize.accounts import ASKING, new_space
from realize.errors import NoSpace, OverShare
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


class TestSharing:
    """
    Several sessions on one file system.
    """

    def test_alone(self):
        """
        All there is, in one file.
        """
        ledger = SpaceLedger(account=new_space().account("a", "1"))
        ledger.promise(1000, free=1000)

    def test_what_others_hold(self):
        """
        It is not full because of them: whoever asks waits, and has it once it is there.
        """
        space = new_space()
        one = SpaceLedger(account=space.account("a", "1"))
        other = SpaceLedger(account=space.account("b", "1"))
        one.promise(600, free=1000)
        with pytest.raises(OverShare):
            other.promise(401, free=1000)
        with pytest.raises(NoSpace):
            other.promise(1001, free=1000)
        one.release(300)
        other.promise(401, free=1000)

    def test_no_more_than_is_left_to_others(self):
        """
        While they ask; also of the same peer.
        """
        for peer in "ab":
            now = [0.0]
            space = new_space()
            space.seconds = lambda now=now: now[0]
            one = SpaceLedger(account=space.account("a", "1"))
            other = SpaceLedger(account=space.account(peer, "2"))
            one.promise(900, free=1000)
            with pytest.raises(OverShare):
                other.promise(200, free=1000)
            one.release(700)
            with pytest.raises(OverShare):
                one.promise(400, free=1000)
            other.promise(200, free=1000)
            now[0] += ASKING + 1
            one.promise(500, free=1000)

    def test_what_others_ask_is_given_back(self):
        """
        As far as it is more than is left to them.
        """
        space = new_space()
        one = SpaceLedger(account=space.account("a", "1"))
        other = SpaceLedger(account=space.account("b", "1"))
        one.account.ask_back = lambda: one.release(one.account.surplus)
        one.promise(1000, free=1000)
        other.promise(230, free=1000)
        assert one.account.held == 375
