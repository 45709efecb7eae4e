"""
``--output progress``: bars on a terminal, and elsewhere a plain line now and then.

rich is imported for a terminal only.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from realize.cli.outputs import ComplainingOutput
from realize.cli.pace import Pace
from realize.cli.report import Ends, Result, summary
from realize.cli.terminal import UNABLE_TERMINALS, Stream
from realize.model import File
from realize.move.outcome import Outcome
from realize.paths import printable
from realize.units import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

#: Seconds between two drawings on a terminal, and between two lines elsewhere.
REDRAW: Final = 0.2
LINE_INTERVAL: Final = 30.0

#: Most large files that have a bar of their own.
MAX_BARS: Final = 4

#: Narrowest and shortest terminal that bars are drawn on.
MIN_COLUMNS: Final = 40
MIN_LINES: Final = 6


def can_draw(stream: Stream, environ: Mapping[str, str]) -> bool:
    """
    Whether the stream is a terminal that can move its cursor and has room.
    """
    if not stream.is_terminal or environ.get("TERM", "") in UNABLE_TERMINALS:
        return False
    size = shutil.get_terminal_size()
    return size.columns >= MIN_COLUMNS and size.lines >= MIN_LINES


@define
class LineProgress(ComplainingOutput):
    """
    A plain line every half minute, and a summary.
    """

    clock: IReactorTime = field(kw_only=True)
    pace: Pace = field(factory=Pace, kw_only=True)
    interval: float = field(default=LINE_INTERVAL, kw_only=True)
    _ticks: LoopingCall | None = field(default=None, init=False)

    def started(self, ends: Ends) -> None:
        """
        Begin to draw.
        """
        super().started(ends)
        self._ticks = LoopingCall(self.tick)
        self._ticks.clock = self.clock
        self.pace.sample(self.clock.seconds())
        self._ticks.start(self.interval, now=False)

    def tick(self) -> None:
        """
        Say how far the move is.
        """
        self.pace.sample(self.clock.seconds())
        self.err.line(f"realize: {overall_text(self.pace)}")

    def listed(self, files: Sequence[File]) -> None:
        """
        Count.
        """
        self.pace.add_listed(files)

    def restarted(self) -> None:
        """
        Count anew.
        """
        self.pace.restart()

    def began(self, path: bytes, size: int, kept: int) -> None:
        """
        Count.
        """
        self.pace.begin(path, size, kept)

    def advanced(self, nbytes: int, path: bytes) -> None:
        """
        Count.
        """
        self.pace.advance(nbytes, path)

    def reused(self, nbytes: int, path: bytes) -> None:
        """
        Count.
        """
        self.pace.reuse(nbytes, path)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """
        Count, and say what went wrong.
        """
        self.pace.end(outcomes)
        super().ended(outcomes)

    def finished(self, result: Result) -> None:
        """
        The summary, on standard output.
        """
        self.stop()
        self.complain_of_rest()
        for line in summary(result):
            self.out.line(line)

    def retrying(self, text: str) -> None:
        """
        A line.
        """
        self.say(text)

    def stop(self) -> None:
        """
        Draw no more.
        """
        if self._ticks is not None and self._ticks.running:
            self._ticks.stop()


@define
class BarProgress(LineProgress):
    """
    Bars for the whole and for large files, drawn in place.

    Drawn from the reactor, without a thread.
    """

    interval: float = field(default=REDRAW, kw_only=True)
    _console: Any = field(default=None, init=False)
    _live: Any = field(default=None, init=False)

    def started(self, ends: Ends) -> None:
        """
        Take the terminal's lowest lines.
        """
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=self.err.file, highlight=False, markup=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._render,
        )
        self._live.start()
        super().started(ends)

    def tick(self) -> None:
        """
        Draw.
        """
        self.pace.sample(self.clock.seconds())
        live: Live = self._live
        self._guarded(live.refresh)

    def above(self, line: str) -> None:
        """
        A line above the bars.
        """
        if self._live is None:
            super().above(line)
            return
        from rich.text import Text

        self._guarded(lambda: self._console.print(Text.from_ansi(line), soft_wrap=True))

    def stop(self) -> None:
        """
        Give the terminal's lines back.
        """
        super().stop()
        if self._live is not None:
            live: Live = self._live
            self._live = None
            self._guarded(live.stop)

    def _guarded(self, draw: Any) -> None:
        """
        Draw; a terminal that is gone is no reason for the move to end.
        """
        if self.err.broken:
            return
        try:
            draw()
        except OSError:
            self.err.broken = True

    def _render(self) -> RenderableType:
        from rich.constrain import Constrain
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        pace = self.pace
        table = Table.grid(padding=(0, 1), expand=True)
        # Room for the terminal's "^C", which would begin another line otherwise.
        width = self._console.width - 4
        # What is looked for is on the right: the others share what it leaves.
        words = _amounts(pace)
        most = min(len(words), width * 2 // 3)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=4)
        table.add_column(ratio=3)
        table.add_column(no_wrap=True, overflow="ellipsis", width=most)
        table.add_row(
            Text(f"{pace.ended:,} of {max(pace.listed, pace.ended):,} files"),
            ProgressBar(total=max(1, pace.work), completed=pace.work_done),
            Text(words),
        )
        files = list(pace.large.values())
        for file in files[:MAX_BARS]:
            table.add_row(
                Text(f"  {printable(file.path.rpartition(b'/')[2])}"),
                ProgressBar(total=max(1, file.size), completed=file.done),
                Text(f"{format_size(file.done)} of {format_size(file.size)}"),
            )
        if len(files) > MAX_BARS:
            table.add_row(Text(f"  and {len(files) - MAX_BARS} more"), "", "")
        return Constrain(table, width)


def overall_text(pace: Pace) -> str:
    """
    How far a move is, in one line.
    """
    files = f"{pace.ended:,} of {max(pace.listed, pace.ended):,} files"
    return f"{files}, {_amounts(pace)}"


def _amounts(pace: Pace) -> str:
    total = max(pace.listed_bytes, pace.done_bytes)
    parts = [
        f"{format_size(pace.done_bytes)} of {format_size(total)}",
        format_rate(round(pace.rate)),
    ]
    if (left := pace.seconds_left) is not None:
        parts.append(f"{format_duration(round(left))} left")
    return ", ".join(parts)
