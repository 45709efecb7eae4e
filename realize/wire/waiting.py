"""
Requests that are not answered: when to give up, and when to say so.

What costs the same whatever is asked about (to open a store, a page of a listing,
limits, status) has a deadline.  What works through a batch of files has none: on a
slow disk it takes as long as it takes, and a connection that was cut for it would be
cut again at the same place after each reconnect.  There the link finds out whether
the peer is alive, and what is said here is that it does not get on.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from txaio.tx import make_logger

from realize.errors import PeerGone, RealizeError
from realize.observe.events import ANSWER_LATE

#: A request with a deadline fails once nothing has come back, and nothing waited to
#: be sent, for this many seconds.
ANSWER_DEADLINE: Final = 30

#: For the others it is said after this many seconds.
LATE: Final = 60

#: Whether something waits to be sent is looked at every so many seconds.
LOOK: Final = 5


class Waited(Protocol):
    """
    As much of a link as is looked at here.

    :ivar progress: when something other than a sign of life last arrived.
    """

    clock: IReactorTime
    peer: str
    progress: float

    @property
    def sending(self) -> bool:
        """
        Whether something waits to be sent.
        """

    def abort(self, why: RealizeError) -> None:
        """
        Close at once.
        """


def _silent_since(link: Waited, since: float) -> float:
    """
    Since when nothing has moved, by the clock.

    Signs of life do not count, they come from a server whose disk hangs too; other
    answers do, and so does what waits to be sent: under a limit both take their time.
    """
    return link.clock.seconds() if link.sending else max(since, link.progress)


class Deadline:
    """
    Ends a connection on which a request that should be quick is not answered.

    :param what: the name of the request.
    """

    def __init__(self, link: Waited, what: str) -> None:
        self._link = link
        self._what = what
        self._since = link.clock.seconds()
        self._timer: IDelayedCall = link.clock.callLater(LOOK, self._look)

    def cancel(self) -> None:
        """
        It was answered.
        """
        if self._timer.active():
            self._timer.cancel()

    def _look(self) -> None:
        link = self._link
        self._since = _silent_since(link, self._since)
        wait = self._since + ANSWER_DEADLINE - link.clock.seconds()
        if wait > 0:
            self._timer = link.clock.callLater(min(wait, LOOK), self._look)
        else:
            link.abort(
                PeerGone(
                    f"{link.peer}: no answer to {self._what} in {ANSWER_DEADLINE} s"
                )
            )


@define(eq=False)
class LateAnswers:
    """
    Says so, once, when none of the requests without a deadline is answered.
    """

    _link: Waited
    _waiting: Counter[str] = field(factory=Counter)
    _since: float = 0.0
    _timer: IDelayedCall | None = None
    _told: float | None = None

    log = make_logger()

    def begin(self, what: str) -> None:
        """
        A request was sent.
        """
        self._waiting[what] += 1
        if self._timer is None:
            self._since = self._link.clock.seconds()
            self._timer = self._link.clock.callLater(LOOK, self._look)

    def end(self, what: str) -> None:
        """
        It was answered, or never will be.
        """
        self._waiting[what] -= 1
        if not self._waiting[what]:
            del self._waiting[what]
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def silent(self) -> float:
        """
        For how many seconds nothing has come back; 0 if nothing is waited for.
        """
        if not self._waiting:
            return 0.0
        return self._link.clock.seconds() - _silent_since(self._link, self._since)

    def _look(self) -> None:
        link = self._link
        now = link.clock.seconds()
        self._since = _silent_since(link, self._since)
        if now - self._since >= LATE and self._told != self._since:
            self._told = self._since
            ANSWER_LATE.log(
                self.log,
                peer=link.peer,
                commands=", ".join(sorted(self._waiting)),
                seconds=now - self._since,
            )
        self._timer = link.clock.callLater(LOOK, self._look)
