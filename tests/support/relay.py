"""
A TCP relay that counts what it passes on, and can cut its connections.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from attrs import define, field

_BLOCK = 64 * 1024


@define(eq=False)
class Relay:
    """
    Listens on a port of loopback and passes everything on to another.

    :ivar arrived: when something came from whoever connected, and how many bytes.
    """

    target: int
    arrived: list[tuple[float, int]] = field(factory=list)
    _listening: socket.socket = field(init=False)
    _open: list[socket.socket] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """
        Where it listens.
        """
        port: int = self._listening.getsockname()[1]
        return port

    def rate(self, begin: float, end: float) -> float:
        """
        Bytes per second between two times of ``time.monotonic``.
        """
        nbytes = sum(size for when, size in self.arrived if begin <= when < end)
        return nbytes / (end - begin)

    def cut(self) -> None:
        """
        Lose all connections that there are.
        """
        lost, self._open = self._open, []
        for each in lost:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """
        Lose them, and accept no more.
        """
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _address = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self._open += [here, there]
                for ends in ((here, there, True), (there, here, False)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, count: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_BLOCK):
                if count:
                    self.arrived.append((time.monotonic(), len(data)))
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
