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
- Of what is :attr:`Resource.lent`, who is alone may have all: it is asked back when
  somebody else comes.
- A reserve is nobody's: accepting, answering for the status, and stopping need it.

Whoever gets nothing is told :class:`~realize.errors.OverShare`, and asks again.  What
is held for somebody who does nothing with it is asked back while others get nothing.

Everything here may be called from any thread.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakSet

from attrs import define, field

from realize.errors import OverShare

#: Whoever asks may hold so many times as much as it leaves.
PART: Final = 3

#: Descriptors that are nobody's: what the process has open for itself, and what its
#: threads open for a moment.  Of many, this part more.
RESERVED_DESCRIPTORS: Final = 26
_RESERVED_PART: Final = 16

#: Most connections before the welcome.
MOST_PLACES: Final = 256

#: What is counted where there is no limit.
_MOST_DESCRIPTORS: Final = 2**20

#: Bytes of memory for what peers have begun: names of files that were offered and are
#: not finished, digests of what is being compared.
MEMORY: Final = 32 * 1024 * 1024

#: Seconds from one time that others are asked to give back to the next.
ASK_BACK: Final = 1.0

#: Seconds for which somebody who got nothing counts as asking.
ASKING: Final = 60.0


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
    return min(limit - 4, RESERVED_DESCRIPTORS + 2 * limit // _RESERVED_PART)


@define(eq=False)
class _Share:
    """
    What a session holds, or all sessions of a peer.
    """

    held: int = 0
    sessions: dict[str, _Share] = field(factory=dict)


#: The share of who holds nothing.
_NOTHING: Final = _Share()


@define(eq=False)
class Resource:
    """
    One thing of which the process has so much.

    :ivar name: for metrics.
    :ivar what: of what there is too little, for people.
    :ivar total: what all may hold together; may change at any time.
    :ivar least: what a session may hold whatever others do.
    :ivar part: as :data:`PART`, of a peer.
    :ivar lent: whether one may hold all of it while nobody else asks.
    :ivar seconds: a clock that never steps.
    """

    name: str
    what: str
    total: int
    least: int = 1
    part: int = PART
    lent: bool = False
    seconds: Callable[[], float] = time.monotonic
    _held: int = 0
    _peers: dict[str, _Share] = field(factory=dict)
    _refused: dict[str, int] = field(factory=dict)
    #: When a session of a peer last got nothing.
    _asked: dict[tuple[str, str], float] = field(factory=dict)
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
            for long.  In any thread, which may hold locks: it waits for none.
        """
        account = Account(self, peer, session, ask_back)
        with self._lock:
            self._accounts.add(account)
        return account

    def _room(self, account: Account) -> int:
        """
        What *account* may take now; less than nothing if it holds too much.
        """
        left = self.total - self._held
        if self.lent and not self._others_ask(account):
            return left
        peer = self._peers.get(account.peer, _NOTHING)
        session = peer.sessions.get(account.session, _NOTHING)
        of_peer = (left + peer.held) * self.part // (self.part + 1)
        share = (of_peer - peer.held + session.held) * PART // (PART + 1)
        return min(max(share, self.least) - session.held, left)

    def _others_ask(self, account: Account) -> bool:
        if not self._asked:
            return False
        now = self.seconds()
        late = [who for who, when in self._asked.items() if now - when > ASKING]
        for who in late:
            del self._asked[who]
        return any(who != (account.peer, account.session) for who in self._asked)

    def _take(self, account: Account, count: int) -> bool:
        with self._lock:
            if count > 0 and self._room(account) < count:
                return False
            self._change(account, count)
            return True

    def _give(self, account: Account, count: int) -> None:
        with self._lock:
            self._change(account, -min(count, account._held))

    def _change(self, account: Account, count: int) -> None:
        if not count:
            return
        peer = self._peers.get(account.peer)
        if peer is None:
            peer = self._peers[account.peer] = _Share()
        session = peer.sessions.get(account.session)
        if session is None:
            session = peer.sessions[account.session] = _Share()
        self._held += count
        peer.held += count
        session.held += count
        account._held += count  # with the lock held, which is here
        if not session.held:
            del peer.sessions[account.session]
        if not peer.sessions:
            del self._peers[account.peer]

    def _surplus(self, account: Account) -> int:
        with self._lock:
            return max(0, -self._room(account))

    def _ask(self, account: Account) -> None:
        """
        *account* got nothing: have others give back what lies idle.
        """
        with self._lock:
            now = self.seconds()
            self._asked[account.peer, account.session] = now
            if now - self._asked_back < ASK_BACK:
                return
            self._asked_back = now
            accounts = list(self._accounts)
        for each in accounts:
            if each.ask_back is not None:
                each.ask_back()

    def _refuse(self, account: Account) -> None:
        with self._lock:
            self._refused[account.peer] = self._refused.get(account.peer, 0) + 1


@define(eq=False)
class Account:
    """
    What one store, or connection, holds of a resource.

    :ivar resource: of what.
    :ivar peer: whose it is.
    :ivar session: of that peer.
    :ivar ask_back: as of :meth:`Resource.account`.
    """

    resource: Resource
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

    @property
    def surplus(self) -> int:
        """
        How much of it is more than a fair share, now that others ask.
        """
        return self.resource._surplus(self)

    def try_take(self, count: int = 1) -> bool:
        """
        Hold *count* more, or nothing.

        :returns: whether it does.
        """
        return self.resource._take(self, count)

    def take(self, what: str | Callable[[], str], count: int = 1) -> None:
        """
        Hold *count* more.

        :param what: for whom, as messages begin; a path, for one.  A function makes it
            only when it is needed.
        :raises OverShare: that would be more than a fair share, for now.
        """
        if self.try_take(count):
            return
        self.resource._ask(self)
        if self.try_take(count):
            return
        self.resource._refuse(self)
        missing = self.resource.what
        what = what if isinstance(what, str) else what()
        raise OverShare(f"{what}: has to wait for {missing}, which others hold")

    def give(self, count: int = 1) -> None:
        """
        Hold *count* less; never less than nothing.
        """
        self.resource._give(self, count)

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
        "descriptors", "descriptors", limit - reserved_descriptors(limit), least=3
    )


def _places() -> int:
    return max(4, min(MOST_PLACES, raise_descriptor_limit() // _RESERVED_PART))


def _memory() -> Resource:
    return Resource("memory", "memory", MEMORY, least=16 * 1024)


@define(eq=False)
class Accounts:
    """
    All that the process has once.

    :ivar descriptors: of files and directories that a peer's requests keep open.
    :ivar memory: bytes for what peers have begun, as :data:`MEMORY`.
    :ivar places: most connections that have not proved yet whose they are; their
        descriptors are part of the reserve.
    """

    descriptors: Resource = field(factory=_descriptors)
    memory: Resource = field(factory=_memory)
    places: int = field(factory=_places)
    _spaces: dict[int, Resource] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def space(self, device: int) -> Resource:
        """
        Bytes of a file system that are set aside for files; its total is what is free.

        :param device: number of the file system.
        """
        with self._lock:
            if device not in self._spaces:
                self._spaces[device] = new_space()
            return self._spaces[device]

    def __iter__(self) -> Iterator[Resource]:
        """
        Each resource.  There is one of space for each file system.
        """
        yield self.descriptors
        yield self.memory
        with self._lock:
            spaces = list(self._spaces.values())
        yield from spaces


def new_space() -> Resource:
    """
    Room on a file system of which nothing is known yet.
    """
    return Resource("space", "room on the disk", 0, least=0, part=1, lent=True)
