"""
What systemd is told: ready, status, reloading, stopping, and that we are alive.

The protocol is sd_notify(3): datagrams to the socket named in ``NOTIFY_SOCKET``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

#: Seconds for which what must not be lost waits for room in the manager's queue.
PATIENCE: Final = 1.0


@define
class Notifier:
    """
    Tells the service manager about us; does nothing where there is none.

    :ivar address: of the socket; ``@`` begins an abstract one; empty for none.
    """

    address: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Notifier:
        """
        The one for the service manager that started us, if any.
        """
        return cls(environ.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str) -> None:
        """
        Say that connections are served now (also after a reload).
        """
        self._send(f"READY=1\nSTATUS={status}", PATIENCE)

    def status(self, status: str) -> None:
        """
        Say what goes on, in one line for people.
        """
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """
        Say that the configuration is being read again; :meth:`ready` ends it.
        """
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}", PATIENCE)

    def stopping(self) -> None:
        """
        Say that no new work is begun.
        """
        self._send("STOPPING=1\nSTATUS=Finishing what is being committed", PATIENCE)

    def alive(self) -> None:
        """
        Say that the reactor answers.
        """
        self._send("WATCHDOG=1")

    def _send(self, message: str, patience: float = 0) -> None:
        if not self.address:
            return
        address = self.address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(patience)
            try:
                sender.sendto(message.encode("utf-8"), address)
            except OSError:
                # The manager has its own ways to find out.
                return


def watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """
    Seconds between signs of life, half of what is allowed; None if none are wanted.
    """
    usec = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000 or None


def start_watchdog(
    notifier: Notifier, interval: float, clock: IReactorTime
) -> Callable[[], None]:
    """
    Give a sign of life every *interval* seconds, as long as the reactor runs.

    :returns: ends it.
    """
    loop = LoopingCall(notifier.alive)
    loop.clock = clock
    loop.start(interval)
    return loop.stop
