"""
What a daemon says of its limits and of what it is doing.

As all that is sent: fields are in order, new ones go to the end, with a default.
"""

from __future__ import annotations

from typing import Final

from realize.errors import BadRequest
from realize.model import Natural, Path, Seconds, Value
from realize.texts import Label, Line
from realize.units import check_rate

#: How the lifting of a limit is written in a command.
OFF: Final = "off"


class Throttle(Value, frozen=True):
    """
    The limits of one scope, in bytes per second; None where there is none.

    :ivar scope: ``service``, ``peer`` or ``connection``.
    :ivar name: of the peer; empty for the service.
    :ivar connection: number of the connection; 0 for other scopes.
    :ivar send: on what the answering end sends.
    :ivar receive: on what it receives.
    :ivar effective_send: the same with the wider scopes, of which the smallest holds.
    :ivar effective_receive: the same.
    :ivar send_seconds: how long the limit holds, if it was set for a time.
    :ivar receive_seconds: the same.
    """

    scope: Label
    name: Label = Label("")
    connection: Natural = 0
    send: Natural | None = None
    receive: Natural | None = None
    effective_send: Natural | None = None
    effective_receive: Natural | None = None
    send_seconds: Seconds | None = None
    receive_seconds: Seconds | None = None


class ConnectionStatus(Value, frozen=True):
    """
    What one connection is doing.

    :ivar throttle: its limits, and with them its number and its peer.
    :ivar address: where it comes from.
    :ivar software: what its peer calls itself.
    :ivar seconds: how long it has been there.
    :ivar sent: bytes so far.
    :ivar received: bytes so far.
    :ivar send_rate: bytes per second, over the last second.
    :ivar receive_rate: the same.
    :ivar queued: bytes that a limit holds back now.
    :ivar stores: what it has open: ``put inbox``, ``take outbox``.
    :ivar is_own: whether it is the one that asked.
    """

    throttle: Throttle
    address: Label
    software: Label
    seconds: Seconds
    sent: Natural
    received: Natural
    send_rate: Natural
    receive_rate: Natural
    queued: Natural
    stores: list[Line]
    is_own: bool


class PartialStatus(Value, frozen=True):
    """
    A file under construction.

    :ivar path: below the directory.
    :ivar size: bytes that it will have.
    :ivar have: bytes that it has.
    :ivar peer: who sends it.
    """

    path: Path
    size: Natural
    have: Natural
    peer: Label


class DirectoryStatus(Value, frozen=True):
    """
    A directory that is offered.

    :ivar name: its id.
    :ivar trouble: why it cannot be used; empty if it can.
    :ivar free: bytes free on its file system; None if that is not known.
    :ivar partial_files: how many files are under construction.
    :ivar partial_bytes: bytes in them.
    :ivar partials: some of them.
    :ivar doubts: what is not believed of its file system, and what follows.
    """

    name: Label
    trouble: Line
    free: Natural | None
    partial_files: Natural
    partial_bytes: Natural
    partials: list[PartialStatus]
    doubts: list[Line]


class Status(Value, frozen=True):
    """
    What a daemon is doing.

    :ivar software: name and version.
    :ivar seconds: how long it has been running.
    """

    software: Label
    seconds: Seconds
    service: Throttle
    peers: list[Throttle]
    connections: list[ConnectionStatus]
    directories: list[DirectoryStatus]


def rate_text(rate: int | None) -> str:
    """
    A limit as commands have it.
    """
    return OFF if rate is None else str(rate)


def read_rates(**texts: str | None) -> dict[str, int | None]:
    """
    Limits as commands have them, those that were left out left out.

    :raises BadRequest: one is not valid; says what is.
    """
    return {
        name: _read_rate(name, text) for name, text in texts.items() if text is not None
    }


def _read_rate(name: str, text: str) -> int | None:
    if text == OFF:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest(
            f'{name}: a limit is a number of bytes per second, or "off"; got '
            f"{text[:40]!r}"
        )
    try:
        check_rate(int(text))
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None
    return int(text)
