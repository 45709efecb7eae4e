"""
Log lines that strangers and peers cause by connecting, leaving and breaking rules: so
many a second, and so many an hour, for each and in all.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from typing import Any, Final

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from txaio.tx import make_logger

from realize.observe.events import BUG, ERRORS_SUPPRESSED, PEER_REFUSED, Event

#: Most lines a second because of one peer.
LINES_PER_SECOND: Final = 10

#: Peers whose lines are counted; the one that was silent longest is forgotten.
MAX_PEERS: Final = 1024

#: Lines because of one peer, or of all strangers, beyond which there are no more than
#: so many a second; and the same of all together.
BURST: Final = 100
STEADY: Final = 0.2
TOTAL_BURST: Final = 300
TOTAL_STEADY: Final = 0.6

#: Seconds from one word on what was left out to the next, once the burst is used up.
QUIET: Final = 60.0

#: Stands for all of them: they have as many addresses as they like.
STRANGERS: Final = "strangers"


@define
class _Bucket:
    """
    A token bucket of lines.
    """

    burst: float
    steady: float
    since: float
    left: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.left = self.burst

    def fill(self, now: float) -> bool:
        """
        :returns: whether there is room for a line.
        """
        self.left = min(self.burst, self.left + (now - self.since) * self.steady)
        self.since = now
        return self.left >= 1


@define(eq=False)
class _Count:
    """
    Lines of one peer in one second, and in the long run.
    """

    since: float
    bucket: _Bucket
    lines: int = 0
    more: int = 0


class Complaints:
    """
    Says what is wrong with peers, at most :data:`LINES_PER_SECOND` lines for each, and
    much less in the long run.

    What was left out is counted, and said when the second, or the minute, is over.
    """

    log = make_logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._total = _Bucket(TOTAL_BURST, TOTAL_STEADY, clock.seconds())

    def refused(self, peer: str, why: str) -> None:
        """
        Log that a connection was refused, or closed because of what it sent.

        :param peer: the name of a peer, or the address of a stranger.
        """
        if self._may_log(peer):
            PEER_REFUSED.log(self.log, peer=peer, reason=why)

    def tell(self, cause: str, event: Event, /, **fields: object) -> None:
        """
        Log an event that a peer has caused.

        :param cause: its name.
        """
        if self._may_log(cause):
            event.log(self.log, **fields)

    def failed(self, peer: str, command: str, failure: Any) -> None:
        """
        Log that a request met something that nobody had thought of.
        """
        if self._may_log(peer):
            BUG.log_failure(
                self.log,
                failure,
                what=f"{command} for {peer}",
                error=repr(failure.value),
            )

    def _may_log(self, peer: str) -> bool:
        now = self._clock.seconds()
        if _is_address(peer):
            peer = STRANGERS
        count = self._counts.pop(peer, None)
        if count is None:
            count = _Count(now, _Bucket(BURST, STEADY, now))
        self._counts[peer] = count
        if len(self._counts) > MAX_PEERS:
            self._counts.popitem(last=False)
        if now - count.since >= 1:
            count.since, count.lines = now, 0
        room = count.bucket.fill(now) & self._total.fill(now)
        if room and count.lines < LINES_PER_SECOND:
            count.lines += 1
            count.bucket.left -= 1
            self._total.left -= 1
            return True
        count.more += 1
        if count.more == 1:
            wait = count.since + 1 - now if room else QUIET
            self._clock.callLater(wait, self._say_more, peer, count)
        return False

    def _say_more(self, peer: str, count: _Count) -> None:
        ERRORS_SUPPRESSED.log(self.log, peer=peer, count=count.more)
        count.more = 0
        count.bucket.left -= 1
        self._total.left -= 1


def _is_address(peer: str) -> bool:
    """
    Whether it is a stranger, of whom nobody knows more.
    """
    try:
        ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    return True
