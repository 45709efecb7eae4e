"""
Shares of what the process has once.
"""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.accounts import (
    ASK_BACK,
    PART,
    Account,
    Resource,
    reserved_descriptors,
    unlimited,
)
from realize.errors import OverShare


def fill(account: Account) -> int:
    """
    Take, one by one, all that an account gets.
    """
    before = account.held
    while account.try_take():
        pass
    return account.held - before


def test_who_is_alone_gets_most() -> None:
    """
    But not all: somebody else may come.
    """
    things = Resource("things", "things", 1600)
    assert fill(things.account("a", "1")) == 900


def test_who_comes_later_finds_some() -> None:
    """
    Whatever those before hold: a session of the same peer, another peer, and the next.
    """
    things = Resource("things", "things", 16_000)
    assert fill(things.account("a", "1")) > 8000
    assert fill(things.account("a", "2")) > 1000
    assert fill(things.account("b", "1")) >= 2000
    assert fill(things.account("c", "1")) > 500
    assert things.held <= things.total


def test_equal_shares_in_the_end() -> None:
    """
    As what they hold comes back and all go on asking.
    """
    things = Resource("things", "things", 1300)
    accounts = [things.account(peer, "1") for peer in "abcd"]
    for account in accounts:
        fill(account)
    for _ in range(40):
        for account in accounts:
            account.give(account.held // 8)
            fill(account)
    held = [account.held for account in accounts]
    assert max(held) - min(held) <= 30
    assert sum(held) > things.total * 6 // 10


def test_connections_do_not_multiply_a_share() -> None:
    """
    A peer with many sessions has no more than its share, and the least for each.
    """
    things = Resource("things", "things", 1600, least=1)
    for number in range(50):
        fill(things.account("a", str(number)))
    assert 1150 < things.held_by()["a"] <= 1200 + 50
    assert fill(things.account("b", "1")) >= 200


def test_the_least() -> None:
    """
    Each session gets on, while there is anything.
    """
    things = Resource("things", "things", 8, least=1)
    held = [fill(things.account("a", str(number))) for number in range(10)]
    assert held == [4, 1, 1, 1, 1, 0, 0, 0, 0, 0]


def test_over_a_share() -> None:
    """
    It is told, counted, and may be asked for again.
    """
    things = Resource("things", "so many things", 4)
    account, other = things.account("a", "1"), things.account("b", "1")
    account.take("x", 2)
    with pytest.raises(OverShare, match=r"x: .*so many things"):
        account.take("x", 3)
    other.take("y")
    assert things.refused == {"a": 1}
    account.close()
    other.close()
    assert (things.held, things.held_by()) == (0, {})
    account.take("x", 2)


def test_asked_back() -> None:
    """
    Whoever gets nothing has others asked to give back what lies idle; not more often
    than makes sense.
    """
    now = [0.0]
    things = Resource("things", "things", 4, seconds=lambda: now[0])
    asked = []
    idle = things.account("a", "1", lambda: asked.append(idle.give()))
    idle.take("x", 2)
    account = things.account("b", "1")
    for _ in range(3):
        with pytest.raises(OverShare):
            account.take("y", 4)
    assert len(asked) == 1
    now[0] += ASK_BACK
    with pytest.raises(OverShare):
        account.take("y", 4)
    assert len(asked) == 2
    assert idle.held == 0


def test_never_less_than_nothing() -> None:
    """
    What is given back twice is nobody else's.
    """
    things = Resource("things", "things", 10)
    one, other = things.account("a", "1"), things.account("a", "1")
    one.take("x", 2)
    other.take("x", 2)
    one.give(5)
    one.close()
    assert (one.held, other.held, things.held) == (0, 2, 2)


def test_without_limit() -> None:
    """
    For whoever is alone.
    """
    account = unlimited("things")
    account.take("x", 2**40)
    assert account.held == 2**40


@pytest.mark.parametrize("limit", [32, 40, 64, 256, 1024, 4096, 65536, 2**20])
def test_reserve(limit: int) -> None:
    """
    Something is left to be shared, and something not.
    """
    assert 0 < reserved_descriptors(limit) < limit
    assert limit - reserved_descriptors(limit) >= limit // 8


@given(
    st.integers(1, 500),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("12"), st.integers(-40, 40)),
        max_size=60,
    ),
)
def test_bounds(total: int, steps: list[tuple[str, str, int]]) -> None:
    """
    Whatever is asked for and given back: no more than there is is held, sums are right,
    and what an account gets, it could have at that moment.
    """
    things = Resource("things", "things", total)
    accounts: dict[tuple[str, str], Account] = {}
    for peer, session, count in steps:
        account = accounts.setdefault((peer, session), things.account(peer, session))
        if count < 0:
            account.give(-count)
        elif account.try_take(count) and count:
            left = things.total - things.held
            assert account.held <= max(PART * (left + 1), things.least)
        assert things.held == sum(each.held for each in accounts.values())
        assert 0 <= things.held <= total


def test_many_threads() -> None:
    """
    Nothing is lost or gained when all ask at once.
    """
    things = Resource("things", "things", 50)

    def work(peer: str) -> None:
        account = things.account(peer, "1")
        for _ in range(2000):
            if account.try_take(3):
                account.give(3)
        account.close()

    threads = [threading.Thread(target=work, args=(peer,)) for peer in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (things.held, things.held_by()) == (0, {})
