"""
Connections through ssh: the same session, with another program's proof of who is there.

All that can go wrong before the first words is told in one line that says what to do.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from txaio.tx import make_logger

from realize.errors import Incompatible, PeerGone, PeerRefused, RealizeError
from realize.net.local_stream import begin_stream
from realize.net.opening_line import MOST_BEFORE, Awaiting, OpenedFactory
from realize.net.ssh_command import SshChoice, SshHost
from realize.net.ssh_process import SshProcess
from realize.net.ssh_start import StartedSsh, start_ssh
from realize.net.throttled import Shared, ThrottledFactory
from realize.observe.events import SSH_SAID
from realize.observe.metrics import CommandMetrics
from realize.texts import Line, cut, printable_line
from realize.wire.client import ClientLink
from realize.wire.compression import Compression
from realize.wire.remote import Connection

#: Seconds for ssh to log in and start the other end, where it asks nobody.
LOGIN_DEADLINE: Final = 60

#: Seconds for ssh to end once the session has.
_STATUS: Final = 2.0

#: Statuses: ssh's own, and those of a shell that finds no program, or one that is none.
_SSH_FAILED: Final = 255
_NOT_FOUND: Final = 127
_NOT_A_PROGRAM: Final = 126

#: Status of a program that does not understand its command line.
_USAGE: Final = 2

#: Most lines of one session that are logged.
MOST_LINES: Final = 100

#: Most bytes of what the other host printed in an error.
_SHOWN: Final = 200

#: What ssh says if trying again later does not help, and what does.
_REFUSALS: Final = (
    (
        b"Host key verification failed",
        "connect once by hand, to see and accept its key: ssh {host}",
    ),
    (
        b"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "if that is right, remove the old key: ssh-keygen -R {name}",
    ),
    (
        b"Permission denied",
        "it takes no key of this user; let it: ssh-copy-id {host}",
    ),
    (
        b"Too many authentication failures",
        "it takes none of so many keys; name the right one with IdentityFile and "
        "IdentitiesOnly in ~/.ssh/config",
    ),
)

#: ... and if it may.
_ADVICE: Final = (
    (b"Could not resolve hostname", "is the name right, or in ~/.ssh/config?"),
    (b"Connection refused", "does sshd run there, on that port?"),
)


async def connect(
    reactor: Any,
    choice: SshChoice,
    host: SshHost,
    token: bytes,
    metrics: CommandMetrics | None = None,
    limits: Shared | None = None,
    compression: Compression | None = None,
    started: StartedSsh | None = None,
) -> tuple[Connection, SshProcess]:
    """
    Start ``realize serve`` on a host and wait until it speaks.

    Parameters as of :func:`realize.wire.remote.connect`.

    :param started: an ssh that runs already; by default, one is started.
    :returns: the connection, and the process to stop once that is closed.
    :raises PeerGone: it could not be reached; trying again later can help.
    :raises PeerRefused: it does not let us in, or there is no ``realize``; says what
        to do.
    :raises Incompatible: it has another version of the protocol; says which end to
        update.
    """
    if started is None:
        pool = reactor.getThreadPool()
        started = await deferToThreadPool(reactor, pool, start_ssh, choice, host)
    asks = started.asks
    process = SshProcess(started, reactor)
    try:
        link = await _welcomed(
            reactor, process, choice, host, token, asks, metrics, limits, compression
        )
    except BaseException:
        await process.stop(at_once=True)
        raise
    process.tell(_Teller(link.peer).tell)
    return link, process


class _Teller:
    """
    Logs what is said while the session goes on.
    """

    log = make_logger()

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._left = MOST_LINES

    def tell(self, line: bytes) -> None:
        """
        Log a line, if there were not too many.
        """
        text = _shown(line)
        if text and self._left:
            self._left -= 1
            SSH_SAID.log(self.log, peer=self._peer, text=Line(text))


async def _welcomed(
    reactor: Any,
    process: SshProcess,
    choice: SshChoice,
    host: SshHost,
    token: bytes,
    asks: bool,
    metrics: CommandMetrics | None,
    limits: Shared | None,
    compression: Compression | None,
) -> Connection:
    link = ClientLink(reactor, host.url, "", token, metrics, compression)
    factory = Factory.forProtocol(lambda: link)
    factory.noisy = False
    throttled = ThrottledFactory(
        OpenedFactory(Awaiting, factory), reactor, limits or Shared(reactor)
    )
    connection: Any = throttled.buildProtocol(None)
    awaiting: Awaiting = connection.wrappedProtocol
    begin_stream(process.end, connection, reactor)
    too_late = None
    if not asks:
        too_late = reactor.callLater(LOGIN_DEADLINE, awaiting.give_up)
    try:
        return Connection(link, await link.welcomed)
    except Incompatible:
        raise
    except RealizeError:
        if awaiting.late:
            raise PeerGone(
                f"{host}: no session within {LOGIN_DEADLINE} s; try by hand: "
                f"ssh {host} {choice.remote_command}"
            ) from None
        status = await process.ended(_STATUS)
        if awaiting.found and status in (None, 0):
            raise
        raise trouble(
            host, choice, status, bytes(awaiting.before), process.said
        ) from None
    finally:
        if too_late is not None and too_late.active():
            too_late.cancel()


def trouble(
    host: SshHost, choice: SshChoice, status: int | None, out: bytes, err: bytes
) -> PeerGone | PeerRefused:
    """
    What it means that the session did not begin, and what to do.

    :param status: of ssh, negative for a signal; None if it runs on.
    :param out: what came instead of the session.
    :param err: what ssh, or the other host, said.
    """
    program = choice.remote
    said = _last_line(err)
    if status is not None and status < 0:
        return PeerGone(f"{host}: ssh was ended by signal {-status}")
    if len(out) >= MOST_BEFORE:
        return _printed(host, out)
    if status == _SSH_FAILED:
        return _ssh_failed(host, err, said)
    if status == _NOT_FOUND:
        return PeerRefused(
            f"{host}: there is no {program} in the PATH that ssh has there; install "
            "realize on that host, or say where it is: --remote-realize PATH"
            + _quoted("it said", err)
        )
    if status == _NOT_A_PROGRAM:
        return PeerRefused(
            f"{host}: {program} cannot be run there" + _quoted("it said", err)
        )
    if status == _USAGE and b"realize" in err:
        return PeerRefused(
            f"{host}: the realize there does not take the words that it was started "
            "with: update it, or mend the forced command of this key"
            + _quoted("it said", err)
        )
    if out:
        return _printed(host, out)
    how = "" if status is None else f" with status {status}"
    return PeerRefused(
        f"{host}: '{choice.remote_command}' ended{how} before the session began"
        + _quoted("it said", err)
    )


def _printed(host: SshHost, out: bytes) -> PeerRefused:
    return PeerRefused(
        f"{host}: no session of realize, but this: {_shown(out)}; what starts there "
        "with each login (.bashrc, for one) must print nothing, and a forced command "
        "of this key be 'realize serve'"
    )


def _ssh_failed(host: SshHost, err: bytes, said: str) -> PeerGone | PeerRefused:
    for words, advice in _REFUSALS:
        if words in err:
            text = advice.format(host=_typed(host), name=host.name)
            return PeerRefused(f"{host}: ssh: {said}; {text}")
    for words, advice in _ADVICE:
        if words in err:
            return PeerGone(f"{host}: ssh: {said}; {advice}")
    return PeerGone(f"{host}: ssh: {said or 'it failed without a word'}")


def _typed(host: SshHost) -> str:
    port = f"-p {host.port} " if host.port else ""
    user = f"{host.user}@" if host.user else ""
    return f"{port}{user}{host.name}"


def _last_line(err: bytes) -> str:
    lines = [line for line in err.decode("utf-8", "replace").splitlines() if line]
    return _shown(lines[-1].strip().encode()) if lines else ""


def _quoted(words: str, err: bytes) -> str:
    said = _last_line(err)
    return f" ({words}: {said})" if said else ""


def _shown(raw: bytes) -> str:
    """
    What the other side printed, harmless and short.
    """
    text = " ".join(raw[: 4 * _SHOWN].decode("utf-8", "replace").split())
    return cut(printable_line(text), _SHOWN)
