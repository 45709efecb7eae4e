"""
What tests of metrics share: asking for the page, and reading it.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs import PATIENCE

LAST_SUCCESS = "realize_move_last_success_timestamp_seconds"


def wait_until_open(port: int) -> None:
    """
    The daemon opens this one after the port for its peers.
    """

    def is_open() -> bool:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    wait_until(is_open, f"port {port}")


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """
    The first true answer of *condition*.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.05)


def get(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> Any:
    """
    The response to a request, with its body in ``body``.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, headers=headers)
    response: Any = connection.getresponse()
    response.body = response.read()
    connection.close()
    return response


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """
    Values of a series by the values of its labels, sorted by the labels' names.
    """
    return {
        tuple(value for _label, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def grow(directory: Path, count: int, size: int = 100) -> None:
    """
    Put so many files into a directory.
    """
    directory.mkdir(exist_ok=True)
    for number in range(count):
        (directory / f"f{number}").write_bytes(os.urandom(size))
