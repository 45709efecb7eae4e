"""
One move as its user sees it: begun, perhaps interrupted, taken up again, stopped.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from realize.move.assembly import Assembly
from realize.move.line import Line
from realize.move.outcome import MoveObserver, MoveSettings, Totals
from realize.move.pace import Pace
from realize.move.places import Places
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.rehearsal import Rehearsal
from realize.move.run import Run, Take
from realize.move.tally import Item, Tally
from realize.move.window import Window
from realize.store.interface import Destination, Source


class Mover:
    """
    One move, which may take several connections.

    :param settings: what the user asked for.
    :param clock: measures; a reactor, or a test's ``Clock``.
    :param observer: is told what happens.
    :param receipts: writes down what is safe before its source goes.
    """

    def __init__(
        self,
        settings: MoveSettings,
        clock: IReactorTime,
        observer: MoveObserver,
        receipts: Receipts = NO_RECEIPTS,
        take: Take = lambda _nbytes: 0.0,
    ) -> None:
        self._take = take
        self._receipts = receipts
        self._settings = settings
        self._clock = clock
        self._tally = Tally(observer)
        self._window = Window()
        self._pending: dict[bytes, Item] = {}
        self._places = Places()
        self._line: Line | None = None
        self._stopping = False
        self._aborted = False
        self._walked = False

    @property
    def totals(self) -> Totals:
        """
        The sums so far.
        """
        return self._tally.totals

    @property
    def stopped(self) -> bool:
        """
        Whether :meth:`stop` or :meth:`abort` was called.
        """
        return self._stopping

    def limit(self, rate: int | None) -> None:
        """
        Tell what the line is limited to, so that no more than about a second's worth
        is on its way.  May be called at any time.

        :param rate: bytes per second, the smaller of the limits on the way; None
            for no limit.
        """
        self._window.limit = rate

    async def run(self, source: Source, destination: Destination) -> None:
        """
        Move until nothing is left, or until stopped.

        What becomes of single files goes to the observer and the totals.  After
        :class:`~realize.errors.PeerGone` it may be called again, with stores opened
        anew: what is safe already is removed first, then the source is walked again,
        leaving out what failed or was deferred before.

        The stores are not closed.

        :raises SamePlace: source and destination overlap; nothing was moved.
        :raises SameFile: a file at the destination turned out to be the source's own.
        :raises DirectoryGone: a root has vanished, or is another than before the
            connection was lost.
        :raises PeerGone: a connection was lost.
        :raises PeerError: the source cannot be listed.
        """
        if self._aborted or (self._stopping and not self._pending):
            return
        line = self._line = Line(stopping=self._stopping)
        try:
            await line.run(self._begin(line, source, destination))
        finally:
            self._line = None

    async def _begin(
        self, line: Line, source: Source, destination: Destination
    ) -> None:
        """
        Make sure that there are two places, and let the line begin.
        """
        settings = self._settings
        whole = settings.names is None or settings.recurse
        place, there = await self._places.compare(source, destination, whole)
        doubts = place.doubts
        self._receipts.begin(single_file=not place.root)
        if self._walked:
            self._tally.restart(list(self._pending.values()))
        self._walked = True
        self._window.clear()
        pace = Pace(line, self._clock, self._settings.open_files)
        run = Run(
            line,
            source,
            destination,
            self._tally,
            self._clock,
            pace,
            self._places,
            self._take,
        )
        if self._pending:
            await run.try_out()
        if self._settings.dry_run:
            self._tally.doubted(source.name, doubts)
            self._tally.doubted(destination.name, there.doubts)
            Rehearsal(run, self._settings)
        else:
            Assembly(run, self._settings, self._window, self._pending, self._receipts)

    def stop(self) -> None:
        """
        Begin no further file.  :meth:`run` returns when those in progress are done.
        """
        self._stopping = True
        if self._line is not None:
            self._line.stopping = True
            self._line.wake()

    def abort(self) -> None:
        """
        Let :meth:`run` return at once.  Partials and sources stay as they are.
        """
        self._stopping = self._aborted = True
        if self._line is not None:
            self._line.abandon()
