"""
What is said of a process is what it used.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.processes import Failed, Process, Server, free_port, serving

MIB = 1024 * 1024


def python(program: str) -> list[str]:
    """
    A command that runs a program.
    """
    return [sys.executable, "-I", "-S", "-c", program]


def test_time_and_memory(tmp_path: Path) -> None:
    """
    Of the process and the children it waited for, and nothing of ours.
    """
    ballast = bytearray(100 * MIB)
    small = Process(python("pass"), tmp_path / "small.log").finish()
    busy = Process(
        python("x = b'1' * (60 << 20)\nfor n in range(4_000_000): pass"),
        tmp_path / "busy.log",
    ).finish()
    child = "import os\nif os.fork(): os.wait()\nelse: x = b'1' * (60 << 20)"
    parent = Process(python(child), tmp_path / "parent.log").finish()

    assert small.memory < 30 * MIB < 60 * MIB < min(busy.memory, parent.memory)
    assert busy.cpu > small.cpu
    assert busy.seconds >= busy.cpu * 0.9
    del ballast


def test_a_failure_says_what_the_program_said(tmp_path: Path) -> None:
    """
    With its status.
    """
    process = Process(python("import sys\nsys.exit('no luck')"), tmp_path / "log")
    with pytest.raises(Failed, match=r"status 1\nno luck"):
        process.finish()
    with pytest.raises(Failed, match="did not start"):
        Process(["/nonexistent"], tmp_path / "log").finish()


SERVER = """
import socket, sys
x = b'1' * (40 << 20)
for n in range({before}): pass
with socket.create_server(('127.0.0.1', {port})) as server:
    while True:
        server.accept()[0].close()
"""


def test_a_server_is_not_charged_for_starting(tmp_path: Path) -> None:
    """
    Processor time counts from when it listens; memory always.
    """
    port = free_port()
    program = SERVER.format(port=port, before=20_000_000)
    server = Server(python(program), tmp_path / "log", port=port)
    with serving([server]):
        assert server.usage is None
    assert server.usage is not None
    assert server.usage.cpu < 0.2
    assert server.usage.memory > 40 * MIB
    assert not server.running()


RESTLESS = """
import signal, socket, sys
def end(*_):
    for n in range(20_000_000): pass
    sys.exit()
signal.signal(signal.SIGTERM, end)
server = socket.create_server(('127.0.0.1', {port}))
for n in range(20_000_000): pass
while True:
    server.accept()[0].close()
"""


@pytest.mark.parametrize("at_rest", [False, True])
def test_what_a_server_uses_at_rest(tmp_path: Path, at_rest: bool) -> None:
    """
    Without the part of its start that comes after it listens, and without its end.
    """
    port = free_port()
    words = python(RESTLESS.format(port=port))
    server = Server(words, tmp_path / "log", port=port, at_rest=at_rest)
    with serving([server]):
        pass
    assert server.usage is not None
    assert (server.usage.cpu < 0.1) == at_rest


def test_a_server_that_does_not_come_up_is_a_failure(tmp_path: Path) -> None:
    """
    With what it said.
    """
    server = Server(python("print('taken')"), tmp_path / "log", port=free_port())
    with pytest.raises(Failed, match="taken"), serving([server]):
        pytest.fail("it does not listen")
