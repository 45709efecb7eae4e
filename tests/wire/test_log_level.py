"""
Changing over a connection what the other end logs.
"""

from __future__ import annotations

import pytest

from realize.errors import BadRequest, NotAllowed
from realize.net.limits import CHANGES_PER_SECOND
from realize.observe.levels import Levels
from tests.support.wire import Client, Net


@pytest.fixture
def net() -> Net:
    """
    A server that ``laptop`` may control.
    """
    net = Net()
    net.service.controllers.add("laptop")
    return net


def ask(client: Client, level: str, seconds: int | None = None) -> str:
    """
    The answer to a change.
    """
    return client.run(client.connection().set_log_level(level, seconds))


def test_changed(net: Net) -> None:
    """
    The answer is what it was before.
    """
    client = net.client()
    assert ask(client, "debug,wire=info", 60) == "info"
    assert ask(client, "warn") == "debug,wire=info"
    assert net.service.logged == [
        (Levels("debug", {"wire": "info"}), "laptop", 60),
        (Levels("warn"), "laptop", None),
    ]


def test_control_is_needed(net: Net) -> None:
    """
    Who may move files may not make the daemon silent.
    """
    net.service.controllers.clear()
    with pytest.raises(NotAllowed, match="control"):
        ask(net.client(), "error")
    assert net.service.logged == []


@pytest.mark.parametrize(
    ("level", "seconds"),
    [("loud", None), ("", None), ("info,disk=debug", None), ("info", 0)],
)
def test_what_is_not_valid(net: Net, level: str, seconds: int | None) -> None:
    """
    Refused with a reason; nothing has changed.
    """
    with pytest.raises(BadRequest):
        ask(net.client(), level, seconds)
    assert net.service.logged == []


def test_so_many_a_second(net: Net) -> None:
    """
    A client that has gone mad cannot fill the log with changes.
    """
    client = net.client()
    for _ in range(CHANGES_PER_SECOND):
        ask(client, "info")
    with pytest.raises(BadRequest, match="in a second"):
        ask(client, "info")
