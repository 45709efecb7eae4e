"""
Log lines that strangers and broken peers cause, so many a second and no more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from attrs import define
from twisted.internet.interfaces import IReactorTime
from txaio.tx import make_logger

from realize.observe.events import BUG, ERRORS_SUPPRESSED, PEER_REFUSED, Event

#: Most lines a second because of one peer.
LINES_PER_SECOND: Final = 10

#: Peers whose lines are counted; the one that was silent longest is forgotten.
MAX_PEERS: Final = 1024


@define(eq=False)
class _Count:
    """
    Lines of one peer in one second.
    """

    since: float
    lines: int = 0
    more: int = 0


class Complaints:
    """
    Says what is wrong with peers, at most :data:`LINES_PER_SECOND` lines for each.

    What was left out is counted, and said when the second is over.
    """

    log = make_logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def refused(self, peer: str, why: str) -> None:
        """
        Log that a connection was refused, or closed because of what it sent.

        :param peer: the name of a peer, or the address of a stranger.
        """
        if self._may_log(peer):
            PEER_REFUSED.log(self.log, peer=peer, reason=why)

    def tell(self, peer: str, event: Event, **fields: object) -> None:
        """
        Log an event that a peer has caused.
        """
        if self._may_log(peer):
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
        count = self._counts.pop(peer, None) or _Count(now)
        self._counts[peer] = count
        if len(self._counts) > MAX_PEERS:
            self._counts.popitem(last=False)
        if now - count.since >= 1:
            count.since, count.lines = now, 0
        if count.lines < LINES_PER_SECOND:
            count.lines += 1
            return True
        count.more += 1
        if count.more == 1:
            self._clock.callLater(count.since + 1 - now, self._say_more, peer, count)
        return False

    def _say_more(self, peer: str, count: _Count) -> None:
        ERRORS_SUPPRESSED.log(self.log, peer=peer, count=count.more)
        count.more = 0
