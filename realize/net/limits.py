"""
The limits of a service: who set what, for how long, and who gets which share.

Three scopes: the service (all connections), a peer (all of its connections), and a
connection, which is a session, so that a reconnect changes nothing.  A send passes
the limits of all three.

What the parties say about each is in :mod:`realize.net.scopes`.

What is received is limited by whoever sends it: its share is passed on to each peer,
and divided anew every second.  It is enforced here too, for each connection, so that
a peer who does not care gains nothing.

Without connections there is nothing to divide: then it wakes only when a minute
begins, which is when schedules change, and not at all where there is no schedule.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from realize.config import Config
from realize.net.scopes import DIRECTIONS, Direction, Scope
from realize.net.session import Session, Tell
from realize.net.shares import Want, divide, worth_telling
from realize.net.throttle import Limit
from realize.net.throttled import ThrottledConnection
from realize.observe.limit_metrics import LimitMetrics
from realize.schedule import Schedule, seconds_to_next_minute

#: Seconds between divisions of what may be received.
PERIOD: Final = 1.0

#: What the limits on several connections tolerate, in seconds' worth: each connection
#: is held to its share, so this is used up only between two divisions.  With less, one
#: that takes too much would have all of them held back.
SHARED_TOLERANCE: Final = 0.5

#: Seconds in which what was too much is made up for by smaller shares.
REPAID_IN: Final = 5.0

#: Seconds for which the limits of a session outlive its connection, and of how many.
KEPT_SECONDS: Final = 600.0
KEPT_SESSIONS: Final = 256

#: Most changes of limits in a second that one peer may ask for.
CHANGES_PER_SECOND: Final = 10

_OFF: Final = Schedule((), None)


class Limits:
    """
    All limits of one daemon, and the sessions that obey them.

    :param metrics: told of limits and of waiting.
    :param local_time: what schedules go by.
    :ivar service: the limits on all connections together.
    :ivar passed: called every second with a peer and the bytes that were sent to it
        and received since.
    :ivar is_busy: whether any session has a connection.
    :ivar busy_changed: called after :attr:`is_busy` has changed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        metrics: LimitMetrics | None = None,
        local_time: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._clock = clock
        self._metrics = metrics or LimitMetrics.create(CollectorRegistry())
        self._local_time = local_time
        self.passed: Callable[[str, int, int], None] = lambda peer, sent, received: None
        self.is_busy = False
        self.busy_changed: Callable[[], None] = lambda: None
        self._peers: dict[str, Scope] = {}
        self._schedules: dict[tuple[str, Direction], Schedule] = {}
        self._sessions: OrderedDict[tuple[bytes, bytes], Session] = OrderedDict()
        self._numbers = 0
        self._asked: dict[str, deque[float]] = {}
        self._started = False
        self._tick: IDelayedCall | None = None
        self.service = Scope(clock, "service", self._changed, SHARED_TOLERANCE)

    # -- the configuration, and time

    def configure(self, config: Config) -> None:
        """
        From now on, what *config* says.

        Where a setting has changed, what was set at run time is forgotten.
        """
        schedules: dict[tuple[str, Direction], Schedule | None] = {
            ("", "send"): config.service.send_limit,
            ("", "receive"): config.service.receive_limit,
        }
        for peer in config.peers.values():
            schedules[peer.name, "send"] = peer.send_limit
            schedules[peer.name, "receive"] = peer.receive_limit
        for name in self._peers.keys() - config.peers.keys():
            self._peers.pop(name).stop()
            self._asked.pop(name, None)
        before = self._schedules
        self._schedules = {key: each or _OFF for key, each in schedules.items()}
        for (name, direction), schedule in self._schedules.items():
            setting = self._scope(name).setting("administrator", direction)
            if before.get((name, direction), schedule) != schedule:
                setting.forget()
        self._follow_schedules("the configuration")
        self._tick_in_time()

    def start(self) -> None:
        """
        Divide, follow schedules and count, from now on.
        """
        self._started = True
        self._look()

    def stop(self) -> None:
        """
        End what :meth:`start` began.
        """
        self._started = False
        self._tick_in_time()
        scopes = [each.scope for each in self._sessions.values()]
        for scope in (self.service, *self._peers.values(), *scopes):
            scope.stop()

    def _tick_in_time(self) -> None:
        """
        Look again no later than necessary, and only if it is.
        """
        wait = self._seconds_to_look()
        if self._tick is not None:
            left = self._tick.getTime() - self._clock.seconds()
            if wait is not None and left <= wait:
                return
            self._tick.cancel()
        self._tick = None if wait is None else self._clock.callLater(wait, self._ticked)

    def _seconds_to_look(self) -> float | None:
        if not self._started:
            return None
        if self.is_busy:
            return PERIOD
        if any(schedule.spans for schedule in self._schedules.values()):
            return seconds_to_next_minute(self._local_time())
        return None

    def _ticked(self) -> None:
        self._tick = None
        self._look()

    def _look(self) -> None:
        try:
            self._follow_schedules("the schedule")
            for session in self._sessions.values():
                self._measure(session)
            self._drop_old_sessions()
            self._divide()
        finally:
            # What nobody foresaw must not be the last look.
            self._tick_in_time()

    def _follow_schedules(self, by: str) -> None:
        moment = self._local_time()
        for (name, direction), schedule in self._schedules.items():
            setting = self._scope(name).setting("administrator", direction)
            setting.configure(schedule.rate_at(moment), by)

    def _scope(self, peer: str) -> Scope:
        return self.peer(peer) if peer else self.service

    # -- scopes

    def peer(self, name: str) -> Scope:
        """
        The limits on all connections of a peer.
        """
        if name not in self._peers:
            self._metrics.add_peer(name)
            self._peers[name] = Scope(
                self._clock, f"peer {name}", self._changed, SHARED_TOLERANCE
            )
        return self._peers[name]

    @property
    def peers(self) -> Mapping[str, Scope]:
        """
        The limits of all peers, by their names.
        """
        return self._peers

    @property
    def sessions(self) -> list[Session]:
        """
        Those that have a connection, in the order in which they began.
        """
        connected = [each for each in self._sessions.values() if each.connection]
        return sorted(connected, key=lambda each: each.number)

    def session(self, number: int) -> Session | None:
        """
        A session that is connected, by its number.
        """
        return next((each for each in self.sessions if each.number == number), None)

    # -- connections

    def joined(
        self,
        connection: ThrottledConnection,
        peer: str,
        key: tuple[bytes, bytes],
        tell: Tell,
    ) -> Session:
        """
        A peer has said which session a connection belongs to: obey its limits, and
        those of the peer.

        :param key: names the session; one that was lost a while ago goes on.
        :param tell: called now and after changes.
        """
        # While nobody was connected, nobody looked.
        self._follow_schedules("the schedule")
        self._drop_old_sessions()
        session = self._sessions.get(key)
        if session is None:
            self._numbers += 1
            name = f"connection {self._numbers} of {peer}"
            scope = Scope(self._clock, name, self._changed)
            session = Session(self._numbers, peer, key, scope)
            self._sessions[key] = session
        else:
            self._measure(session)
            self._sessions.move_to_end(key)
        session.connection, session.tell = connection, tell
        session.told = (None, None)
        session.counted_bytes = (connection.sent, connection.received)
        session.counted_waits = (connection.waited, connection.held)
        session.counted_at = self._clock.seconds()
        session.passed = (0, 0)
        connection.join(self.peer(peer).shared)
        connection.join(session.scope.shared)
        self._changed()
        self._look_who_is_there()
        return session

    def left(self, session: Session, connection: ThrottledConnection) -> None:
        """
        A connection is gone; its session may have another one already.
        """
        if session.connection is not connection:
            return
        self._measure(session)
        session.connection = session.tell = None
        session.scope.shared.receive.claim("share", None)
        session.share = None
        session.rates = {"send": 0.0, "receive": 0.0}
        session.expires = self._clock.seconds() + KEPT_SECONDS
        self._drop_old_sessions()
        self._changed()
        self._look_who_is_there()

    def _look_who_is_there(self) -> None:
        busy = any(each.connection for each in self._sessions.values())
        if busy != self.is_busy:
            self.is_busy = busy
            self._tick_in_time()
            self.busy_changed()

    def _drop_old_sessions(self) -> None:
        now = self._clock.seconds()
        lost = [each for each in self._sessions.values() if not each.connection]
        spare = len(lost) - KEPT_SESSIONS
        for at, session in enumerate(lost):
            if at < spare or session.expires <= now or not session.scope.is_set:
                session.scope.stop()
                del self._sessions[session.key]

    # -- changes

    def may_change(self, peer: str) -> bool:
        """
        Whether a peer may change another limit now; counts as one.
        """
        asked = self._asked.setdefault(peer, deque(maxlen=CHANGES_PER_SECOND))
        now = self._clock.seconds()
        if len(asked) == CHANGES_PER_SECOND and now - asked[0] < 1:
            return False
        asked.append(now)
        return True

    def counted_change(self, *, made: bool) -> None:
        """
        Somebody asked for a change.
        """
        self._metrics.changes.labels("made" if made else "refused").inc()

    def _changed(self) -> None:
        for direction in DIRECTIONS:
            gauge = self._metrics.service.labels(direction)
            gauge.set(_or_infinite(self.service.limit(direction).rate))
            for name, scope in self._peers.items():
                gauge = self._metrics.peer.labels(direction, name)
                gauge.set(_or_infinite(scope.limit(direction).rate))
            own = sum(
                any(
                    session.scope.limit(direction).claimed(party) is not None
                    for party in ("administrator", "peer")
                )
                for session in self.sessions
            )
            self._metrics.connections.labels(direction).set(own)
        self._divide()

    # -- what connections do

    def _measure(self, session: Session) -> None:
        connection = session.connection
        if connection is None:
            return
        waited = (connection.waited, connection.held)
        for direction, now, before in zip(
            DIRECTIONS, waited, session.counted_waits, strict=True
        ):
            self._metrics.waited.labels(direction, session.peer).inc(now - before)
        session.counted_waits = waited
        passed = (connection.sent, connection.received)
        sent, received = session.passed
        self.passed(session.peer, passed[0] - sent, passed[1] - received)
        session.passed = passed
        seconds = self._clock.seconds() - session.counted_at
        if seconds < PERIOD / 2:
            return
        for direction, now, before in zip(
            DIRECTIONS, passed, session.counted_bytes, strict=True
        ):
            session.rates[direction] = (now - before) / seconds
        session.counted_bytes = passed
        session.counted_at += seconds

    # -- shares of what may be received

    def _divide(self) -> None:
        sessions = self.sessions
        caps = {each.number: each.scope.administered("receive") for each in sessions}
        for name, scope in self._peers.items():
            ours = [each for each in sessions if each.peer == name]
            self._share_out(scope.shared.receive, ours, caps)
        self._share_out(self.service.shared.receive, sessions, caps)
        for session in sessions:
            self._give(session, caps[session.number])

    def _share_out(
        self,
        limit: Limit,
        sessions: Sequence[Session],
        caps: dict[int, int | None],
    ) -> None:
        """
        Lower *caps* to what each session gets of a limit.
        """
        if limit.rate is None:
            return
        total = round(limit.rate * max(0.0, 1 - limit.wait() / REPAID_IN))
        wants = [
            Want(each.rates["receive"], each.share, caps[each.number])
            for each in sessions
        ]
        for session, share in zip(sessions, divide(total, wants), strict=True):
            caps[session.number] = share

    def _give(self, session: Session, share: int | None) -> None:
        if worth_telling(session.share, share):
            session.share = share
            session.scope.shared.receive.claim("share", share)
        sends = [
            rate
            for rate in (
                session.scope.administered("send"),
                self.peer(session.peer).shared.send.rate,
                self.service.shared.send.rate,
            )
            if rate is not None
        ]
        told = (session.share, min(sends, default=None))
        if session.tell is not None and told != session.told:
            session.told = told
            session.tell(*told)


def _or_infinite(rate: int | None) -> float:
    return float("inf") if rate is None else rate
