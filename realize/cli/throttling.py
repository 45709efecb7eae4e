"""
What one move may take of the line: held here, and told to the other ends.

*Up* is what goes towards the destination, *down* what comes from the source.  Each is
one limit that lasts as long as the move, over all its connections; the other end of
each connection is told of it, so that what it sends is slow from the start, and again
after a reconnect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from txaio.tx import make_logger

from realize.cli.endpoints import LocalPlace, Place
from realize.cli.throttle_options import ThrottleChoice
from realize.errors import PeerError, PeerGone, RealizeError
from realize.net.scopes import Setting
from realize.net.throttle import Limit
from realize.net.throttled import Shared
from realize.observe.events import LIMIT_CHANGED
from realize.units import format_rate

if TYPE_CHECKING:
    from realize.wire.remote import Connection

Way = Literal["up", "down"]
WAYS: Final[tuple[Way, ...]] = ("up", "down")

#: Seconds for which a change waits to hear that the other end knows of it.  What is on
#: its way comes first, and after 10 MiB/s that can take 1 MiB/s ten seconds.
TELLING: Final = 2.0


class Throttling:
    """
    The limits of one move.

    :param choice: what the user asked for.
    :param quiet: whether the user wants to hear only of what is wrong.
    """

    log = make_logger()

    def __init__(
        self,
        clock: IReactorTime,
        source: Place,
        destination: Place,
        choice: ThrottleChoice,
        quiet: bool = False,
    ) -> None:
        self._clock = clock
        self._peers: dict[Way, str] = {}
        if not isinstance(destination, LocalPlace):
            self._peers["up"] = destination.party
        if not isinstance(source, LocalPlace):
            self._peers["down"] = source.party
        self._choice = choice
        self._quiet = quiet
        self._say: Callable[[str], None] = lambda text: None
        self._noted = ""
        self._limits: dict[Way, Limit] = {way: Limit(clock) for way in WAYS}
        self._settings = {way: self._setting(way) for way in WAYS}
        self._attached: dict[str, Connection] = {}
        # No canceller is needed: it ends with its connections.
        self._telling: Deferred[str] = succeed("")
        self._follow: Callable[[int | None], None] = lambda rate: None
        rates: dict[Way, int | None] = {"up": choice.up_rate, "down": choice.down_rate}
        self._taken = 0
        for way in self.ways:
            self._settings[way].configure(rates[way], "the command line")

    def _setting(self, way: Way) -> Setting:
        def report(old: int | None, new: int | None, by: str) -> None:
            LIMIT_CHANGED.log(
                self.log,
                scope="this move",
                direction=way,
                old="off" if old is None else old,
                new="off" if new is None else new,
                by=by,
            )
            self._telling = Deferred.fromCoroutine(self._tell_all())

        return Setting(self._limits[way], "administrator", self._clock, report)

    def begin(
        self, say: Callable[[str], None], follow: Callable[[int | None], None]
    ) -> None:
        """
        The move begins: warn of what has no effect.

        :param say: tells the user, now and later.
        :param follow: called with the smallest limit on the way, in bytes per second,
            now and whenever it changes; None for no limit.
        """
        self._say, self._follow = say, follow
        self._noted = ""
        choice = self._choice
        if choice.up and "up" not in self.ways:
            say("--throttle-up has no effect: the destination is on this host")
        if choice.down and "down" not in self._peers:
            say("--throttle-down has no effect: the source is on this host")
        self._changed()

    # -- connections

    def shared(self, peer: str) -> Shared:
        """
        What a connection to a peer has to obey.
        """
        shared = Shared(self._clock)
        if self._peers.get("up") == peer:
            shared.send = self._limits["up"]
        if self._peers.get("down") == peer:
            shared.receive = self._limits["down"]
        return shared

    async def attach(self, connection: Connection) -> None:
        """
        Tell the other end of a new connection, and say what holds.

        :raises PeerGone: the connection was lost.
        :raises PeerError: the other end does not do as it should.
        """
        self._attached[connection.peer] = connection
        if any(limit.rate is not None for limit in self._limits.values()):
            await self._tell(connection.peer)
        connection.throttled.limits_changed = self._changed
        self._tell_user()
        self._changed()

    async def _tell(self, peer: str) -> None:
        # What we send is what they receive.
        directions: dict[Way, str] = {"up": "receive", "down": "send"}
        rates = {
            directions[way]: self._limits[way].rate
            for way, other in self._peers.items()
            if other == peer
        }
        await self._attached[peer].set_throttle(rates=rates)

    def _changed(self) -> None:
        rates = [self.effective(way) for way in self.ways]
        smallest = min((each for each in rates if each is not None), default=None)
        self._follow(smallest)
        # What the other end allows arrives a moment after the connection was made.
        if smallest is not None and not self._noted:
            self._tell_user()

    def _tell_user(self) -> None:
        if len(self._attached) < len(set(self._peers.values())):
            return
        text = ", ".join(self._described())
        limited = any(self.effective(way) is not None for way in self.ways)
        if text != self._noted and (self._noted or limited):
            self._noted = text
            if not self._quiet:
                self._say(f"limits: {text}")

    def _described(self) -> Iterator[str]:
        for way in self.ways:
            peer = self._peers.get(way, "")
            asked, holds = self._limits[way].rate, self.effective(way)
            text = f"{way} {format_rate(holds)}"
            if asked != holds:
                text += f" ({format_rate(asked)} asked for; {peer} allows less)"
            yield text

    # -- what others ask

    @property
    def ways(self) -> list[Way]:
        """
        The directions that exist in this move; between two local ends, up alone.
        """
        return list(self._peers) or ["up"]

    def take(self, nbytes: int) -> float:
        """
        Take what is to be read from the limit, where no line is that it holds for.

        :returns: seconds to wait before that is read.
        """
        if self._peers:
            return 0.0
        self._taken += nbytes
        return self._limits["up"].take(nbytes)

    def asked(self, way: Way) -> int | None:
        """
        The limit that was asked for at this end, in bytes per second.
        """
        return self._limits[way].rate

    def effective(self, way: Way) -> int | None:
        """
        The smallest limit on a direction, of either end, in bytes per second.
        """
        attached = self._attached.get(self._peers.get(way, ""))
        if attached is None:
            return self._limits[way].rate
        throttled = attached.throttled
        return throttled.send_rate if way == "up" else throttled.receive_rate

    def seconds_left(self, way: Way) -> float | None:
        """
        How long a limit holds that was set for a time.
        """
        return self._settings[way].seconds_left

    def counted(self, way: Way) -> int:
        """
        Bytes that went this way over the present connection, or were read of a local
        source.
        """
        if not self._peers:
            return self._taken
        attached = self._attached.get(self._peers.get(way, ""))
        if attached is None:
            return 0
        throttled = attached.throttled
        return throttled.sent if way == "up" else throttled.received

    # -- changes

    async def set(self, way: Way, rate: int | None, seconds: float | None) -> str:
        """
        Set or lift a limit in the middle of the move.

        It holds at this end at once; the other is told, which is waited for no longer
        than :data:`TELLING` seconds.

        :param seconds: for which it holds; None for good.
        :returns: what the user should know about it; empty if nothing.
        :raises ValueError: *rate* is out of range; nothing has changed.
        """
        if way not in self.ways:
            end = "destination" if way == "up" else "source"
            return f"{way} has no effect: the {end} is on this host"
        self._settings[way].say(rate, seconds, "realize throttle")
        telling, self._telling = self._telling, succeed("")
        return await self._heard(telling)

    def _heard(self, telling: Deferred[str]) -> Deferred[str]:
        """
        What came of telling the other end, or that nothing has come of it so far; then
        the user is told later.
        """
        heard: Deferred[str] = Deferred()
        peers = " and ".join(self._attached)
        later = f"{peers} will know as soon as what is on its way has arrived"
        timer = self._clock.callLater(TELLING, heard.callback, later)

        def told(text: str) -> None:
            if timer.active():
                timer.cancel()
                heard.callback(text)
            elif text:
                self._say(text)

        telling.addCallback(told)
        return heard

    async def _tell_all(self) -> str:
        self._changed()
        for peer in list(self._attached):
            try:
                await self._tell(peer)
            except PeerGone:
                return f"{peer} is told once it is connected again"
            except PeerError as error:
                return str(error)
            except RealizeError:
                return f"{peer} could not be told"
        return ""

    def stop(self) -> None:
        """
        The move is over.
        """
        for setting in self._settings.values():
            setting.stop()
