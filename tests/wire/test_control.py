"""
Limits and status over a connection: who may ask for what, and what is answered.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from attrs import define
from twisted.logger import capturedLogs

from realize.errors import BadRequest, NoSuchScope, NotAllowed, PeerError
from realize.net.limits import CHANGES_PER_SECOND
from realize.wire import commands
from realize.wire.remote import Connection
from realize.wire.status import Throttle
from realize.wire.waiting import ANSWER_DEADLINE
from tests.support.wire import Client, Net, now

T = TypeVar("T")

ARCHIVE = b"A" * 32


@define
class Talk:
    """
    A server, and one or two peers connected to it.
    """

    net: Net
    client: Client

    @property
    def connection(self) -> Connection:
        """
        What the client does with it.
        """
        return self.client.connection()

    def run(self, asked: Coroutine[Any, Any, T], client: Client | None = None) -> T:
        """
        The answer to a request, however long the limits let it wait.
        """
        client = client or self.client
        waiting = client.begin(asked)
        for _ in range(5000):
            client.wires.pump()
            if waiting.called:
                break
            self.net.clock.advance(0.001)
        return now(waiting)

    def settle(self) -> None:
        """
        Let a second pass, in which messages arrive.
        """
        for _ in range(100):
            self.client.wires.pump()
            self.net.clock.advance(0.01)

    def set(self, scope: str = "connection", **more: Any) -> Throttle:
        """
        Ask for a change, and have all messages delivered.
        """
        more = {"name": None, "connection": None, "seconds": None, **more}
        return self.run(self.connection.set_throttle(scope, **more))

    def raw(self, **arguments: Any) -> Any:
        """
        A SetThrottle with these arguments, as they are.
        """
        return self.run(self.connection.ask(commands.SetThrottle, **arguments))


@pytest.fixture
def net() -> Net:
    """
    A service with two peers, without rights.
    """
    net = Net()
    net.service.peers[ARCHIVE] = "archive"
    net.factory.limits.peer("laptop")
    net.factory.limits.peer("archive")
    return net


@pytest.fixture
def talk(net: Net) -> Talk:
    """
    A peer without the right control.
    """
    return Talk(net, net.client())


@pytest.fixture
def admin(net: Net) -> Talk:
    """
    A peer with the right control.
    """
    net.service.controllers.add("archive")
    return Talk(net, net.client(key=ARCHIVE, token=b"a" * 16))


def test_anybody_limits_their_own_connection(talk: Talk) -> None:
    """
    Both directions, answered with what holds.
    """
    now = talk.set(rates={"send": 5000, "receive": 7000})
    assert (now.scope, now.name, now.connection) == ("connection", "laptop", 1)
    assert (now.send, now.receive) == (5000, 7000)
    assert (now.effective_send, now.effective_receive) == (5000, 7000)
    assert talk.client.server.throttled.send_rate == 5000
    assert talk.client.server.throttled.receive_rate == 7000


def test_direction_that_is_left_out_stays(talk: Talk) -> None:
    """
    Setting one direction does not lift the other.
    """
    talk.set(rates={"send": 5000})
    now = talk.set(rates={"receive": 7000})
    assert (now.send, now.receive) == (5000, 7000)
    assert talk.set(rates={"send": None}).send is None


@pytest.mark.parametrize(
    "target",
    [{"scope": "service"}, {"scope": "peer", "name": "laptop"}, {"connection": 7}],
)
def test_everything_else_takes_control(talk: Talk, target: dict[str, Any]) -> None:
    """
    Nothing is changed, and one line is logged.
    """
    with capturedLogs() as logged, pytest.raises(NotAllowed, match="control"):
        talk.set(rates={"send": 5000}, **target)
    assert talk.client.server.throttled.send_rate is None
    (line,) = [each for each in logged if each.get("event") == "limit-refused"]
    assert (line["by"], line["direction"]) == ("laptop", "send")
    with pytest.raises(NotAllowed):
        talk.run(talk.connection.get_throttle(**{"scope": "connection", **target}))
    with pytest.raises(NotAllowed):
        talk.run(talk.connection.get_status())


def test_number_of_the_own_connection_is_no_way_around(talk: Talk, admin: Talk) -> None:
    """
    What an administrator has set cannot be raised by naming the own connection.
    """
    admin.set(connection=1, rates={"send": 1000})
    assert talk.set(connection=1, rates={"send": 9000}).send == 1000
    assert talk.set(connection=1, rates={"send": None}).send == 1000
    assert talk.set(rates={"send": None}).send == 1000
    assert admin.set(connection=1, rates={"send": None}).send is None


def test_control_sets_all_scopes(talk: Talk, admin: Talk) -> None:
    """
    The smallest of all holds for a connection.
    """
    admin.set("service", rates={"send": 9000})
    admin.set("peer", name="laptop", rates={"send": 8000})
    now = admin.set(connection=1, rates={"send": 8500})
    assert now.send == 8500
    assert now.effective_send == 8000
    assert talk.client.server.throttled.send_rate == 8000
    assert admin.client.server.throttled.send_rate == 9000
    got = admin.run(admin.connection.get_throttle("peer", name="laptop"))
    assert (got.send, got.effective_send) == (8000, 8000)


def test_change_is_felt_by_what_is_queued(talk: Talk, admin: Talk) -> None:
    """
    Bytes that wait for a slow limit go at once when it is lifted.
    """
    admin.set("peer", name="laptop", rates={"send": 128})
    server = talk.client.server.throttled
    server.write(bytes(50_000))
    assert server.queued > 40_000
    admin.set("peer", name="laptop", rates={"send": None})
    assert server.queued == 0


def test_for_a_time(talk: Talk) -> None:
    """
    Then what held before does.
    """
    talk.set(rates={"send": 5000})
    assert talk.set(rates={"send": 1000}, seconds=10).send_seconds == pytest.approx(10)
    talk.net.clock.advance(10)
    assert talk.client.server.throttled.send_rate == 5000


VALID = {"scope": "connection", "send": "5000"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"send": "0"}, "128 to"),
        ({"send": "127"}, "128 to"),
        ({"send": "1125899906842625"}, "128 to"),
        ({"send": "-5"}, "number of bytes"),
        ({"send": ""}, "number of bytes"),
        ({"send": "OFF"}, "number of bytes"),
        ({"send": "1M"}, "number of bytes"),
        ({"send": "9" * 30}, "number of bytes"),
        ({"send": "\u0665\u0660\u0660\u0660"}, "number of bytes"),
        ({"receive": "x"}, "receive: "),
        ({"seconds": 0}, "1 to"),
        ({"seconds": 1 << 62}, "1 to"),
        ({"scope": "world"}, "a scope is"),
        ({"scope": "peer"}, "a scope is"),
        ({"scope": "service", "name": "laptop"}, "a scope is"),
        ({"name": "laptop"}, "a scope is"),
    ],
)
def test_invalid_changes_nothing(talk: Talk, wrong: dict[str, Any], says: str) -> None:
    """
    The error says what is valid, and the old limit stays.
    """
    talk.set(rates={"send": 3000})
    with pytest.raises(BadRequest, match=says):
        talk.raw(**{**VALID, **wrong})
    assert talk.client.server.throttled.send_rate == 3000
    assert not talk.client.link.ended


def test_second_direction_invalid_leaves_the_first(talk: Talk) -> None:
    """
    All or nothing.
    """
    with pytest.raises(BadRequest):
        talk.raw(scope="connection", send="5000", receive="5")
    assert talk.client.server.throttled.send_rate is None


def test_unknown_peers_and_connections(admin: Talk) -> None:
    """
    Those who may know are told which there are.
    """
    with pytest.raises(NoSuchScope, match="known here: laptop, archive"):
        admin.set("peer", name="box", rates={"send": 5000})
    with pytest.raises(NoSuchScope, match="there are: 1"):
        admin.set(connection=99, rates={"send": 5000})


def test_changes_a_second(talk: Talk) -> None:
    """
    Too many are refused until the second is over.
    """
    for number in range(CHANGES_PER_SECOND):
        talk.set(rates={"send": 5_000_000 + number})
    with pytest.raises(BadRequest, match="more than 10"):
        talk.set(rates={"send": 9_999_999})
    assert talk.client.server.throttled.send_rate == 5_000_009
    talk.net.clock.advance(1)
    assert talk.set(rates={"send": 9_999_999}).send == 9_999_999


def test_reconnect_keeps_and_touches_nobody_else(net: Net) -> None:
    """
    A limit of a connection belongs to its session.
    """
    first = Talk(net, net.client())
    first.set(rates={"send": 1000})
    second = Talk(net, net.client())
    assert second.client.server.throttled.send_rate == 1000
    other = Talk(net, net.client(token=b"o" * 16))
    assert other.client.server.throttled.send_rate is None


def test_receive_limit_reaches_who_sends(talk: Talk, admin: Talk) -> None:
    """
    The client keeps to what the server may receive, and is told what it is sent.
    """
    admin.set("peer", name="laptop", rates={"receive": 6000, "send": 3000})
    talk.settle()
    assert talk.client.link.throttled.send_rate == 6000
    assert talk.client.link.throttled.receive_rate == 3000
    assert admin.client.link.throttled.send_rate is None
    admin.set("peer", name="laptop", rates={"receive": None, "send": None})
    talk.settle()
    assert talk.client.link.throttled.send_rate is None
    assert talk.client.link.throttled.receive_rate is None


def test_wish_of_this_end_is_not_raised_by_the_other(net: Net) -> None:
    """
    What a server allows does not lift what the client wants.
    """
    talk = Talk(net, net.client())
    own = talk.client.link.throttled.own
    own.send.claim("administrator", 1000)
    net.service.controllers.add("laptop")
    talk.set("service", rates={"receive": 50_000})
    assert talk.client.link.throttled.send_rate == 1000
    talk.set("service", rates={"receive": None})
    assert talk.client.link.throttled.send_rate == 1000


def test_latest_share_is_told_when_many_change(talk: Talk, admin: Talk) -> None:
    """
    Messages that have not been sent are not piled up: the last one counts.
    """
    limits = talk.net.factory.limits
    setting = limits.peer("laptop").setting("administrator", "receive")
    for rate in range(1000, 2000, 100):
        setting.say(rate, None, "archive")
    talk.settle()
    assert talk.client.link.throttled.send_rate == 1900


@pytest.mark.parametrize(
    "arguments",
    [
        {"scope": "service", "send": "5000"},
        {"scope": "connection", "connection": 1, "send": "5000"},
        {"scope": "connection", "seconds": 5, "send": "5000"},
        {"scope": "connection", "send": "5"},
    ],
)
def test_client_lets_only_its_connection_be_limited(
    talk: Talk, arguments: dict[str, Any]
) -> None:
    """
    A server asks for nothing else; what is not valid changes nothing.
    """
    with pytest.raises(PeerError):
        talk.run(talk.client.server.ask(commands.SetThrottle, **arguments))
    assert talk.client.link.throttled.send_rate is None


def test_bytes_before_the_welcome_are_not_held(net: Net) -> None:
    """
    The slowest limit does not keep anybody from being welcomed.
    """
    net.factory.limits.service.setting("administrator", "send").say(128, None, "a")
    client = net.client(pump=False)
    assert client.server.throttled.sent > 0
    client.wires.pump()
    assert client.link.welcomed.called


def test_status(talk: Talk, admin: Talk) -> None:
    """
    Everything at once: limits, connections with their own marked, directories.
    """
    talk.net.service.offer("inbox")
    talk.run(talk.connection.open_destination("inbox"))
    talk.set(rates={"send": 4000})
    admin.set("service", rates={"receive": 5000}, seconds=60)
    limits = talk.net.factory.limits
    limits.start()
    status = admin.run(admin.connection.get_status())
    limits.stop()
    assert status.software == commands.SOFTWARE
    assert status.service.receive == 5000
    assert status.service.receive_seconds == pytest.approx(60, abs=1)
    assert [each.name for each in status.peers] == ["laptop", "archive"]
    first, second = status.connections
    assert (first.throttle.connection, first.throttle.name) == (1, "laptop")
    assert (first.throttle.send, first.is_own, first.stores) == (
        4000,
        False,
        ["put inbox"],
    )
    assert first.sent > 0
    assert first.received > 0
    assert (second.throttle.name, second.is_own) == ("archive", True)
    assert [each.name for each in status.directories] == ["inbox"]


def test_lost_connections_are_not_shown(talk: Talk, admin: Talk) -> None:
    """
    Only those that are there.
    """
    talk.client.wires.cut()
    status = admin.run(admin.connection.get_status())
    assert [each.throttle.name for each in status.connections] == ["archive"]


def test_answer_may_take_as_long_as_limits_make_it(talk: Talk) -> None:
    """
    The deadline for quick requests is for a server that does nothing, not for one
    that sends slowly.
    """
    talk.net.service.controllers.add("laptop")
    for number in range(1500):
        talk.net.service.offer(f"directory-{number}")
    talk.set(rates={"send": 500})
    began = talk.net.clock.seconds()
    waiting = talk.client.begin(talk.connection.get_status())
    while not waiting.called:
        talk.client.wires.pump()
        talk.net.clock.advance(0.1)
    assert len(now(waiting).directories) == 1500
    assert talk.net.clock.seconds() - began > 2 * ANSWER_DEADLINE


def test_request_may_take_as_long_as_limits_make_it(talk: Talk) -> None:
    """
    Nor is it for a request that has not been sent yet.
    """
    talk.client.link.throttled.own.send.claim("administrator", 500)
    began = talk.net.clock.seconds()
    before = [
        talk.client.begin(talk.connection.open_destination("outbox", b"x" * 4_000))
        for _ in range(10)
    ]
    waiting = talk.client.begin(talk.connection.get_throttle("peer", name="x"))
    while not waiting.called:
        talk.client.wires.pump()
        talk.net.clock.advance(0.1)
    for each in (*before, waiting):
        with pytest.raises(NotAllowed):
            now(each)
    assert talk.net.clock.seconds() - began > 2 * ANSWER_DEADLINE
