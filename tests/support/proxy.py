"""
A TCP connection that misbehaves.

    with Proxy.create(daemon.port) as proxy:
        connect_to(proxy.port)
        proxy.reset()

Bytes pass unchanged and in order, as with any TCP connection; but they may be held
up, come in small pieces, or stop coming.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from attrs import define, field

#: Close with a reset instead of the usual end.
_RESET: Final = struct.pack("ii", 1, 0)

_BLOCK: Final = 64 * 1024


@define(eq=False)
class Pair:
    """
    One connection: from the client, and on to the server.
    """

    client: socket.socket
    server: socket.socket


@define(eq=False)
class Proxy:
    """
    Listens on a port of its own and passes connections on.

    Everything may be called and set at any time, from any thread.

    :ivar target: port on this host that connections are passed on to.
    :ivar piece: most bytes passed on at once.
    :ivar delay: seconds that every piece is held up.
    :ivar passed: bytes so far, in both directions.
    :ivar connections: how many there have been.
    """

    target: int
    piece: int = _BLOCK
    delay: float = 0.0
    passed: int = field(default=0, init=False)
    connections: int = field(default=0, init=False)
    _listener: socket.socket = field(init=False)
    _flowing: threading.Event = field(factory=threading.Event, init=False)
    _pairs: list[Pair] = field(factory=list, init=False)
    _actions: list[tuple[int, Callable[[], object]]] = field(factory=list, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    @classmethod
    @contextmanager
    def create(cls, target: int) -> Iterator[Proxy]:
        """
        Start one, and cut everything in the end.
        """
        proxy = cls(target)
        proxy._flowing.set()
        proxy._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=proxy._accept, daemon=True).start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                proxy._listener.shutdown(socket.SHUT_RDWR)
            proxy._listener.close()
            proxy.cut()
            proxy.flow()

    @property
    def port(self) -> int:
        """
        Where to connect to.
        """
        port: int = self._listener.getsockname()[1]
        return port

    def after(self, nbytes: int, action: Callable[[], object]) -> None:
        """
        Do something once so many more bytes have passed.
        """
        with self._lock:
            self._actions.append((self.passed + nbytes, action))

    def stall(self) -> None:
        """
        Let nothing pass, but keep connections open.
        """
        self._flowing.clear()

    def flow(self) -> None:
        """
        Let bytes pass again.
        """
        self._flowing.set()

    def cut(self) -> None:
        """
        End all connections, as if the other side had closed them.
        """
        for pair in self._take():
            for side in (pair.client, pair.server):
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """
        End all connections by a reset.
        """
        for pair in self._take():
            _reset(pair.client)
            _reset(pair.server)

    def desert(self) -> None:
        """
        End them for the client only: the server sees a connection that is silent.
        """
        for pair in self._take():
            _reset(pair.client)

    def _take(self) -> list[Pair]:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        return pairs

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = Pair(client, server)
            with self._lock:
                self.connections += 1
                self._pairs.append(pair)
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(
                    target=self._pass, args=(one, other, pair), daemon=True
                ).start()

    def _pass(self, one: socket.socket, other: socket.socket, pair: Pair) -> None:
        with suppress(OSError):
            while data := one.recv(self.piece):
                if self.delay:
                    time.sleep(self.delay)
                self._flowing.wait()
                other.sendall(data)
                self._count(len(data))
        # A side that was deserted stays open, for as long as this object lives.
        if pair in self._pairs:
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)

    def _count(self, nbytes: int) -> None:
        with self._lock:
            self.passed += nbytes
            due = [each for each in self._actions if each[0] <= self.passed]
            self._actions = [each for each in self._actions if each not in due]
        for _, action in due:
            action()


def _reset(side: socket.socket) -> None:
    with suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # Wakes a thread that reads; the close that follows sends the reset.
        side.shutdown(socket.SHUT_RD)
    side.close()
