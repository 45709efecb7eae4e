"""
``realize throttle``: show and change limits, of a peer's daemon or of running moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from realize.cli.exits import Exit
from realize.cli.options import configured, duration
from realize.cli.throttle_options import Rate, rate
from realize.errors import PeerError, PeerGone
from realize.texts import printable_line

if TYPE_CHECKING:
    from realize.wire.status import Throttle


@click.command(short_help="Show and change limits while files are moved.")
@click.argument("peer", required=False)
@click.option(
    "--send", metavar="RATE", callback=rate, help="Limit what the daemon sends."
)
@click.option(
    "--receive", metavar="RATE", callback=rate, help="Limit what the daemon receives."
)
@click.option(
    "--service", is_flag=True, help="... on all connections together: the default."
)
@click.option(
    "--peer", "name", metavar="NAME", help="... on all connections of this peer of its."
)
@click.option(
    "--connection",
    metavar="ID",
    type=click.IntRange(min=1),
    help="... on this connection; realize status lists them.",
)
@click.option("--pid", type=click.IntRange(min=1), help="A move running on this host.")
@click.option("--all", "every", is_flag=True, help="All moves running on this host.")
@click.option(
    "--up",
    metavar="RATE",
    callback=rate,
    help="Limit what a move sends towards its destination.",
)
@click.option(
    "--down",
    metavar="RATE",
    callback=rate,
    help="Limit what a move receives from its source.",
)
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    callback=duration,
    help="Only for so long; then what held before holds again.",
)
@configured
@click.pass_context
def command(
    ctx: click.Context,
    peer: str | None,
    send: Rate | None,
    receive: Rate | None,
    service: bool,
    name: str | None,
    connection: int | None,
    pid: int | None,
    every: bool,
    up: Rate | None,
    down: Rate | None,
    seconds: float | None,
    config: str | None,
    privkey: str | None,
) -> int:
    """
    Show and change limits while files are moved.

    With PEER: the limits of its daemon, which takes the right "control" there.  Without
    --send and --receive, show them and what each connection is doing.

    With --pid or --all: the limits of moves that run on this host.

    A RATE is in bytes per second: 500K, 1M, 2.5MiB; off lifts a limit.
    """
    if (peer is not None) + (pid is not None) + every != 1:
        raise click.UsageError("name a PEER, or a running move with --pid or --all")
    change = {"send": send, "receive": receive} if peer else {"up": up, "down": down}
    rates = {way: given.value for way, given in change.items() if given is not None}
    if seconds is not None:
        if not rates:
            raise click.UsageError("--for goes with a limit that is set")
        if seconds < 1:
            raise click.UsageError("--for: at least one second")
    whole = None if seconds is None else round(seconds)
    if peer is None:
        if send or receive or service or name is not None or connection:
            raise click.UsageError(
                "--send, --receive, --service, --peer and --connection are for the "
                "daemon of a PEER; a running move has --up and --down"
            )
        return _local(pid, rates, whole)
    if up or down:
        raise click.UsageError(
            "--up and --down are for running moves (--pid, --all); a daemon has "
            "--send and --receive"
        )
    if service + (name is not None) + (connection is not None) > 1:
        raise click.UsageError("one of --service, --peer and --connection")
    if not rates and (service or name is not None or connection):
        raise click.UsageError("give --send RATE, --receive RATE, or both")
    status: int = ctx.obj.run(
        _remote(peer, config, privkey, rates, name, connection, whole)
    )
    return status


def _remote(
    peer: str,
    config: str | None,
    privkey: str | None,
    rates: Mapping[str, int | None],
    name: str | None,
    connection: int | None,
    seconds: int | None,
) -> Any:
    from realize.cli.peer_control import PeerControl

    control = PeerControl.find(peer, config, privkey)

    async def run(reactor: Any) -> int:
        async with control.connected(reactor) as there:
            try:
                if not rates:
                    from realize.cli.status import limits_and_connections

                    lines = limits_and_connections(await there.get_status())
                else:
                    scope = "connection" if connection else "service"
                    if name is not None:
                        scope = "peer"
                    now = await there.set_throttle(
                        scope,
                        name=name,
                        connection=connection,
                        rates=rates,
                        seconds=seconds,
                    )
                    lines = _now(now)
            except PeerError as error:
                raise type(error)(f"{peer}: {error}") from None
        for line in lines:
            click.echo(printable_line(line))
        return Exit.MOVED

    return run


def _now(throttle: Throttle) -> Iterator[str]:
    from realize.cli.status import scope_name, shown_limit

    for way, rate_, seconds, effective in (
        (
            "send",
            throttle.send,
            throttle.send_seconds,
            throttle.effective_send,
        ),
        (
            "receive",
            throttle.receive,
            throttle.receive_seconds,
            throttle.effective_receive,
        ),
    ):
        line = f"{scope_name(throttle)}: {way} {shown_limit(rate_, seconds)}"
        if effective != rate_:
            line += f"; with wider limits {shown_limit(effective)}"
        yield line


def _local(
    pid: int | None, rates: Mapping[str, int | None], seconds: int | None
) -> int:
    from realize.cli.local_moves import ask, running
    from realize.cli.status import local_lines

    pids = [pid] if pid is not None else list(running())
    if not pids:
        click.echo("no moves of this user's are running", err=True)
    request: dict[str, Any] = (
        {"ask": "throttle", **rates} if rates else {"ask": "status"}
    )
    if seconds is not None:
        request["seconds"] = seconds
    status = Exit.MOVED
    for each in pids:
        try:
            answer = ask(each, request)
        except PeerGone as error:
            if pid is not None:
                raise
            click.echo(printable_line(f"realize: {error}"), err=True)
            continue
        if "error" in answer:
            click.echo(printable_line(f"realize: {each}: {answer['error']}"), err=True)
            status = Exit.FAILED
            continue
        if "said" in answer:
            click.echo(printable_line(f"realize: {each}: {answer['said']}"), err=True)
        for line in local_lines(answer):
            click.echo(printable_line(line))
    return status
