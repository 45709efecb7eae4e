"""
What the process has once, and how much of it each peer holds.

Descriptors, memory of offers and room on a disk are shared by all who use the process.
Of each there is one :class:`Resource`, and an :class:`Account` for each who holds some
of it.  What holds for all of them:

- Whoever asks may hold :data:`PART` times as much as is left then.  Who is alone gets
  most of it; who comes later finds something, whatever others hold; and while what they
  hold comes back, all who go on asking end up with equal shares.  Nobody has to say how
  much it will want.  (These are the dynamic thresholds of Choudhury and Hahne, by which
  a switch divides its buffers.)
- A peer's share is divided among its sessions in the same way.
- A session may hold :attr:`Resource.least`, as long as anything is left at all: it gets
  on, however slowly.
- A reserve is nobody's: accepting, answering for the status, and stopping need it.

Whoever gets nothing is told :class:`~realize.errors.OverShare`, and asks again.  What
is held for somebody who does nothing with it is asked back while others get nothing.

Everything here may be called from any thread.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakSet

from attrs import define, field, frozen

from realize.errors import OverShare

#: Whoever asks may hold so many times as much as it leaves.
PART: Final = 3

#: Descriptors that are nobody's: what the process has open for itself, and what its
#: threads open for a moment.  Of many, this part more.
RESERVED_DESCRIPTORS: Final = 26
_RESERVED_PART: Final = 16

#: What is counted where there is no limit.
_MOST_DESCRIPTORS: Final = 2**20

#: Bytes of memory that files may take which were offered and are not finished.
OFFERED_BYTES: Final = 48 * 1024 * 1024

#: Seconds from one time that others are asked to give back to the next.
ASK_BACK: Final = 1.0


def raise_descriptor_limit() -> int:
    """
    Take all the descriptors that the system grants this process.

    :returns: how many it may have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _MOST_DESCRIPTORS if hard < 0 else min(hard, _MOST_DESCRIPTORS)


def reserved_descriptors(limit: int) -> int:
    """
    How many of *limit* descriptors are nobody's.
    """
    return min(limit - 1, RESERVED_DESCRIPTORS + limit // _RESERVED_PART)


@define(eq=False)
class _Share:
    """
    What a session holds, or all sessions of a peer.
    """

    held: int = 0
    sessions: dict[str, _Share] = field(factory=dict)


@define(eq=False)
class Resource:
    """
    One thing of which the process has so much.

    :ivar name: for metrics and messages.
    :ivar total: what all may hold together; may be changed at any time.
    :ivar least: what a session may hold whatever others do.
    :ivar what: of what there is too little, for people.
    :ivar seconds: a clock that never steps.
    """

    name: str
    what: str
    total: int
    least: int = 1
    seconds: Callable[[], float] = time.monotonic
    _held: int = 0
    _peers: dict[str, _Share] = field(factory=dict)
    _refused: dict[str, int] = field(factory=dict)
    _asked_back: float = float("-inf")
    _accounts: WeakSet[Account] = field(factory=WeakSet)
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def held(self) -> int:
        """
        What all hold together.
        """
        return self._held

    @property
    def refused(self) -> dict[str, int]:
        """
        How often each peer got nothing.
        """
        with self._lock:
            return dict(self._refused)

    def held_by(self) -> dict[str, int]:
        """
        What each peer holds.
        """
        with self._lock:
            return {peer: share.held for peer, share in self._peers.items()}

    def account(
        self,
        peer: str,
        session: str,
        ask_back: Callable[[], object] | None = None,
    ) -> Account:
        """
        Somewhere to hold some of it, for a session of a peer.

        :param ask_back: called when others get nothing: gives back what was not used
            for long.  In any thread, with no lock held, so that it has to lock itself.
        """
        account = Account(self, peer, session, ask_back)
        with self._lock:
            self._accounts.add(account)
        return account

    def _take(self, account: Account, wanted: int) -> int:
        """
        As much of *wanted* as *account* may have now.
        """
        with self._lock:
            peer = self._peers.setdefault(account.peer, _Share())
            session = peer.sessions.setdefault(account.session, _Share())
            of_peer = (self.total - self._held + peer.held) * PART // (PART + 1)
            share = (of_peer - peer.held + session.held) * PART // (PART + 1)
            room = max(share, self.least) - session.held
            got = max(0, min(wanted, room, self.total - self._held))
            self._change(account, peer, session, got)
            return got

    def _change(
        self, account: Account, peer: _Share, session: _Share, count: int
    ) -> None:
        self._held += count
        peer.held += count
        session.held += count
        account._held += count  # with the lock held, which is here
        if not session.held:
            del peer.sessions[account.session]
        if not peer.sessions:
            del self._peers[account.peer]

    def _give(self, account: Account, count: int) -> None:
        with self._lock:
            peer = self._peers.setdefault(account.peer, _Share())
            session = peer.sessions.setdefault(account.session, _Share())
            self._change(account, peer, session, -min(count, account.held))

    def _refuse(self, account: Account) -> None:
        """
        *account* got nothing: count that, and have others give back what lies idle.
        """
        with self._lock:
            self._refused[account.peer] = self._refused.get(account.peer, 0) + 1
            now = self.seconds()
            if now - self._asked_back < ASK_BACK:
                return
            self._asked_back = now
            others = list(self._accounts)
        for other in others:
            if other.ask_back is not None:
                other.ask_back()


@define(eq=False)
class Account:
    """
    What one store, or connection, holds of a resource.

    :ivar peer: whose it is.
    :ivar session: of that peer.
    :ivar ask_back: as of :meth:`Resource.account`.
    """

    _resource: Resource
    peer: str
    session: str
    ask_back: Callable[[], object] | None = None
    _held: int = 0

    @property
    def held(self) -> int:
        """
        How much of it.
        """
        return self._held

    def try_take(self, count: int = 1) -> bool:
        """
        Hold *count* more, or nothing.

        :returns: whether it does.
        """
        got = self._resource._take(self, count)
        if got == count:
            return True
        if got:
            self.give(got)
        return False

    def take(self, what: str, count: int = 1) -> None:
        """
        Hold *count* more.

        :param what: for whom, as messages begin; a path, for one.
        :raises OverShare: that would be more than a fair share, for now.
        """
        if not self.try_take(count):
            self._resource._refuse(self)
            raise OverShare(
                f"{what}: waits for {self._resource.what}, which others hold"
            )

    def give(self, count: int = 1) -> None:
        """
        Hold *count* less; never less than nothing.
        """
        self._resource._give(self, count)

    def close(self) -> None:
        """
        Hold nothing any more.  Safe to repeat.
        """
        self.give(self._held)


def unlimited(name: str) -> Account:
    """
    An account of something of which there is no end, for whoever is alone.
    """
    return Resource(name, name, 2**62).account("local", "")


def _descriptors() -> Resource:
    limit = raise_descriptor_limit()
    return Resource(
        "descriptors", "descriptors", limit - reserved_descriptors(limit), least=2
    )


def _offers() -> Resource:
    return Resource("offers", "memory", OFFERED_BYTES, least=16 * 1024)


@frozen(eq=False)
class Accounts:
    """
    All that the process has once.

    :ivar descriptors: of files and directories that a peer's requests keep open.
    :ivar offers: bytes of memory for files that were offered and are not finished.
    """

    descriptors: Resource = field(factory=_descriptors)
    offers: Resource = field(factory=_offers)

    def __iter__(self) -> Iterable[Resource]:
        """
        Each resource.
        """
        return iter((self.descriptors, self.offers))
