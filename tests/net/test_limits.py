"""
Who may say what about limits, for how long, and what becomes of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from realize.config import Config, PeerConfig, ServiceConfig
from realize.net.limits import (
    CHANGES_PER_SECOND,
    KEPT_SECONDS,
    KEPT_SESSIONS,
    PERIOD,
    Limits,
)
from realize.net.session import Session
from realize.net.throttled import ThrottledConnection, ThrottledFactory
from realize.observe.limit_metrics import LimitMetrics
from realize.schedule import Schedule
from tests.net.test_throttled import Received, Transport, run

K = 1024
MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001  # schedules are in local time


def peer(name: str, **limits: str) -> PeerConfig:
    """
    A peer with limits.
    """
    parsed = {which: Schedule.parse(text) for which, text in limits.items()}
    return PeerConfig(name, name.encode().ljust(32, b"\0"), **parsed)


def config(*peers: PeerConfig, **service: str) -> Config:
    """
    A configuration with limits of the service.
    """
    return Config(
        peers={each.name: each for each in peers},
        service=ServiceConfig(
            **{which: Schedule.parse(text) for which, text in service.items()}
        ),
    )


class Daemon:
    """
    Limits, and connections that obey them.

    :ivar wrong: seconds by which the time of day has been set forward.
    :ivar busy: what the limits said about that, in turn.
    :ivar told: what the other ends were told last, by the numbers of sessions.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.wrong = 0.0
        self.registry = CollectorRegistry()
        self.limits = Limits(
            self.clock,
            LimitMetrics.create(self.registry, ["laptop", "archive"]),
            lambda: MONDAY + timedelta(seconds=self.clock.seconds() + self.wrong),
        )
        self.busy: list[bool] = []
        self.limits.busy_changed = lambda: self.busy.append(self.limits.is_busy)
        self.told: dict[int, tuple[int | None, int | None]] = {}
        self.transports: dict[ThrottledConnection, Transport] = {}

    def connect(
        self, name: str = "laptop", token: bytes = b"token"
    ) -> tuple[Session, ThrottledConnection]:
        """
        A connection of a session that was welcomed.
        """
        factory = ThrottledFactory(
            Factory.forProtocol(Received), self.clock, self.limits.service.shared
        )
        connection = factory.buildProtocol(None)
        assert connection is not None
        transport = Transport()
        connection.makeConnection(transport)
        self.transports[connection] = transport
        numbers: list[int] = []
        early: list[tuple[int | None, int | None]] = []

        def tell(send: int | None, receive: int | None) -> None:
            early.append((send, receive))
            if numbers:
                self.told[numbers[0]] = (send, receive)

        session = self.limits.joined(connection, name, (name.encode(), token), tell)
        numbers.append(session.number)
        self.told[session.number] = early[-1] if early else (None, None)
        connection.begin_holding()
        return session, connection

    def metric(self, name: str, **labels: str) -> float | None:
        """
        The value of a series.
        """
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def daemon() -> Daemon:
    """
    A daemon without limits, at midnight before a Monday.
    """
    return Daemon()


# -- what was said last, and for how long


def test_what_was_said_at_run_time_wins(daemon: Daemon) -> None:
    """
    Somebody with the right replaces the configured value, upwards too.
    """
    daemon.limits.configure(config(send_limit="1M"))
    service = daemon.limits.service
    assert service.shared.send.rate == K * K
    service.setting("administrator", "send").say(5 * K * K, None, "laptop")
    assert service.shared.send.rate == 5 * K * K
    service.setting("administrator", "send").say(None, None, "laptop")
    assert service.shared.send.rate is None
    daemon.limits.configure(config(send_limit="1M"))
    assert service.shared.send.rate is None, "a reload changed what it does not name"
    daemon.limits.configure(config(send_limit="2M"))
    assert service.shared.send.rate == 2 * K * K


def test_for_a_time(daemon: Daemon) -> None:
    """
    After its time, a limit is what it was before.
    """
    setting = daemon.limits.service.setting("administrator", "receive")
    setting.say(5000, None, "laptop")
    setting.say(1000, 60, "laptop")
    assert daemon.limits.service.seconds_left("receive") == 60
    daemon.clock.advance(59)
    assert daemon.limits.service.shared.receive.rate == 1000
    daemon.clock.advance(1)
    assert daemon.limits.service.shared.receive.rate == 5000
    assert daemon.limits.service.seconds_left("receive") is None


def test_saying_something_else_ends_the_time(daemon: Daemon) -> None:
    """
    What was said for good is not undone by an older timer.
    """
    setting = daemon.limits.service.setting("administrator", "send")
    setting.say(1000, 60, "laptop")
    setting.say(2000, None, "laptop")
    daemon.clock.advance(61)
    assert daemon.limits.service.shared.send.rate == 2000
    assert daemon.clock.getDelayedCalls() == []


def test_invalid_leaves_what_was(daemon: Daemon) -> None:
    """
    An error says what is valid, the old limit and its time go on.
    """
    setting = daemon.limits.service.setting("administrator", "send")
    setting.say(1000, 60, "laptop")
    with pytest.raises(ValueError, match="128 to"):
        setting.say(1, None, "laptop")
    assert daemon.limits.service.shared.send.rate == 1000
    assert setting.seconds_left == 60


def test_peer_never_raises(daemon: Daemon) -> None:
    """
    Of what both ends say, the smaller holds.
    """
    session, _connection = daemon.connect()
    scope = session.scope
    scope.setting("administrator", "send").say(1000, None, "admin")
    scope.setting("peer", "send").say(9000, None, "laptop")
    assert scope.shared.send.rate == 1000
    scope.setting("peer", "send").say(500, None, "laptop")
    assert scope.shared.send.rate == 500
    scope.setting("peer", "send").say(None, None, "laptop")
    assert scope.shared.send.rate == 1000


def test_schedule_is_followed(daemon: Daemon) -> None:
    """
    The limit changes with the clock, by itself.
    """
    text = "Mon-Fri 08:00-18:00 1M, else off"
    daemon.limits.configure(config(peer("laptop", send_limit=text)))
    daemon.limits.start()
    laptop = daemon.limits.peer("laptop")
    assert laptop.shared.send.rate is None
    daemon.clock.pump([60] * 480)
    assert laptop.shared.send.rate == K * K
    daemon.clock.pump([60] * 601)
    assert laptop.shared.send.rate is None
    daemon.limits.stop()
    assert daemon.clock.getDelayedCalls() == []


def test_sleeps_while_nobody_is_there(daemon: Daemon) -> None:
    """
    Without connections and schedules nothing is looked at; with a connection every
    second, until it is lost.
    """
    daemon.limits.configure(config(peer("laptop", send_limit="1M")))
    daemon.limits.start()
    assert daemon.clock.getDelayedCalls() == []
    session, connection = daemon.connect()
    other, other_connection = daemon.connect("archive")
    for _ in range(3):
        daemon.clock.advance(PERIOD)
        assert len(daemon.clock.getDelayedCalls()) == 1
    daemon.limits.left(session, connection)
    assert len(daemon.clock.getDelayedCalls()) == 1
    daemon.limits.left(other, other_connection)
    assert daemon.clock.getDelayedCalls() == []
    assert daemon.busy == [True, False]


def test_nobody_looks_before_the_start_or_after_the_end(daemon: Daemon) -> None:
    """
    Whoever comes then sets no timer.
    """
    session, connection = daemon.connect()
    assert daemon.clock.getDelayedCalls() == []
    daemon.limits.start()
    assert len(daemon.clock.getDelayedCalls()) == 1
    daemon.limits.stop()
    daemon.limits.left(session, connection)
    daemon.connect()
    assert daemon.clock.getDelayedCalls() == []


def test_many_who_come_do_not_put_off_the_look(daemon: Daemon) -> None:
    """
    It comes a second after the first of them, however many come in that second.
    """
    daemon.limits.start()
    session, connection = daemon.connect()
    for number in range(7):
        daemon.clock.advance(PERIOD / 8)
        daemon.connect(token=b"%d" % number)
    connection.write(bytes(5000))
    daemon.clock.advance(PERIOD / 8)
    assert session.rates["send"] == 5000 / PERIOD


def test_a_schedule_wakes_when_minutes_begin(daemon: Daemon) -> None:
    """
    Which is when it changes: a daemon that nobody is connected to need not look
    between them.
    """
    daemon.limits.start()
    daemon.clock.advance(7.5)
    text = "08:00-18:00 1M, else off"
    daemon.limits.configure(config(peer("laptop", send_limit=text)))
    (look,) = daemon.clock.getDelayedCalls()
    assert look.getTime() == 60
    daemon.clock.advance(52.5)
    (look,) = daemon.clock.getDelayedCalls()
    assert look.getTime() == 120
    daemon.limits.configure(config(peer("laptop", send_limit="1M")))
    assert daemon.clock.getDelayedCalls() == []


def test_a_schedule_after_the_time_was_set(daemon: Daemon) -> None:
    """
    Whoever connects finds the limit of now; others see it within a minute.
    """
    text = "08:00-18:00 1M, else off"
    daemon.limits.configure(config(peer("laptop", send_limit=text)))
    daemon.limits.start()
    daemon.wrong = 9 * 3600
    _session, connection = daemon.connect()
    assert connection.send_rate == K * K
    daemon.limits.left(_session, connection)
    daemon.wrong = 0
    daemon.clock.advance(60)
    assert daemon.limits.peer("laptop").shared.send.rate is None


def test_changes_are_logged(daemon: Daemon) -> None:
    """
    Scope, old, new and who: once for each change.
    """
    with capturedLogs() as logged:
        daemon.limits.configure(config(send_limit="1000"))
        setting = daemon.limits.service.setting("administrator", "send")
        setting.say(2000, 10, "laptop")
        setting.say(2000, 10, "laptop")
        daemon.clock.advance(10)
    changes = [
        (event["scope"], event["direction"], event["old"], event["new"], event["by"])
        for event in logged
        if event.get("event") == "limit-changed"
    ]
    assert changes == [
        ("service", "send", "off", 1000, "the configuration"),
        ("service", "send", 1000, 2000, "laptop"),
        ("service", "send", 2000, 1000, "the end of what laptop set for a time"),
    ]


def test_changes_a_second(daemon: Daemon) -> None:
    """
    So many and no more, for each peer.
    """
    limits = daemon.limits
    assert all(limits.may_change("laptop") for _ in range(CHANGES_PER_SECOND))
    assert not limits.may_change("laptop")
    assert limits.may_change("archive")
    daemon.clock.advance(1)
    assert limits.may_change("laptop")


# -- scopes and sessions


def test_a_send_passes_all_scopes(daemon: Daemon) -> None:
    """
    The smallest of connection, peer and service holds, whichever it is.
    """
    session, connection = daemon.connect()
    scopes = [session.scope, daemon.limits.peer("laptop"), daemon.limits.service]
    for scope in scopes:
        scope.setting("administrator", "send").say(1000, None, "admin")
        assert connection.send_rate == 1000
        scope.setting("administrator", "send").say(None, None, "admin")
        assert connection.send_rate is None


def test_other_peers_are_not_touched(daemon: Daemon) -> None:
    """
    A limit of one peer is none of another.
    """
    _session, other = daemon.connect("archive")
    daemon.limits.peer("laptop").setting("administrator", "send").say(1000, None, "a")
    assert other.send_rate is None


def test_reconnect_keeps_limits(daemon: Daemon) -> None:
    """
    What was set on a connection belongs to its session, its time included.
    """
    session, first = daemon.connect()
    session.scope.setting("peer", "send").say(1000, 100, "laptop")
    session.scope.setting("administrator", "receive").say(2000, None, "admin")
    daemon.limits.left(session, first)
    daemon.clock.advance(50)
    again, second = daemon.connect()
    assert again.number == session.number
    assert (second.send_rate, second.receive_rate) == (1000, 2000)
    daemon.clock.advance(50)
    assert second.send_rate is None


def test_newer_connection_of_a_session_before_the_older_is_lost(
    daemon: Daemon,
) -> None:
    """
    The end of the older one takes nothing away.
    """
    session, first = daemon.connect()
    session.scope.setting("peer", "send").say(1000, None, "laptop")
    _same, second = daemon.connect()
    daemon.limits.left(session, first)
    assert session.connection is second
    assert second.send_rate == 1000


def test_lost_sessions_are_forgotten(daemon: Daemon) -> None:
    """
    After some minutes, or if there are many; those without limits at once.
    """
    plain, connection = daemon.connect(token=b"plain")
    daemon.limits.left(plain, connection)
    assert daemon.connect(token=b"plain")[0].number != plain.number

    old, connection = daemon.connect(token=b"old")
    old.scope.setting("peer", "send").say(1000, None, "laptop")
    daemon.limits.left(old, connection)
    daemon.clock.advance(KEPT_SECONDS)
    assert daemon.connect(token=b"old")[0].number != old.number

    for number in range(KEPT_SESSIONS + 1):
        session, connection = daemon.connect(token=b"%d" % number)
        session.scope.setting("peer", "send").say(1000, 3600, "laptop")
        daemon.limits.left(session, connection)
    assert daemon.connect(token=b"1")[1].send_rate == 1000
    assert daemon.connect(token=b"0")[1].send_rate is None


# -- what is received


def test_receive_limit_is_passed_on(daemon: Daemon) -> None:
    """
    The one who sends is told its share, and when it changes; and what it will be sent.
    """
    session, _connection = daemon.connect()
    assert daemon.told[session.number] == (None, None)
    service = daemon.limits.service
    service.setting("administrator", "receive").say(9000, None, "admin")
    service.setting("administrator", "send").say(4000, None, "admin")
    assert daemon.told[session.number] == (9000, 4000)
    service.setting("administrator", "receive").say(None, None, "admin")
    assert daemon.told[session.number] == (None, 4000)


def test_wish_of_the_peer_is_not_passed_back(daemon: Daemon) -> None:
    """
    It would hold there after the peer had withdrawn it.
    """
    session, _connection = daemon.connect()
    session.scope.setting("peer", "receive").say(1000, None, "laptop")
    session.scope.setting("peer", "send").say(2000, None, "laptop")
    assert daemon.told[session.number] == (None, None)


def test_shares_follow_those_who_come_and_go(daemon: Daemon) -> None:
    """
    Divided within a second among those who send, all of it to whoever is left.
    """
    daemon.limits.service.setting("administrator", "receive").say(90_000, None, "a")
    daemon.limits.start()
    sessions = [daemon.connect(token=b"%d" % number) for number in range(3)]

    def let_all_send(seconds: float, who: list[tuple[Session, ThrottledConnection]]):
        for _ in range(round(seconds * 10)):
            daemon.clock.advance(0.1)
            for session, connection in who:
                share = daemon.told[session.number][0] or 0
                connection.received += share // 10

    let_all_send(3, sessions)
    assert [daemon.told[each.number][0] for each, _ in sessions] == [30_000] * 3
    daemon.limits.left(*sessions[2])
    let_all_send(3, sessions[:2])
    assert [daemon.told[each.number][0] for each, _ in sessions[:2]] == [45_000] * 2
    let_all_send(4, sessions[:1])
    assert daemon.told[sessions[0][0].number][0] == 90_000


def test_peer_and_service_limits_are_both_divided(daemon: Daemon) -> None:
    """
    What a peer may not use of the service's limit is left to the others.
    """
    daemon.limits.service.setting("administrator", "receive").say(90_000, None, "a")
    laptop = daemon.limits.peer("laptop").setting("administrator", "receive")
    laptop.say(10_000, None, "a")
    one, connection = daemon.connect("laptop")
    other, other_connection = daemon.connect("archive")
    daemon.limits.start()
    for _ in range(40):
        daemon.clock.advance(0.1)
        connection.received += (daemon.told[one.number][0] or 0) // 10
        other_connection.received += (daemon.told[other.number][0] or 0) // 10
    assert daemon.told[one.number][0] == 10_000
    assert daemon.told[other.number][0] == 80_000


def test_who_does_not_care_gains_nothing(daemon: Daemon) -> None:
    """
    A peer that sends as much as it can gets no more than its share: reading from it
    is paused, and from its neighbour is not.
    """
    daemon.limits.service.setting("administrator", "receive").say(100_000, None, "a")
    rude, rude_connection = daemon.connect(token=b"rude")
    kind, kind_connection = daemon.connect(token=b"kind")
    daemon.limits.start()
    before = (0, 0)
    for step in range(1500):
        if step == 500:
            before = rude_connection.received, kind_connection.received
        daemon.clock.advance(0.01)
        if daemon.transports[rude_connection].producerState == "producing":
            rude_connection.dataReceived(bytes(10_000))
        share = daemon.told[kind.number][0] or 0
        if daemon.transports[kind_connection].producerState == "producing":
            kind_connection.dataReceived(bytes(int(share * 0.01)))
    got = rude_connection.received - before[0], kind_connection.received - before[1]
    assert got[0] <= 1.05 * got[1]
    assert sum(got) == pytest.approx(1_000_000, rel=0.03)
    assert rude.number != kind.number


# -- metrics


def test_metrics(daemon: Daemon) -> None:
    """
    Limits are gauges, infinite without one; waiting is counted in seconds.
    """
    session, connection = daemon.connect()
    daemon.limits.start()
    service = "realize_service_limit_bytes_per_second"
    assert daemon.metric(service, direction="send") == float("inf")
    daemon.limits.service.setting("administrator", "send").say(1000, None, "a")
    laptop = daemon.limits.peer("laptop").setting("administrator", "receive")
    laptop.say(2000, None, "a")
    session.scope.setting("peer", "send").say(3000, None, "laptop")
    assert daemon.metric(service, direction="send") == 1000
    of_peer = "realize_peer_limit_bytes_per_second"
    assert daemon.metric(of_peer, direction="receive", peer="laptop") == 2000
    own = "realize_limited_connections"
    assert daemon.metric(own, direction="send") == 1
    assert daemon.metric(own, direction="receive") == 0
    passed: dict[str, list[int]] = {}

    def count(peer: str, sent: int, received: int) -> None:
        before = passed.get(peer, [0, 0])
        passed[peer] = [before[0] + sent, before[1] + received]

    daemon.limits.passed = count
    connection.write(bytes(5000))
    run(daemon.clock, 3.1)
    connection.dataReceived(bytes(100))
    run(daemon.clock, 1.0)
    daemon.limits.stop()
    daemon.limits.start()
    waited = "realize_limit_waited_seconds_total"
    assert daemon.metric(waited, direction="send", peer="laptop") == pytest.approx(
        4.0, abs=0.2
    )
    assert daemon.metric(waited, direction="receive", peer="laptop") == 0
    assert passed["laptop"] == [connection.sent, connection.received]
    assert session.rates["send"] == pytest.approx(1000, rel=0.1)
    daemon.limits.left(session, connection)
    assert daemon.metric(own, direction="send") == 0


def test_the_clock_is_set_back() -> None:
    """
    Limits are followed on, and a connection that ends then has ended.
    """
    daemon = Daemon()
    daemon.clock.advance(100)
    daemon.limits.start()
    daemon.limits.service.setting("administrator", "receive").say(10_000, None, "me")
    first, connection = daemon.connect(token=b"1")
    run(daemon.clock, 3.9)
    connection.dataReceived(bytes(60_000))
    run(daemon.clock, 0.08)
    daemon.clock.rightNow -= 5
    second, other = daemon.connect(token=b"2")
    run(daemon.clock, 7)
    passed = daemon.metric(
        "realize_limit_waited_seconds_total", direction="receive", peer="laptop"
    )
    assert passed is not None
    assert passed >= 0
    for session, each in ((first, connection), (second, other)):
        daemon.limits.left(session, each)
    assert not daemon.limits.is_busy
    daemon.limits.stop()


def test_one_look_that_fails_is_not_the_last(monkeypatch) -> None:
    """
    What nobody foresaw does not end schedules and shares for good.
    """
    daemon = Daemon()
    daemon.limits.start()
    daemon.connect()
    looks = []

    def fail() -> None:
        looks.append(daemon.clock.seconds())
        raise ValueError("not foreseen")

    monkeypatch.setattr(daemon.limits, "_divide", fail)
    for _ in range(3):
        with pytest.raises(ValueError, match="not foreseen"):
            daemon.clock.advance(1)
    assert looks == [1, 2, 3]
    daemon.limits.stop()
