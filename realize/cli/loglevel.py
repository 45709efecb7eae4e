"""
``realize loglevel``: what a peer's daemon logs, changed while it runs.
"""

from __future__ import annotations

from typing import Any

import click

from realize.cli.exits import Exit
from realize.cli.options import configured, duration
from realize.errors import PeerError
from realize.observe.levels import Levels
from realize.units import format_duration


def _levels(ctx: click.Context, param: click.Parameter, value: str) -> Levels:
    try:
        return Levels.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(short_help="Change what a daemon logs.")
@click.argument("peer")
@click.argument("level", callback=_levels)
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    callback=duration,
    help="Only for so long; then as before.",
)
@configured
@click.pass_context
def command(
    ctx: click.Context,
    peer: str,
    level: Levels,
    seconds: float | None,
    config: str | None,
    privkey: str | None,
) -> int:
    """
    Change what a daemon logs.

    LEVEL is error, warn, info or debug, also by area as in "info,wire=debug".  That
    takes the right "control" at PEER.
    """
    if seconds is not None and seconds < 1:
        raise click.UsageError("--for: at least one second")
    whole = None if seconds is None else round(seconds)

    from realize.cli.peer_control import PeerControl

    control = PeerControl.find(peer, config, privkey)

    async def run(reactor: Any) -> int:
        async with control.connected(reactor) as there:
            try:
                before = await there.set_log_level(str(level), whole)
            except PeerError as error:
                raise type(error)(f"{peer}: {error}") from None
        until = "" if whole is None else f" for {format_duration(whole)}"
        click.echo(f"{peer} logs at {level}{until}; it was {before}.")
        return Exit.MOVED

    status: int = ctx.obj.run(run)
    return status
