"""
``realize move SRC DST``, which is also what ``realize SRC DST`` means.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click
from attrs import Factory, evolve, frozen

from realize.cli.answering import answered
from realize.cli.endpoints import LocalPlace, PeerPlace, is_remote
from realize.cli.exits import Exit, exit_for, worse
from realize.cli.hook import Form, HookChoice
from realize.cli.legs import Leg, parse_legs
from realize.cli.log import LogChoice, LogStream
from realize.cli.metrics_options import MetricsChoice, metered
from realize.cli.options import (
    configured,
    duration,
    private_key_path,
    read_config,
    telling_where,
)
from realize.cli.outputs import (
    JsonOutput,
    LoggedOutput,
    Output,
    QuietOutput,
    StreamOutput,
)
from realize.cli.selection_options import SelectingCommand, selecting
from realize.cli.ssh_options import SshOptions, by_ssh, start_early
from realize.cli.terminal import Stream
from realize.cli.throttle_options import ThrottleChoice, throttled
from realize.config import Config
from realize.conflicts import CHOICES, OnConflict
from realize.conflicts import Asked as Conflicting
from realize.errors import ConfigError, RealizeError, UnsafePath
from realize.inputs import open_input
from realize.move.names import NameList
from realize.move.outcome import MoveSettings
from realize.move.selection import Selection
from realize.net.ssh_command import SshChoice, SshHost
from realize.paths import RelativePath

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from realize.net.ssh_start import StartedSsh
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
@click.argument("words", metavar="SRC... DST", nargs=-1, required=True)
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="List what would become of each file, and change nothing.",
)
@click.option(
    "--files-from",
    metavar="FILE",
    help="Move only the files that FILE names, a line each, relative to SRC; - is "
    "standard input.",
)
@click.option(
    "-0",
    "--null",
    "--from0",
    is_flag=True,
    help="The names of --files-from end with a null byte each, as of find -print0.",
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
    "--on-conflict",
    type=click.Choice(CHOICES),
    help="If another file has the name at DST: replace it; keep both, this one with a "
    "number; back it up to another directory first; skip this one; or fail.  [default: "
    "as the peer has it; fail if DST is local]",
)
@click.option(
    "--backup-directory",
    metavar="DIR",
    help="Where --on-conflict backup puts older files, below DST.  [default: older]",
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
@by_ssh
@configured
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    dry_run: bool,
    settle: float | None,
    max_duration: float,
    remove_directories: bool,
    on_conflict: OnConflict | None,
    backup_directory: str | None,
    compress: Mode,
    output: str,
    audit_log: str | None,
    selection: Selection,
    files_from: str | None,
    null: bool,
    on_moved: str | None,
    on_moved_input: Form,
    on_moved_timeout: float,
    metrics: MetricsChoice,
    throttle: ThrottleChoice,
    ssh: SshOptions,
    config: str | None,
    privkey: str | None,
) -> int:
    """
    Move files: verified, durable, resumable.

    What SRC holds goes directly below DST: each file is copied, verified, made
    durable, and only then removed from SRC.  Interrupt it whenever you like: running
    it again continues.

    Both are a local path; [USER@]HOST:/PATH or HOST:~/PATH, which ssh reaches; or
    PEER:DIRECTORY[/SUBDIR] with PEER from the configuration.  SRC may be a single
    file; of several, each file and directory goes below DST under its own name.  A
    local path with a colon before its first slash is written ./like:this.
    """
    if len(words) < 2:
        raise click.UsageError("a move needs both SRC and DST")
    *sources, target = words
    needs_config = bool(config) or any(map(is_remote, words))
    loaded, file = read_config(config) if needs_config else (Config(), None)
    with telling_where(file):
        legs = answered(lambda: parse_legs(sources, target, loaded.peers), _say)
    if files_from is not None:
        legs = [_listed(legs, files_from, null)]
    elif null:
        raise click.UsageError("--null says how names of --files-from end: give both")
    if not max_duration:
        raise ConfigError("--max-duration: must be more than zero")
    if not on_moved_timeout:
        raise ConfigError("--on-moved-timeout: must be more than zero")
    if len(legs) > 1 and metrics.any:
        raise ConfigError(
            "metrics are of one move, and these sources are several: move files of "
            "one directory, or one directory, at a time"
        )
    hook = HookChoice()
    if on_moved is not None:
        hook = HookChoice.parse(on_moved, on_moved_input, on_moved_timeout)
    places = [place for leg in legs for place in (leg.source, leg.destination)]
    remote = any(isinstance(place, PeerPlace) for place in places)
    asked = Asked(
        key=private_key_path(privkey, loaded, file) if remote else None,
        settings=MoveSettings(
            selection=selection,
            settle=settle or 0.0,
            remove_directories=remove_directories,
            dry_run=dry_run,
        ),
        settle=settle,
        max_duration=max_duration,
        conflicts=_conflicts(on_conflict, backup_directory),
        compress=compress,
        output=output,
        audit_log=audit_log,
        metrics=metrics,
        throttle=throttle,
        hook=hook,
        ssh=ssh.choose(loaded),
    )
    log = LogChoice.of(ctx)
    log.usual = USUAL_LEVELS.get(output, "warn")
    log.told = frozenset() if output == "log" else TOLD
    log.stream = stream = LogStream(Stream(sys.stderr))

    # The next ones are started when their turn comes.
    first = legs[0]
    asked = evolve(
        asked, started=start_early(asked.ssh, first.source, first.destination)
    )

    async def run(reactor: Any) -> int:
        return await _move_all(reactor, legs, asked, stream)

    status: int = ctx.obj.run(run)
    return status


@frozen(kw_only=True)
class Asked:
    """
    What the options of one command line ask for.

    :ivar key: file of this host's private key; None if no peer is needed.
    :ivar settle: seconds, as given; None for the default.
    :ivar started: what runs already for the first move.
    :ivar max_duration: seconds for all moves together.
    """

    key: Path | None
    settings: MoveSettings
    settle: float | None
    max_duration: float
    conflicts: Conflicting
    compress: Mode
    output: str
    audit_log: str | None
    metrics: MetricsChoice
    throttle: ThrottleChoice
    hook: HookChoice
    ssh: SshChoice
    started: Mapping[SshHost, StartedSsh] = Factory(dict)


def _conflicts(choice: OnConflict | None, backup: str | None) -> Conflicting:
    """
    What is asked for by ``--on-conflict`` and ``--backup-directory``.
    """
    if backup is None:
        return Conflicting(choice)
    if choice != "backup":
        raise click.UsageError(
            "--backup-directory is where --on-conflict backup puts files: give both"
        )
    raw = os.fsencode(backup).removesuffix(b"/")
    try:
        RelativePath.parse(raw)
    except UnsafePath as error:
        raise ConfigError(
            f"--backup-directory: a directory below DST, such as older: {error}"
        ) from None
    return Conflicting(choice, raw)


def _listed(legs: Sequence[Leg], files_from: str, null: bool) -> Leg:
    """
    The move of files that a list names.
    """
    leg = legs[0]
    if len(legs) > 1 or (isinstance(leg.source, LocalPlace) and leg.source.only):
        raise click.UsageError(
            "--files-from names files below SRC: give one directory as SRC"
        )
    above = b""
    if isinstance(leg.source, LocalPlace):
        above = os.path.abspath(leg.source.path)
    try:
        if files_from == "-":
            names = NameList.read(sys.stdin.buffer, above, null=null)
        else:
            with open_input(files_from) as stream:
                names = NameList.read(stream, above, null=null)
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read"
        raise ConfigError(f"--files-from {files_from}: {reason}") from None
    return evolve(leg, names=names, recurse=False)


def _say(text: str) -> None:
    Stream(sys.stderr).line(f"realize: {text}")


async def _move_all(
    reactor: Any, legs: Sequence[Leg], asked: Asked, stream: LogStream
) -> Exit:
    """
    One move after the other, until one ends before its time.

    :returns: the status that weighs most.
    """
    began = reactor.seconds()
    worst = Exit.MOVED
    for leg in legs:
        left = asked.max_duration - (reactor.seconds() - began)
        if left <= 0:
            return Exit.TIME_UP
        status = await _move(reactor, leg, evolve(asked, max_duration=left), stream)
        asked = evolve(asked, started={})
        worst = worse(worst, status)
        if status in (Exit.INTERRUPTED, Exit.TIME_UP):
            break
    return worst


async def _move(reactor: Any, leg: Leg, asked: Asked, stream: LogStream) -> Exit:
    from realize.cli.opening import Opener
    from realize.cli.receipts import begin_receipts
    from realize.cli.running import run_move
    from realize.cli.throttling import Throttling

    source, destination = leg.source, leg.destination
    settings = evolve(asked.settings, names=leg.names, recurse=leg.recurse)
    throttling = Throttling(
        reactor, source, destination, asked.throttle, quiet=asked.output == "quiet"
    )
    metering = None
    if asked.metrics.any:
        from realize.cli.metering import Metering

        metering = Metering(
            reactor, asked.metrics, source, destination, settings.dry_run
        )
        metering.start()
    chosen = choose_output(asked.output, settings.dry_run, reactor)
    stream.above = chosen.above
    ended = Exit.FAILED
    try:
        opener = Opener(
            reactor,
            source,
            destination,
            asked.key,
            asked.settle,
            metering.commands if metering else None,
            throttling,
            asked.compress,
            metering.compressed if metering else None,
            asked.ssh,
            asked.started,
            asked.conflicts,
        )
        receipts = begin_receipts(
            None if settings.dry_run else asked.audit_log,
            reactor,
            source,
            destination,
            opener.session,
        )
        status = await run_move(
            reactor,
            opener,
            settings,
            chosen,
            asked.max_duration,
            throttling,
            metering,
            receipts,
            asked.hook,
        )
        tells = settings.dry_run or asked.output == "json"
        if tells and isinstance(chosen, StreamOutput) and chosen.out.broken:
            chosen.say("standard output: not all of the result could be written")
            status = Exit.FAILED if status == Exit.MOVED else status
    except RealizeError as error:
        ended = exit_for(error)
        raise
    else:
        return status
    finally:
        if metering is not None:
            await metering.broken_off(ended)


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
