"""
The log of the command: what its options ask for, and how it shares a terminal.

What people are told anyway is not logged a second time, unless somebody asked for a
log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import click
from attrs import define

from realize.cli.terminal import Stream
from realize.errors import ConfigError

#: Where the options are kept in :attr:`click.Context.meta`.
_KEY: Final = "realize.cli.log"

#: Forms that ``--log-format`` takes.
_FORMATS: Final = ("text", "json", "journal")


@define
class LogStream:
    """
    Standard error as the log sees it.

    :ivar above: writes a line above what is drawn there, if something is.
    """

    err: Stream
    above: Callable[[str], None] | None = None

    def write(self, text: str) -> int:
        """
        Write lines.
        """
        write = self.above or self.err.styled
        for line in text.splitlines():
            write(line)
        return len(text)

    def flush(self) -> None:
        """
        Lines are written at once.
        """

    def isatty(self) -> bool:
        """
        Whether a person is looking at it, or at least could.
        """
        return self.err.is_terminal


@define
class LogChoice:
    """
    What the user asked for.

    :ivar usual: the level if nobody asks for another.
    :ivar told: events that people are told of in another way.
    :ivar stream: where lines go if not to a file or the journal.
    """

    level: str | None = None
    form: str | None = None
    file: str | None = None
    usual: str = "warn"
    told: frozenset[str] = frozenset()
    stream: LogStream | None = None

    @classmethod
    def of(cls, ctx: click.Context) -> LogChoice:
        """
        The one of a running sub-command.
        """
        choice: LogChoice = ctx.meta.setdefault(_KEY, cls())
        return choice

    def begin(self, environ: Mapping[str, str] = os.environ) -> None:
        """
        Log from now on.

        :raises ConfigError: an option is wrong, or its file cannot be opened.
        """
        from twisted.logger import globalLogBeginner

        from realize.observe.levels import Levels
        from realize.observe.outputs import LogOutput, open_sink

        stream: Any = self.stream or LogStream(Stream(sys.stderr))
        try:
            levels = Levels.parse(self.level or self.usual)
        except ValueError as error:
            raise ConfigError(f"--log-level: {error}") from None
        try:
            sink = open_sink(self.form, self.file, "realize", environ, stream)
        except ValueError as error:
            raise ConfigError(f"--log-format: {error}") from None
        except OSError as error:
            where = self.file or "the journal"
            raise ConfigError(f"--log-file: {where}: {error.strerror}") from None
        asked = self.level or self.form or self.file
        output = LogOutput(sink, levels, without=frozenset() if asked else self.told)
        globalLogBeginner.beginLoggingTo([output], redirectStandardIO=False)


def log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Give a sub-command the options ``--log-level``, ``--log-format`` and
    ``--log-file``; they are not among its arguments.
    """
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _keep(name: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        setattr(LogChoice.of(ctx), name, value)

    return keep


_OPTIONS: Final[tuple[Callable[..., Any], ...]] = (
    click.option(
        "--log-level",
        metavar="LEVEL",
        envvar="REALIZE_LOG",
        expose_value=False,
        callback=_keep("level"),
        help="What to log: error, warn, info or debug, also by area as in "
        "'info,wire=debug'.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(_FORMATS),
        envvar="REALIZE_LOG_FORMAT",
        expose_value=False,
        callback=_keep("form"),
        help="How the log looks.  [default: journal if systemd has connected standard "
        "error to it, else text]",
    ),
    click.option(
        "--log-file",
        metavar="FILE",
        envvar="REALIZE_LOG_FILE",
        expose_value=False,
        callback=_keep("file"),
        help="Append the log to FILE instead of writing it to standard error.",
    ),
)
