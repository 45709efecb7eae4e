"""
What this machine could do at best: what each byte and each file has to cost.

    python -m benchmarks.limits [--work DIR] [--write]

prints a table, and with ``--write`` puts it into ``docs/performance.md``.  A minute.

Processor time is what is measured, since both ends of a move share the machine.  Of
calls of the kernel only its own time counts, so that the language does not matter.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import Final

import click
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.data import write_files
from realize.store.guard import ignore_lease_signals
from realize.store.syscalls import rename_noreplace, sync_file_system
from tests.support.flood import Plan, measure

GIB: Final = 1024 * 1024 * 1024
DOCS: Final = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN: Final = "<!-- begin: written by python -m benchmarks.limits -->\n"
END: Final = "<!-- end of limits -->\n"

_MEMORY: Final = "/dev/shm"  # noqa: S108
_BLOCK: Final = 1024 * 1024
_RECORD: Final = 16 * 1024
_FILES: Final = 10_000
_SIZE: Final = 4096
_ROUNDS: Final = 3


def best(work: Callable[[], object]) -> tuple[float, float]:
    """
    :returns: seconds, and seconds of processor time in the kernel and outside, of the
        round that took least of it.
    """
    rounds = []
    for _ in range(_ROUNDS):
        began, used = time.perf_counter(), time.process_time()
        work()
        rounds.append((time.process_time() - used, time.perf_counter() - began))
    used, took = min(rounds)
    return took, used


def in_kernel(work: Callable[[], object]) -> float:
    """
    Seconds of the kernel's own processor time.
    """
    began = getrusage(RUSAGE_SELF).ru_stime
    work()
    return getrusage(RUSAGE_SELF).ru_stime - began


# -- bytes


def bytes_table(memory: Path) -> Iterator[str]:
    """
    What a GiB costs.

    :param memory: an empty directory on tmpfs.
    """
    yield "| a GiB | reached | processor time |"
    yield "|---|---|---|"
    noise = os.urandom(_BLOCK)
    file = memory / "noise"
    with file.open("wb", buffering=0) as out:
        for _ in range(GIB // _BLOCK):
            out.write(noise)
    buffer = bytearray(_BLOCK)
    target = os.open(memory / "target", os.O_RDWR | os.O_CREAT)

    def read() -> None:
        with file.open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass

    def write() -> None:
        os.ftruncate(target, 0)
        for offset in range(0, GIB, _BLOCK):
            os.pwrite(target, noise, offset)

    def digest() -> None:
        hasher = blake3()
        for _ in range(GIB // _BLOCK):
            hasher.update(noise)

    cipher = AESGCM(bytes(32))
    nonce, record = bytes(12), noise[:_RECORD]

    def encrypt() -> None:
        for _ in range(GIB // _RECORD):
            cipher.encrypt(nonce, record, None)

    for name, work in (
        ("reading a file that is in memory", read),
        ("writing a file, in memory", write),
        ("TCP over loopback, both ends", _loopback),
        ("BLAKE3, one thread", digest),
        ("AES-256-GCM, 16 KiB at a time", encrypt),
    ):
        took, used = best(work)
        yield f"| {name} | {GIB / took / 1e9:.2f} GB/s | {used:.2f} s |"
    os.close(target)
    starting = measure(Plan(wrapped=False, seconds=0)).cpu
    arrived = measure(Plan(wrapped=False, seconds=3.5))
    reached = arrived.between(0.5, 3.5)
    used = (arrived.cpu - starting) / sum(arrived.totals[-1]) * GIB
    reached /= 1e9
    yield f"| TLS 1.3 with Twisted, both ends | {reached:.2f} GB/s | {used:.2f} s |"


def _loopback() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
    ):
        receiver, _ = server.accept()
        thread = threading.Thread(target=_send, args=[sender])
        thread.start()
        buffer = bytearray(_BLOCK)
        left = GIB
        with receiver:
            while left:
                left -= receiver.recv_into(buffer, min(left, _BLOCK))
        thread.join()


def _send(sender: socket.socket) -> None:
    block = bytes(_BLOCK)
    for _ in range(GIB // _BLOCK):
        sender.sendall(block)


# -- files


def files_table(work: Path, count: int = _FILES) -> Iterator[str]:
    """
    What a small file costs the kernel, with the calls that a move cannot do without.

    :param work: an empty directory on the disk that is measured.
    :param count: how many are made.
    """
    yield f"| a file of {_SIZE // 1024} KiB | the kernel's time |"
    yield "|---|---|"
    source, destination = work / "source", work / "destination"
    write_files(source, count, _SIZE, 200)
    names = [path.relative_to(source) for path in sorted(source.glob("*/*"))]
    for directory in {name.parent for name in names}:
        (destination / directory).mkdir(parents=True)
        (source / directory / "hidden").mkdir()
    os.sync()
    data = os.urandom(_SIZE)
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        (
            "source: open with lease, look, read, look again",
            lambda: _read(source, names),
        ),
        ("destination: make, lock, write", lambda: _write(destination, names, data)),
        (
            "destination: mode, time, sync together, rename",
            lambda: _finish(destination, names),
        ),
        ("source: open with lease, hide, look, remove", lambda: _remove(source, names)),
    )
    total = 0.0
    for name, step in steps:
        used = in_kernel(step) / count * 1e6
        total += used
        yield f"| {name} | {used:.0f} µs |"
    yield f"| both ends | {total:.0f} µs |"


def _read(source: Path, names: list[Path]) -> None:
    for name in names:
        fd = os.open(source / name, os.O_RDONLY)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        os.fstat(fd)
        os.read(fd, _SIZE)
        os.stat(source / name)
        os.close(fd)


def _write(destination: Path, names: list[Path], data: bytes) -> None:
    for name in names:
        path = destination / name.with_name(f".{name.name}.part")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.pwrite(fd, data, 0)
        os.close(fd)


def _finish(destination: Path, names: list[Path]) -> None:
    now = time.time_ns()
    for name in names:
        path = destination / name.with_name(f".{name.name}.part")
        os.chmod(path, 0o640)
        os.utime(path, ns=(now, now))
    fd = os.open(destination, os.O_RDONLY)
    sync_file_system(fd)
    for name in names:
        part = os.fsencode(destination / name.with_name(f".{name.name}.part"))
        rename_noreplace(fd, part, fd, os.fsencode(destination / name))
    os.close(fd)


def _remove(source: Path, names: list[Path]) -> None:
    for name in names:
        path, hidden = source / name, source / name.parent / "hidden" / name.name
        fd = os.open(path, os.O_RDONLY)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        os.fstat(fd)
        rename_noreplace(fd, os.fsencode(path), fd, os.fsencode(hidden))
        os.stat(hidden)
        os.unlink(hidden)
        os.close(fd)


@click.command()
@click.option(
    "--work",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/var/tmp",  # noqa: S108
    show_default=True,
    help="Where files are made and removed.",
)
@click.option("--write", is_flag=True, help="Put the tables into docs/performance.md.")
def main(work: Path, write: bool) -> None:
    """
    Measure what each byte and each file has to cost.
    """
    ignore_lease_signals()
    lines: list[str] = []
    with (
        TemporaryDirectory(dir=_MEMORY) as memory,
        TemporaryDirectory(dir=work) as disk,
    ):
        for table in (bytes_table(Path(memory)), files_table(Path(disk).resolve())):
            for line in table:
                click.echo(line)
                lines.append(line)
            lines.append("")
    if write:
        before, _, rest = DOCS.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        DOCS.write_text(before + BEGIN + "\n" + "\n".join(lines) + END + after)


if __name__ == "__main__":
    main()
