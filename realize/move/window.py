"""
How many bytes may be on their way at once.

Too few, and a long line stands idle while answers travel; too many, and memory fills
and a request waits behind megabytes.  The right number is what the line holds: its
bandwidth times its round trip, both measured on the way, as in BBR:

- Each *flight* (some bytes, from the moment they are asked for at the source until
  the destination has answered for them) gives one sample of each.  Its bandwidth is
  what was delivered in all during the flight, divided by its duration.
- The largest bandwidth and the shortest round trip of the last seconds count, and
  the window is twice their product: it doubles with each round trip until the line
  is full, and then stands still.
- A flight during which the window was not full says only that the line can do at
  least that much.
- A full window makes a queue, and the queue lengthens the round trips.  So every few
  seconds the window shrinks until one flight has found the line empty.
"""

from __future__ import annotations

from typing import Final

from attrs import define, evolve, field, frozen

#: Bounds of the window, and where it begins, in bytes.
SMALLEST: Final = 1024 * 1024
LARGEST: Final = 64 * 1024 * 1024
FIRST: Final = 4 * 1024 * 1024

#: Bounds of what is asked for at once of one file, in bytes.
SMALLEST_SLICE: Final = 4 * 1024
LARGEST_SLICE: Final = 2 * 1024 * 1024

#: Under a limit, the window is no smaller than this part of a second's worth.
SHARED: Final = 4

#: Seconds between probes; after two of them a measurement is forgotten.
MEMORY: Final = 10.0

#: Seconds that a flight takes at least, as far as measuring goes.
SHORTEST: Final = 1e-5

#: The part of the window that is used during a probe.
PROBE: Final = 8

#: Seconds of work, and at most how many bytes, that lie ready beyond what is on the
#: line, so that reading, sending and writing overlap.
AHEAD: Final = 0.1
LARGEST_AHEAD: Final = 3 * 1024 * 1024


@frozen
class Flight:
    """
    Bytes on their way.

    :ivar size: bytes.
    :ivar began: seconds, by the clock of the window's caller.
    :ivar delivered: bytes delivered in all when it began.
    :ivar probes: whether it finds the line nearly empty.
    """

    size: int
    began: float
    delivered: int
    probes: bool = False


@define
class Extreme:
    """
    The largest of the values seen in the last one or two :data:`MEMORY`.

    Two spans are kept and the older one dropped, so that nothing is sorted.
    """

    _now: float = 0.0
    _before: float = 0.0
    _turned: float = 0.0

    @property
    def value(self) -> float:
        """
        0 before the first sample.
        """
        return max(self._now, self._before)

    def see(self, value: float, now: float) -> None:
        """
        :param now: seconds; never less than before.
        """
        if now - self._turned >= MEMORY:
            self._before, self._now, self._turned = self._now, value, now
        elif value > self._now:
            self._now = value


@define
class Window:
    """
    The bytes in flight, and how many may be.

    :ivar limit: bytes per second that the line is limited to, if it is: the window
        then holds no more than one second's worth, as far as one slice allows.
    """

    limit: int | None = None
    _in_flight: int = 0
    _delivered: int = 0
    _full: bool = False
    _bandwidth: Extreme = field(factory=Extreme)
    #: The largest inverse round trip is that of the shortest.
    _haste: Extreme = field(factory=Extreme)
    _probing: bool = False
    #: When the last probe ended; None before the first bytes, which find it empty.
    _probed: float | None = None

    @property
    def size(self) -> int:
        """
        Most bytes that should be in flight; 4 KiB to 64 MiB.
        """
        bandwidth, haste = self._bandwidth.value, self._haste.value
        if not haste:
            size = FIRST
        else:
            ahead = min(LARGEST_AHEAD, bandwidth * AHEAD)
            size = int(2 * bandwidth / haste + ahead)
        least = SMALLEST
        if self.limit is not None:
            # Others may share the limit: what arrives says how much of it is ours.
            least = max(SMALLEST_SLICE, min(SMALLEST, self.limit // SHARED))
            size = min(size, max(SMALLEST_SLICE, self.limit))
        size = max(least, min(LARGEST, size))
        return max(SMALLEST_SLICE, size // PROBE) if self._probing else size

    @property
    def slice(self) -> int:
        """
        Bytes to ask for at once of a file; a smaller file is asked for whole.
        """
        return max(SMALLEST_SLICE, min(LARGEST_SLICE, self.size // 4))

    @property
    def in_flight(self) -> int:
        """
        Bytes on their way now.
        """
        return self._in_flight

    def has_room(self) -> bool:
        """
        Whether more may be sent.  One flight may always be on its way.
        """
        room = self._in_flight < self.size
        if not room:
            self._full = True
        return room

    def begin(self, size: int, now: float) -> Flight:
        """
        :param size: bytes; 0 for empty files.
        :param now: seconds.
        """
        self._in_flight += size
        return Flight(size, now, self._delivered, self._probing)

    def land(self, flight: Flight, now: float) -> None:
        """
        The destination has answered for the bytes.
        """
        self._in_flight -= flight.size
        self._delivered += flight.size
        self._probe(flight, now)
        if not flight.size:
            return
        elapsed = max(SHORTEST, now - flight.began)
        bandwidth = (self._delivered - flight.delivered) / elapsed
        if self._full or bandwidth > self._bandwidth.value:
            self._bandwidth.see(bandwidth, now)
        self._haste.see(1 / elapsed, now)
        if self._in_flight < self.size // 2:
            self._full = False

    def lighten(self, flight: Flight, size: int) -> Flight:
        """
        Less is on its way than was asked for: the rest are holes.

        :param size: bytes that are.
        :returns: what takes the place of *flight*.
        """
        self._in_flight -= flight.size - size
        return evolve(flight, size=size)

    def drop(self, flight: Flight) -> None:
        """
        The bytes were not delivered and never will be.
        """
        self._in_flight -= flight.size
        if flight.probes:
            self._probing = False

    def clear(self) -> None:
        """
        The connection is gone, with all that was on its way.
        """
        self._in_flight = 0
        self._probing = False

    def _probe(self, flight: Flight, now: float) -> None:
        """
        End a probe that has its answer, or begin one that is due.
        """
        if flight.probes or self._probed is None:
            self._probing = False
            self._probed = now
        elif not self._probing and now - self._probed >= MEMORY:
            self._probing = True
