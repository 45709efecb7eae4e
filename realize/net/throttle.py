"""
Limits in bytes per second: a token bucket, and a bound that can change while in use.

Accounting is by reservation.  Whoever wants to send takes the bytes from the bucket
first, which may put it into debt, and sends them once the debt is paid off.  So
nothing is ever sent early, a late timer costs no speed (the bucket goes on filling
meanwhile), and senders that share a bucket are served in the order in which they
asked, which gives equal shares to senders that ask for equal slices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final

from attrs import define, field, validators
from twisted.internet.interfaces import IReactorTime

from realize.units import check_rate

#: How many seconds' worth of bytes idle time can save up.  It has to cover the longest
#: time for which the reactor may be busy with something else, or high rates are not
#: reached; it is also how far one second may exceed the limit.
BURST_SECONDS: Final = 0.1

#: Reading is held back only if more than this many seconds' worth too much has
#: arrived: a sender who was told of the limit keeps to it by itself, and what is read
#: here is for one who does not.
RECEIVE_TOLERANCE: Final = 0.1

#: The senders under a limit take turns, and a turn of all of them lasts this many
#: seconds, as far as the bounds of a slice, in bytes, allow.  Short slices keep low
#: rates smooth and shares equal.
TURN_SECONDS: Final = 0.05
MIN_SLICE: Final = 64
MAX_SLICE: Final = 64 * 1024


@define(on_setattr=[])  # checking each change of the balance takes its time
class TokenBucket:
    """
    Bytes that may pass, refilled at a steady rate; empty at the start.

    A take is never refused: the balance may go negative, and the caller is told how
    long the debt lasts.

    :ivar rate: refill, in bytes per second; greater than zero.
    :ivar burst: most bytes that idle time can save up; greater than zero.
    """

    rate: float = field(validator=validators.gt(0))
    burst: float = field(validator=validators.gt(0))
    _now: float
    _balance: float = field(init=False, default=0.0)

    def take(self, nbytes: int, now: float) -> float:
        """
        Spend *nbytes* and return the wait, in seconds, until out of debt.

        :param now: monotonic seconds, from ``IReactorTime.seconds``; a clock that
            steps backwards counts as standing still.
        """
        self.has(nbytes, now)
        self._balance -= nbytes
        return max(0.0, -self._balance / self.rate)

    def wait(self, now: float) -> float:
        """
        The seconds until out of debt, if nothing else is taken.
        """
        self.has(0, now)
        return max(0.0, -self._balance / self.rate)

    def has(self, nbytes: int, now: float) -> bool:
        """
        Whether *nbytes* are saved up.
        """
        if now > self._now:
            refilled = self._balance + (now - self._now) * self.rate
            self._balance = min(refilled, self.burst)
            self._now = now
        return self._balance >= nbytes

    def spend(self, nbytes: int) -> None:
        """
        Spend what is saved up.
        """
        self._balance -= nbytes

    @property
    def credit(self) -> float:
        """
        What idle time had saved up when the clock was last looked at, in bytes.
        """
        return max(0.0, self._balance)

    def refund(self, nbytes: int) -> None:
        """
        Put back what was taken and not sent.
        """
        self._balance = min(self._balance + nbytes, self.burst)

    def change(self, rate: float, burst: float, now: float) -> None:
        """
        Go on at another rate.

        A debt is not made longer in time by a lower rate: what passed before was
        admitted under the old one.
        """
        self.wait(now)
        if self._balance < 0 and rate < self.rate:
            self._balance *= rate / self.rate
        self.rate, self.burst = rate, burst
        self._balance = min(self._balance, burst)


class Limit:
    """
    The bound of one scope in one direction; may be set, changed and lifted in use.

    Several parties can have a say (this end's administrator, a peer); each states a
    rate or none, and the smallest holds.

    :param tolerance: on what is received, how many seconds' worth too much may have
        arrived before reading is held back.
    """

    def __init__(
        self, clock: IReactorTime, tolerance: float = RECEIVE_TOLERANCE
    ) -> None:
        self._tolerance = tolerance
        self._clock = clock
        self._bucket: TokenBucket | None = None
        self._claims: dict[Hashable, int] = {}
        self._watchers: dict[Callable[[], None], None] = {}

    @property
    def rate(self) -> int | None:
        """
        The bytes per second that hold now; None without a limit.
        """
        return min(self._claims.values(), default=None)

    def claim(self, party: Hashable, rate: int | None) -> None:
        """
        State what one party wants; None withdraws it.

        Those who wait are told at once.

        :param rate: bytes per second.
        :raises ValueError: outside :data:`MIN_RATE` to :data:`MAX_RATE`.
        """
        check_rate(rate)
        if rate is None:
            self._claims.pop(party, None)
        else:
            self._claims[party] = rate
        self._apply()

    @property
    def bucket(self) -> TokenBucket | None:
        """
        What counts; None without a limit.  Watchers hear when it is another one.
        """
        return self._bucket

    def claimed(self, party: Hashable) -> int | None:
        """
        What one party has stated last.
        """
        return self._claims.get(party)

    def _apply(self) -> None:
        rate = self.rate
        now = self._clock.seconds()
        if rate is None:
            if self._bucket is None:
                return
            self._bucket = None
        else:
            burst = max(1.0, rate * BURST_SECONDS)
            if self._bucket is None:
                self._bucket = TokenBucket(rate, burst, now)
            elif self._bucket.rate == rate:
                return
            else:
                self._bucket.change(rate, burst, now)
        for watcher in list(self._watchers):
            watcher()

    def watch(self, changed: Callable[[], None]) -> None:
        """
        Call *changed* after every change of the rate, in the order of registration.
        """
        self._watchers[changed] = None

    def unwatch(self, changed: Callable[[], None]) -> None:
        """
        End what :meth:`watch` began.
        """
        self._watchers.pop(changed, None)

    def take(self, nbytes: int) -> float:
        """
        As :meth:`TokenBucket.take`; 0 without a limit.
        """
        if self._bucket is None:
            return 0.0
        return self._bucket.take(nbytes, self._clock.seconds())

    def wait(self) -> float:
        """
        As :meth:`TokenBucket.wait`; 0 without a limit.
        """
        return self._bucket.wait(self._clock.seconds()) if self._bucket else 0.0

    def hold(self) -> float:
        """
        The seconds for which reading should be held back: none as long as what has
        arrived is within the tolerance.
        """
        wait = self.wait()
        if wait <= self._tolerance:
            return 0.0
        return wait - self._tolerance + RECEIVE_TOLERANCE

    def slice_size(self) -> int | None:
        """
        How many bytes one of those who watch should take at a time; None without limit.

        Savings are added, so that who had to wait for another limit catches up.
        """
        if self._bucket is None:
            return None
        self.wait()
        turn = self._bucket.rate * TURN_SECONDS / max(1, len(self._watchers))
        return max(MIN_SLICE, min(MAX_SLICE, int(turn + self._bucket.credit)))

    def refund(self, nbytes: int) -> None:
        """
        As :meth:`TokenBucket.refund`.
        """
        if self._bucket is not None:
            self._bucket.refund(nbytes)


class Passage:
    """
    The limits that one connection has to pass in one direction.

    :param changed: called when any of them changes.
    """

    def __init__(self, limits: Iterable[Limit], changed: Callable[[], None]) -> None:
        self._limits: list[Limit] = []
        self._buckets: list[TokenBucket] = []
        self._tell = changed
        for limit in limits:
            self.join(limit)

    def join(self, limit: Limit) -> None:
        """
        Add a limit to those that have to be passed.
        """
        self._limits.append(limit)
        limit.watch(self._changed)
        self._changed()

    def _changed(self) -> None:
        buckets = [limit.bucket for limit in self._limits]
        self._buckets = [bucket for bucket in buckets if bucket is not None]
        self._tell()

    def leave(self) -> None:
        """
        Have nothing more to do with any limit.
        """
        for limit in self._limits:
            limit.unwatch(self._changed)
        self._limits.clear()
        self._buckets.clear()

    @property
    def rate(self) -> int | None:
        """
        The smallest of the limits; None if there is none.
        """
        rates = [limit.rate for limit in self._limits]
        return min((rate for rate in rates if rate is not None), default=None)

    @property
    def limited(self) -> bool:
        """
        Whether there is a limit.
        """
        return bool(self._buckets)

    def slice_size(self) -> int | None:
        """
        How many bytes to take at a time; None without a limit.
        """
        sizes = [limit.slice_size() for limit in self._limits]
        return min((size for size in sizes if size is not None), default=None)

    def take_saved(self, nbytes: int, now: float) -> bool:
        """
        Take from every limit, if all have it saved up: quicker than :meth:`take`.

        Nobody is overtaken: while somebody waits, nothing is saved up.
        """
        buckets = self._buckets
        for bucket in buckets:
            if not bucket.has(nbytes, now):
                return False
        for bucket in buckets:
            bucket.spend(nbytes)
        return True

    def take(self, nbytes: int) -> float:
        """
        Take from every limit; the wait is the longest, in seconds.
        """
        return max((limit.take(nbytes) for limit in self._limits), default=0.0)

    def wait(self) -> float:
        """
        The longest wait, in seconds, if nothing more is taken.
        """
        return max((limit.wait() for limit in self._limits), default=0.0)

    def hold(self) -> float:
        """
        The longest time for which a limit wants reading to be held back, in seconds.
        """
        return max((limit.hold() for limit in self._limits), default=0.0)

    def refund(self, nbytes: int) -> None:
        """
        Put back what was taken and not sent.
        """
        for limit in self._limits:
            limit.refund(nbytes)
