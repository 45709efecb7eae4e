"""
``realize serve``: the other end of a move, on standard input and output.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final

import click

from realize.cli.exits import Exit
from realize.cli.log import LogChoice, log_options
from realize.errors import ConfigError
from realize.paths import printable

#: Seconds that may pass from the end of its input to the end of the process: what is
#: being committed is finished in that time, or found by the next run.
STOP_DEADLINE: Final = 60


@click.command(short_help="Be the other end of a move, as ssh starts it.")
@click.option(
    "--put",
    "puts",
    metavar="DIR",
    multiple=True,
    help="Files may be put into DIR; may be given several times.",
)
@click.option(
    "--replace", is_flag=True, help="... also where another file has the name."
)
@click.option(
    "--take",
    "takes",
    metavar="DIR",
    multiple=True,
    help="Files may be listed, read and removed in DIR; may be given several times.",
)
@log_options
@click.pass_context
def command(
    ctx: click.Context, puts: tuple[str, ...], replace: bool, takes: tuple[str, ...]
) -> int:
    """
    Be the other end of a move, on standard input and output.

    `realize SRC HOST:/PATH` starts this over there by ssh.  In authorized_keys,
    command="realize serve --put /srv/inbox",restrict in front of a key lets that key
    put files into /srv/inbox, and do nothing else.  Without --put and --take it serves
    all that its user can read and write.
    """
    from realize.cli.served import EVERYTHING, Grant

    if os.isatty(0):
        raise click.UsageError(
            "this is what ssh starts: write realize SRC HOST:/PATH on the other host"
        )
    if replace and not puts:
        raise click.UsageError("--replace says how files are put: give --put DIR too")
    for word in (*puts, *takes):
        if not os.path.isabs(word):
            raise ConfigError(
                f"{printable(word)}: write the path from the root, as it is meant "
                "wherever this is started"
            )
    grants = [
        Grant(
            os.fsencode(os.path.normpath(word)),
            os.fsencode(os.path.realpath(word)),
            put=word in puts,
            replace=replace and word in puts,
            take=word in takes,
        )
        for word in dict.fromkeys((*puts, *takes))
    ]
    home = os.fsencode(os.path.normpath(Path.home()))
    LogChoice.of(ctx).usual = "error"

    async def run(reactor: Any) -> int:
        return await _serve(reactor, grants or [EVERYTHING], home)

    status: int = ctx.obj.run(run)
    return status


async def _serve(reactor: Any, grants: list[Any], home: bytes) -> int:
    """
    Serve one session to its end.
    """
    from twisted.internet.defer import Deferred, race
    from twisted.internet.task import deferLater

    from realize.accounts import Accounts
    from realize.cli.served import KEY, Served, make_directory
    from realize.net.local_stream import StandardStream, begin_stream
    from realize.net.opening_line import OpenedFactory, Saying
    from realize.net.throttled import ThrottledFactory
    from realize.store.guard import ignore_lease_signals
    from realize.store.work import WorkPool
    from realize.wire.compression import Compression
    from realize.wire.server import ServerFactory

    ignore_lease_signals()
    served = Served(grants, home, reactor, make_directory(reactor, Accounts()))
    threads = WorkPool(reactor, name="zstd")
    wire = ServerFactory(
        served,
        reactor,
        identify=lambda transport: KEY,
        compression=Compression(threads),
    )
    # Nothing else writes there: what does would break the session.
    own = os.dup(1)
    os.dup2(2, 1)
    stream = StandardStream(0, own)
    throttled = ThrottledFactory(
        OpenedFactory(Saying, wire), reactor, wire.limits.service.shared
    )
    wire.limits.start()
    protocol: Any = throttled.buildProtocol(None)
    link = protocol.wrappedProtocol.wrappedProtocol
    over = link.when_closed()
    stopped: Deferred[None] = Deferred()

    def stop(number: int, frame: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        reactor.callFromThread(stopped.callback, None)

    for number in _SIGNALS:
        signal.signal(number, stop)
    begin_stream(stream.end, protocol, reactor)
    await race([over, stopped])

    async def finish() -> None:
        await wire.stop()
        await served.close()

    late: Deferred[None] = deferLater(reactor, STOP_DEADLINE)
    first, _ = await race([Deferred.fromCoroutine(finish()), late])
    threads.close()
    stream.drain()
    if first == 1:
        os._exit(Exit.FAILED)  # a disk hangs, and so would its threads
    return Exit.MOVED


_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
