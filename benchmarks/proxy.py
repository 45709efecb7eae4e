"""
A TCP proxy that delays what it passes on, and counts it.

    python -m benchmarks.proxy LISTEN_PORT TARGET_PORT SECONDS COUNTS

Bytes arrive *SECONDS* after they were sent, in each direction, at any rate: there is a
thread for each end of each direction and a queue between them.  The counts (JSON:
bytes towards the target, bytes back) are written to the file COUNTS at SIGTERM.

What it does not have of a long line: TCP's own windows and slow start, since each side
talks to the proxy over loopback, and the round trip of connecting.
"""

from __future__ import annotations

import json
import queue
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType

#: Bytes read at a time.
_BLOCK = 256 * 1024

#: Blocks that are under way in one direction, at most: 512 MiB, were all of them full.
_UNDER_WAY = 2048


class Direction:
    """
    Bytes from one socket to another.

    :ivar count: bytes received so far.
    """

    def __init__(
        self, source: socket.socket, target: socket.socket, delay: float
    ) -> None:
        self.count = 0
        self._source = source
        self._target = target
        self._delay = delay
        self._queue: queue.Queue[tuple[float, bytes]] = queue.Queue(_UNDER_WAY)

    def start(self) -> None:
        """
        Pass bytes on until the source ends, then end the target.
        """
        for work in (self._receive, self._send):
            threading.Thread(target=work, daemon=True).start()

    def _receive(self) -> None:
        data = b"..."
        while data:
            try:
                data = self._source.recv(_BLOCK)
            except OSError:
                data = b""
            self.count += len(data)
            self._queue.put((time.monotonic() + self._delay, data))

    def _send(self) -> None:
        while True:
            due, data = self._queue.get()
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            try:
                if not data:
                    self._target.shutdown(socket.SHUT_WR)
                    return
                self._target.sendall(data)
            except OSError:
                # Nobody wants it; what is still to come is received and dropped.
                self._target = _Nowhere()  # type: ignore[assignment]


class _Nowhere:
    """
    Takes the place of a socket whose other end has gone.
    """

    def sendall(self, data: bytes) -> None:
        """
        Drop it.
        """

    def shutdown(self, how: int) -> None:
        """
        There is nothing to end.
        """


def serve(listen: int, target: int, delay: float, counts: Path) -> None:
    """
    Accept connections until SIGTERM.
    """
    there: list[Direction] = []
    back: list[Direction] = []

    def stop(number: int, frame: FrameType | None) -> None:
        sums = [sum(one.count for one in many) for many in (there, back)]
        counts.write_text(json.dumps(sums))
        sys.exit()

    signal.signal(signal.SIGTERM, stop)
    with socket.create_server(("127.0.0.1", listen), backlog=64) as server:
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", target))
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            there.append(Direction(client, upstream, delay))
            back.append(Direction(upstream, client, delay))
            there[-1].start()
            back[-1].start()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
