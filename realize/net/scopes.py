"""
What is said about a limit, by whom, and for how long.

Several parties have a say on each limit, and the smallest holds:

- the *administrator*: what the configuration says, or its schedule, until somebody
  with the right to says something else;
- the *peer*, about its own connections;
- the *share* that a connection has of a wider limit on what is received.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from attrs import define, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from txaio.tx import make_logger

from realize.net.throttle import RECEIVE_TOLERANCE, Limit
from realize.net.throttled import Shared
from realize.observe.events import LIMIT_CHANGED
from realize.units import check_rate

Direction = Literal["send", "receive"]
Party = Literal["administrator", "peer"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("send", "receive")


@frozen
class _Word:
    """
    What somebody said about a limit.
    """

    rate: int | None
    by: str


@define(eq=False)
class Setting:
    """
    What one party says about one limit.

    What was said for a time wins over what was said for good, and that over the
    configuration.
    """

    _limit: Limit
    _party: Party
    _clock: IReactorTime
    _report: Callable[[int | None, int | None, str], None]
    _configured: _Word = _Word(None, "")
    _lasting: _Word | None = None
    _passing: _Word | None = None
    _end: IDelayedCall | None = None

    @property
    def word(self) -> _Word:
        """
        What holds now.
        """
        return self._passing or self._lasting or self._configured

    @property
    def seconds_left(self) -> float | None:
        """
        How long it holds; None for as long as nobody says otherwise.
        """
        if self._end is None:
            return None
        return max(0.0, self._end.getTime() - self._clock.seconds())

    def say(self, rate: int | None, seconds: float | None, by: str) -> None:
        """
        Set a limit, or lift it with None.

        :param seconds: for which it holds, then what held before does; None for good.
        :raises ValueError: *rate* is out of range; what held before still does.
        """
        check_rate(rate)
        before = self.word.rate
        self._stop()
        if seconds is None:
            self._lasting = _Word(rate, by)
        else:
            self._passing = _Word(rate, by)
            self._end = self._clock.callLater(seconds, self._over)
        self._apply(before, by)

    def configure(self, rate: int | None, by: str) -> None:
        """
        What holds as long as nobody says anything else.
        """
        before = self.word.rate
        self._configured = _Word(rate, by)
        self._apply(before, by)

    def forget(self) -> None:
        """
        Back to what was configured.
        """
        before = self.word.rate
        self._stop()
        self._lasting = None
        self._apply(before, self._configured.by)

    def stop(self) -> None:
        """
        Nothing more will be asked of it: no timer is left.
        """
        self._stop()

    def _over(self) -> None:
        before, by = self.word.rate, self.word.by
        self._end = self._passing = None
        self._apply(before, f"the end of what {by} set for a time")

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = self._passing = None

    def _apply(self, before: int | None, by: str) -> None:
        now = self.word.rate
        if now != before:
            self._limit.claim(self._party, now)
            self._report(before, now, by)


class Scope:
    """
    The two limits of one scope, and what the parties say about them.

    :param name: for people: ``service``, ``peer laptop``, ``connection 7 of laptop``.
    :param changed: called after each change that somebody made.
    :param tolerance: as of :class:`~realize.net.throttle.Limit`.
    :ivar shared: the limits themselves, which connections join.
    """

    log = make_logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        changed: Callable[[], None],
        tolerance: float = RECEIVE_TOLERANCE,
    ) -> None:
        self.name = name
        self.shared = Shared(clock, tolerance)
        self._clock = clock
        self._changed = changed
        self._settings: dict[tuple[Party, Direction], Setting] = {}

    def limit(self, direction: Direction) -> Limit:
        """
        The limit of one direction.
        """
        return self.shared.send if direction == "send" else self.shared.receive

    def setting(self, party: Party, direction: Direction) -> Setting:
        """
        What a party says about a direction.
        """
        key = (party, direction)
        if key not in self._settings:

            def report(old: int | None, new: int | None, by: str) -> None:
                LIMIT_CHANGED.log(
                    self.log,
                    scope=self.name,
                    direction=direction,
                    old=_said(old),
                    new=_said(new),
                    by=by,
                )
                self._changed()

            self._settings[key] = Setting(
                self.limit(direction), party, self._clock, report
            )
        return self._settings[key]

    def administered(self, direction: Direction) -> int | None:
        """
        What the administrator of this end says.
        """
        return self.limit(direction).claimed("administrator")

    @property
    def is_set(self) -> bool:
        """
        Whether anybody has said anything that holds.
        """
        return any(setting.word.rate is not None for setting in self._settings.values())

    def seconds_left(self, direction: Direction) -> float | None:
        """
        How long the limit holds that was set for a time; None if none was.
        """
        left = [
            setting.seconds_left
            for (_party, way), setting in self._settings.items()
            if way == direction
        ]
        return min((each for each in left if each is not None), default=None)

    def stop(self) -> None:
        """
        It is not needed any more.
        """
        for setting in self._settings.values():
            setting.stop()


def _said(rate: int | None) -> int | str:
    return "off" if rate is None else rate
