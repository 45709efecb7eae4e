"""
Finding the moves of this user's that run on this host, and asking them.

It needs no reactor.  What they say is data: typed, bounded, and printed as such.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    TypedDict,
    TypeVar,
    final,
)

import msgspec

from realize.cli.local_folder import folder, is_own_socket, open_folder, peer_user
from realize.errors import ConfigError, PeerGone
from realize.units import MAX_DURATION

#: Seconds to wait for the whole answer of a move.
ANSWER_DEADLINE: Final = 5.0

#: Longest request, and answer, in bytes.
MAX_LINE: Final = 64 * 1024

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Rate = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=MAX_DURATION)]
_Text = Annotated[str, msgspec.Meta(max_length=20_000)]


class LimitStatus(TypedDict):
    """
    One direction of a move; rates in bytes per second, null for no limit.
    """

    asked: _Rate
    effective: _Rate
    seconds_left: _Seconds | None
    rate: _Count


@final
class MoveStatus(TypedDict):
    """
    What a move answers.
    """

    pid: _Count
    source: _Text
    destination: _Text
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    files: _Count
    sent: _Count
    left: _Count
    complete: bool
    limits: dict[Literal["up", "down"], LimitStatus]
    said: NotRequired[_Text]


@final
class Refusal(TypedDict):
    """
    What a move answers to what is no request.
    """

    error: _Text


class NoSuchMove(PeerGone):
    """
    The move has ended, or never was.
    """


def running(environ: Mapping[str, str] = os.environ) -> Iterator[int]:
    """
    The process ids of moves that can be asked, in order.

    Sockets of moves that were killed are removed.

    :raises ConfigError: the folder is not this user's alone.
    """
    where = folder(environ)
    if where is None:
        return
    try:
        fd = open_folder(where)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}; no move is asked") from None
    try:
        names = [name for name in os.listdir(fd) if name.endswith(".sock")]
        for pid in sorted(int(name[:-5]) for name in names if name[:-5].isdecimal()):
            if not is_own_socket(fd, f"{pid}.sock"):
                continue
            try:
                _connect(where / f"{pid}.sock", ANSWER_DEADLINE).close()
            except ConnectionRefusedError:
                os.unlink(f"{pid}.sock", dir_fd=fd)
            except OSError:
                continue
            else:
                yield pid
    finally:
        os.close(fd)


def ask(
    pid: int, request: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> MoveStatus | Refusal:
    """
    Ask a running move.

    :raises NoSuchMove: there is none.
    :raises PeerGone: it does not answer, or not as a move does.
    :raises ConfigError: the folder of the sockets is not this user's alone.
    """
    where = folder(environ)
    if where is None:
        raise PeerGone("XDG_RUNTIME_DIR is not set, so running moves can't be found")
    try:
        os.close(open_folder(where))
        data = _exchange(where / f"{pid}.sock", json.dumps(request).encode() + b"\n")
    except PermissionError as error:
        raise ConfigError(f"{where}: {error.strerror}; no move is asked") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoSuchMove(f"no move of this user's runs as process {pid}") from None
    except OSError:
        raise PeerGone(f"the move in process {pid} does not answer") from None
    answer = _decode(data, MoveStatus) or _decode(data, Refusal)
    if answer is None:
        text = f"what listens for process {pid} does not answer as a move does"
        raise PeerGone(text)
    return answer


T = TypeVar("T")


def _decode(data: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError):
        return None


def _exchange(path: Path, request: bytes) -> bytes:
    """
    :raises OSError: there is no whole answer in time.
    """
    deadline = time.monotonic() + ANSWER_DEADLINE
    with _connect(path, ANSWER_DEADLINE) as connection:
        connection.sendall(request)
        data = b""
        while len(data) <= MAX_LINE:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            more = connection.recv(65536)
            if not more:
                break
            data += more
    return data


def _connect(path: Path, patience: float) -> socket.socket:
    """
    :raises OSError: nobody of this user's listens there.
    """
    with ExitStack() as otherwise:
        connection = otherwise.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(patience)
        connection.connect(os.fspath(path))
        if peer_user(connection) != os.geteuid():
            raise PermissionError(1, "another user listens there", os.fspath(path))
        otherwise.pop_all()
    return connection
