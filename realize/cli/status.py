"""
``realize status``: what a peer's daemon, or the moves on this host, are doing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from realize.cli.exits import Exit
from realize.cli.options import configured
from realize.cli.report import count
from realize.errors import PeerError, PeerGone
from realize.paths import printable
from realize.texts import printable_line
from realize.units import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from realize.cli.local_moves import MoveStatus, Refusal
    from realize.wire.status import ConnectionStatus, DirectoryStatus, Status, Throttle


@click.command(short_help="Show what a daemon, or moves on this host, are doing.")
@click.argument("peer", required=False)
@click.option("--local", is_flag=True, help="The moves that are running on this host.")
@configured
@click.pass_context
def command(
    ctx: click.Context,
    peer: str | None,
    local: bool,
    config: str | None,
    privkey: str | None,
) -> int:
    """
    Show what a daemon, or the moves on this host, are doing.

    With PEER: its connections, their speeds and limits, its directories, and the files
    under construction.  That takes the right "control" there.
    """
    if (peer is not None) + local != 1:
        raise click.UsageError("name a PEER, or --local for moves on this host")
    if peer is None:
        return _local()

    from realize.cli.peer_control import PeerControl

    control = PeerControl.find(peer, config, privkey)

    async def run(reactor: Any) -> int:
        async with control.connected(reactor) as there:
            try:
                status = await there.get_status()
            except PeerError as error:
                raise type(error)(f"{peer}: {error}") from None
        for line in status_lines(peer, status):
            click.echo(printable_line(line))
        return Exit.MOVED

    result: int = ctx.obj.run(run)
    return result


def _local() -> int:
    from realize.cli.local_moves import NoSuchMove, ask, running

    found = False
    for pid in running():
        try:
            answer = ask(pid, {"ask": "status"})
        except NoSuchMove:
            continue  # it has just ended
        except PeerGone as error:
            found = True
            click.echo(printable_line(f"realize: {error}"), err=True)
            continue
        found = True
        for line in local_lines(answer):
            click.echo(printable_line(line))
    if not found:
        click.echo("no moves of this user's are running", err=True)
    return Exit.MOVED


# -- what it looks like


def status_lines(peer: str, status: Status) -> Iterator[str]:
    """
    All that a daemon says.
    """
    running = format_duration(status.seconds)
    yield f"{peer}: {status.software}, running for {running}"
    yield ""
    yield from limits_and_connections(status)
    yield ""
    yield from _directories(status.directories)


def limits_and_connections(status: Status) -> Iterator[str]:
    """
    The limits of a daemon, and what each of its connections is doing.
    """
    rows = [("LIMITS", "SEND", "RECEIVE")]
    for throttle in (status.service, *status.peers):
        rows.append(
            (
                scope_name(throttle),
                shown_limit(throttle.send, throttle.send_seconds),
                shown_limit(throttle.receive, throttle.receive_seconds),
            )
        )
    yield from _table(rows)
    yield ""
    others = [each for each in status.connections if not each.is_own]
    if not others:
        yield "No other connections."
        return
    yield from _table(
        [
            (
                "ID",
                "PEER",
                "FROM",
                "FOR",
                "SENDS",
                "LIMIT",
                "RECEIVES",
                "LIMIT",
                "OPEN",
            ),
            *map(_connection, others),
        ]
    )


def _connection(each: ConnectionStatus) -> tuple[str, ...]:
    throttle = each.throttle
    return (
        str(throttle.connection),
        throttle.name,
        each.address,
        format_duration(each.seconds),
        format_rate(each.send_rate),
        shown_limit(throttle.effective_send, throttle.send_seconds),
        format_rate(each.receive_rate),
        shown_limit(throttle.effective_receive, throttle.receive_seconds),
        ", ".join(each.stores) or "-",
    )


def _directories(directories: Sequence[DirectoryStatus]) -> Iterator[str]:
    if not directories:
        yield "No directories."
        return
    rows = [("DIRECTORY", "FREE", "UNDER CONSTRUCTION")]
    for each in directories:
        free = "?" if each.free is None else format_size(each.free)
        files = count(each.partial_files, "file")
        there = (
            f"{files}, {format_size(each.partial_bytes)}" if each.partial_files else "-"
        )
        trouble = f"  ({each.trouble})" if each.trouble else ""
        rows.append((each.name, free, there + trouble))
    yield from _table(rows)
    doubts = [
        f"{each.name}, on {doubt}" for each in directories for doubt in each.doubts
    ]
    if doubts:
        yield ""
        yield from doubts
    partials = [
        (
            f"{each.name}/{printable(partial.path)}",
            f"{format_size(partial.have)} of {format_size(partial.size)}",
            partial.peer,
        )
        for each in directories
        for partial in each.partials
    ]
    if partials:
        yield ""
        yield from _table([("FILE", "THERE", "FROM"), *partials])


def scope_name(throttle: Throttle) -> str:
    """
    What people call a scope.
    """
    name = throttle.name
    match throttle.scope:
        case "peer":
            return f"peer {name}"
        case "connection":
            return f"connection {throttle.connection} of {name}"
    return "service"


def shown_limit(rate: int | None, seconds: float | None = None) -> str:
    """
    A limit, and for how long it still holds.
    """
    left = f" for {format_duration(seconds)}" if seconds is not None else ""
    return format_rate(rate) + left


def local_lines(answer: MoveStatus | Refusal) -> Iterator[str]:
    """
    What a move on this host says.
    """
    if "error" in answer:
        yield f"realize: {answer['error']}"
        return
    left = f"{answer['left']:,} left" if answer["complete"] else "listing goes on"
    yield (
        f"{answer['pid']}: {answer['source']} to {answer['destination']}: "
        f"{count(answer['files'], 'file')} moved, {left}, "
        f"{format_size(answer['sent'])} sent in {format_duration(answer['seconds'])}"
    )
    for way, limit in answer["limits"].items():
        holds = shown_limit(limit["effective"], limit["seconds_left"])
        asked = ""
        if limit["asked"] != limit["effective"]:
            asked = f" ({format_rate(limit['asked'])} asked for)"
        yield f"  {way}: {format_rate(limit['rate'])} now, limit {holds}{asked}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
