"""
``realize move SRC DST``, which is also what ``realize SRC DST`` means.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from realize.cli.endpoints import PeerPlace, is_remote, parse_place
from realize.cli.exits import Exit, exit_for
from realize.cli.hook import Form, HookChoice
from realize.cli.log import LogChoice, LogStream
from realize.cli.metrics_options import MetricsChoice, metered
from realize.cli.options import configured, duration, private_key_path, read_config
from realize.cli.outputs import JsonOutput, LoggedOutput, Output, QuietOutput
from realize.cli.selection_options import SelectingCommand, selecting
from realize.cli.terminal import Stream
from realize.cli.throttle_options import ThrottleChoice, throttled
from realize.config import Config
from realize.errors import ConfigError, RealizeError
from realize.move.outcome import MoveSettings
from realize.move.selection import Selection

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from realize.wire.compression import Mode

#: What ``--output`` takes.
OUTPUTS: Final = ("progress", "quiet", "log", "json")

#: What ``--compress`` takes; :data:`realize.wire.compression.MODES`.
COMPRESS: Final[tuple[Mode, ...]] = ("auto", "always", "never")

#: What is logged with them if nobody asks for more.
USUAL_LEVELS: Final = {"quiet": "error", "log": "info"}

#: Events that the other outputs tell people of in their own words.
TOLD: Final = frozenset({"file-failed", "file-stays", "connection-lost", "move-failed"})


@click.command(
    cls=SelectingCommand, short_help="Move files: verified, durable, resumable."
)
@click.argument("src")
@click.argument("dst")
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="List what would become of each file, and change nothing.",
)
@selecting
@click.option(
    "--settle",
    metavar="DURATION",
    callback=duration,
    help="Leave files that changed more recently for a later run.  [default: 30s "
    "where it can't be found out whether a file is being written, else 0]",
)
@click.option(
    "--max-duration",
    metavar="DURATION",
    default="24h",
    show_default=True,
    callback=duration,
    help="Stop after this time; running again continues.",
)
@click.option(
    "--remove-directories",
    is_flag=True,
    help="Remove source directories that the move has emptied.",
)
@click.option(
    "--compress",
    type=click.Choice(COMPRESS),
    envvar="REALIZE_COMPRESS",
    default="auto",
    show_default=True,
    help="Compress what crosses the network: if it shrinks and the line is slow; "
    "always; or never.",
)
@click.option(
    "--output",
    type=click.Choice(OUTPUTS),
    default="progress",
    show_default=True,
    help="What to print while moving, and how.",
)
@click.option(
    "--audit-log",
    metavar="FILE",
    envvar="REALIZE_AUDIT_LOG",
    help="Append a line of JSON for each file that becomes final, before its source "
    "goes, and one when it has gone.",
)
@click.option(
    "--on-moved",
    metavar="COMMAND",
    help="Run this with each batch of files that were moved, their names on its "
    "standard input.",
)
@click.option(
    "--on-moved-input",
    type=click.Choice(get_args(Form)),
    default="names",
    show_default=True,
    help="Null-terminated names, or a line of JSON for each file.",
)
@click.option(
    "--on-moved-timeout",
    metavar="DURATION",
    default="60s",
    show_default=True,
    callback=duration,
    help="Kill it if one batch takes longer.",
)
@throttled
@metered
@configured
@click.pass_context
def command(
    ctx: click.Context,
    src: str,
    dst: str,
    dry_run: bool,
    settle: float | None,
    max_duration: float,
    remove_directories: bool,
    compress: Mode,
    output: str,
    audit_log: str | None,
    selection: Selection,
    on_moved: str | None,
    on_moved_input: Form,
    on_moved_timeout: float,
    metrics: MetricsChoice,
    throttle: ThrottleChoice,
    config: str | None,
    privkey: str | None,
) -> int:
    """
    Move files: verified, durable, resumable.

    What SRC holds goes directly below DST: each file is copied, verified, made
    durable, and only then removed from SRC.  Interrupt it whenever you like: running
    it again continues.

    Both are a local path, or PEER:DIRECTORY[/SUBDIR] with PEER from the
    configuration.  SRC may be a single file.  A local path with a colon before its
    first slash is written ./like:this.
    """
    loaded, file = read_config(config) if _needs_config(src, dst, config) else _none()
    source = parse_place(src, "SRC", loaded.peers)
    destination = parse_place(dst, "DST", loaded.peers)
    if not max_duration:
        raise ConfigError("--max-duration: must be more than zero")
    if not on_moved_timeout:
        raise ConfigError("--on-moved-timeout: must be more than zero")
    hook = HookChoice()
    if on_moved is not None:
        hook = HookChoice.parse(on_moved, on_moved_input, on_moved_timeout)
    remote = any(isinstance(place, PeerPlace) for place in (source, destination))
    key = private_key_path(privkey, loaded, file) if remote else None
    settings = MoveSettings(
        selection=selection,
        settle=settle or 0.0,
        remove_directories=remove_directories,
        dry_run=dry_run,
    )
    log = LogChoice.of(ctx)
    log.usual = USUAL_LEVELS.get(output, "warn")
    log.told = frozenset() if output == "log" else TOLD
    log.stream = stream = LogStream(Stream(sys.stderr))

    async def run(reactor: Any) -> int:
        from realize.cli.opening import Opener
        from realize.cli.receipts import begin_receipts
        from realize.cli.running import run_move
        from realize.cli.throttling import Throttling

        throttling = Throttling(
            reactor, source, destination, throttle, quiet=output == "quiet"
        )
        metering = None
        if metrics.any:
            from realize.cli.metering import Metering

            metering = Metering(reactor, metrics, source, destination, dry_run)
            metering.start()
        chosen = choose_output(output, dry_run, reactor)
        stream.above = chosen.above
        ended = Exit.FAILED
        try:
            opener = Opener(
                reactor,
                source,
                destination,
                key,
                settle,
                metering.commands if metering else None,
                throttling,
                compress,
                metering.compressed if metering else None,
            )
            receipts = begin_receipts(
                None if dry_run else audit_log,
                reactor,
                source,
                destination,
                opener.session,
            )
            return await run_move(
                reactor,
                opener,
                settings,
                chosen,
                max_duration,
                throttling,
                metering,
                receipts,
                hook,
            )
        except RealizeError as error:
            ended = exit_for(error)
            raise
        finally:
            if metering is not None:
                await metering.broken_off(ended)

    status: int = ctx.obj.run(run)
    return status


def _needs_config(src: str, dst: str, config: str | None) -> bool:
    return bool(config) or is_remote(src) or is_remote(dst)


def _none() -> tuple[Config, Path | None]:
    return Config(), None


def choose_output(
    name: str,
    dry_run: bool,
    clock: IReactorTime,
    environ: Mapping[str, str] = os.environ,
) -> Output:
    """
    The output of a name, on this process's standard output and standard error.

    :param name: one of :data:`OUTPUTS`.
    """
    out, err = Stream(sys.stdout), Stream(sys.stderr)
    if name == "json":
        return JsonOutput(out, err, dry_run)
    if name == "quiet":
        return QuietOutput(out, err, dry_run)
    if name == "log":
        return LoggedOutput(out, err, dry_run)
    from realize.cli.progress import BarProgress, LineProgress, can_draw

    if dry_run or not can_draw(err, environ):
        return LineProgress(out, err, dry_run, clock=clock)
    return BarProgress(out, err, clock=clock)
