"""
Starting the system's ``ssh`` as a process of ours: one socket is its standard input and
output.

It is in a session of its own, so that what a terminal sends to this program does not
end it first; or where it may ask the user something, in ours with SIGINT blocked.

There is no Twisted here: a command starts ssh before it imports what it needs itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence

from attrs import frozen

from realize.errors import PeerRefused
from realize.net.ssh_command import SshChoice, SshHost

#: Seconds that ssh may take to say what is configured.
CONFIGURED = 5.0

#: Bytes that lie in a socket between two processes of this host.
BUFFER = 1024 * 1024


@frozen(eq=False)
class StartedSsh:
    """
    One that was started.

    :ivar end: our end of its standard input and output.  It ends when that is closed.
    :ivar errors: our end of its standard error.
    :ivar asks: whether it may ask the user something.
    """

    process: subprocess.Popen[bytes]
    end: socket.socket
    errors: socket.socket
    asks: bool


def start_ssh(choice: SshChoice, host: SshHost) -> StartedSsh:
    """
    Have ssh log in and start the other end.  Blocks for some milliseconds; may be
    called in any thread.

    :raises PeerRefused: it cannot be started; says what to do.
    """
    asks = _may_ask()
    words = choice.command(host, asks=asks, ciphers=_prefers_ciphers(choice, host))
    end, theirs = socket_pair()
    ours, errors = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} if asks else ())
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own words
            words,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=errors.fileno(),
            start_new_session=not asks,
        )
    except OSError as error:
        end.close()
        ours.close()
        raise PeerRefused(
            f"{words[0]} cannot be started: {error.strerror}; install it (Debian: "
            "openssh-client), or name another with --ssh COMMAND"
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        errors.close()
    return StartedSsh(process, end, ours, asks)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """
    Two sockets, each what the other end of the other is.
    """
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for each in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            each.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return pair


def _may_ask() -> bool:
    """
    Whether a person is at a terminal whom ssh may ask for a password.
    """
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        return False


def _prefers_ciphers(choice: SshChoice, host: SshHost) -> bool:
    """
    Whether the user's configuration leaves the ciphers to us, as far as ssh can tell.
    """
    asked = [choice.asking(host), choice.asking_defaults]
    running = [_begin(words) for words in asked]
    chosen, usual = [_ciphers(process) for process in running]
    return chosen is not None and chosen == usual


def _begin(words: Sequence[str]) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(  # noqa: S603 - the user's own words
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None  # to start it for real will tell


def _ciphers(process: subprocess.Popen[bytes] | None) -> bytes | None:
    if process is None:
        return None
    with process:
        try:
            out, _err = process.communicate(timeout=CONFIGURED)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    for line in out.splitlines():
        if process.returncode == 0 and line.startswith(b"ciphers "):
            return line
    return None
