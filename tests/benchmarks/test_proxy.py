"""
The proxy passes everything on, late and counted.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from benchmarks.proxy import Direction

DELAY = 0.05


@contextmanager
def line(delay: float) -> Iterator[tuple[socket.socket, socket.socket, Direction]]:
    """
    Two ends, and the direction from the first to the second.
    """
    near, entry = socket.socketpair()
    leave, far = socket.socketpair()
    with closing(near), closing(entry), closing(leave), closing(far):
        direction = Direction(entry, leave, delay)
        direction.start()
        yield near, far, direction


def received(end: socket.socket) -> bytes:
    """
    All until the end.
    """
    data = bytearray()
    while block := end.recv(1 << 20):
        data += block
    return bytes(data)


def test_bytes_arrive_in_order_and_late() -> None:
    """
    Not before the delay, however many there are; and the end comes last.
    """
    sent = bytes(range(256)) * 40_000
    with line(DELAY) as (near, far, direction):
        began = time.monotonic()
        near.sendall(b"first")
        assert far.recv(5) == b"first"
        assert time.monotonic() - began >= DELAY

        sender = threading.Thread(target=near.sendall, args=(sent,))
        sender.start()
        got = far.recv(len(sent), socket.MSG_WAITALL)
        sender.join()
        near.shutdown(socket.SHUT_WR)

        assert got == sent
        assert received(far) == b""
        assert direction.count == len(sent) + 5


@pytest.mark.alone
@pytest.mark.parametrize("blocks", [40])
def test_a_delay_does_not_limit_the_rate(blocks: int) -> None:
    """
    Blocks are under way together: forty of them take little longer than one.
    """
    with line(DELAY) as (near, far, _):
        began = time.monotonic()
        for _ in range(blocks):
            near.sendall(bytes(1000))
            time.sleep(0.001)
        near.shutdown(socket.SHUT_WR)
        assert len(received(far)) == blocks * 1000
        assert time.monotonic() - began < blocks * DELAY / 2


def test_bytes_that_nobody_takes_do_not_stop_the_sender() -> None:
    """
    An end that has gone is no reason for the other to wait for ever.
    """
    with line(0.0) as (near, far, direction):
        far.close()
        for _ in range(20):
            near.sendall(bytes(1 << 20))
        near.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 10
        while direction.count < 20 << 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert direction.count == 20 << 20
