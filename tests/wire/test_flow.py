"""
What waits to be written, when the connection is about to be closed.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from realize.wire.flow import SLICE, Outbox


class Written:
    """
    A transport that keeps what it was given.
    """

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def writeSequence(self, pieces: Iterable[bytes | memoryview]) -> None:
        self.data += b"".join(pieces)


@pytest.fixture
def transport() -> Written:
    return Written()


@pytest.fixture
def unread() -> list[int]:
    """
    What was said of answers that wait.
    """
    return []


@pytest.fixture
def outbox(transport: Written, unread: list[int]) -> Outbox:
    """
    One whose transport has had enough.
    """
    outbox = Outbox(transport, unread.append)
    outbox.pauseProducing()
    return outbox


def test_answers_are_written_to_their_end(outbox, transport, unread):
    """
    And a short request behind them: it may say why the connection is closed.
    """
    answer = bytes(range(256)) * (3 * SLICE // 256)
    outbox.send(b"answer", answer, True)
    outbox.send(b"closing", b"", False)
    assert transport.data == b""

    outbox.release()

    assert transport.data == b"answer" + answer + b"closing"
    assert sum(unread) == 0


def test_payloads_of_requests_are_not(outbox, transport):
    """
    Who closes does not want what they were to bring about.
    """
    outbox.send(b"answer", b"1", True)
    outbox.send(b"write", bytes(SLICE), False)
    outbox.send(b"later", b"", True)

    outbox.release()

    assert transport.data == b"answer1"
