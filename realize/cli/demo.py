"""
``realize demo``: a whole move on one machine, with a daemon and keys of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from realize.cli import demo_tree
from realize.cli.exits import Exit
from realize.cli.options import configured
from realize.errors import ConfigError, RealizeError
from realize.units import format_size

#: Seconds for the daemon to start listening, and to leave.
PATIENCE: Final = 30.0

#: A Ctrl-C while Python still loads it ends it without a traceback.
_REALIZE: Final = (
    sys.executable,
    "-c",
    "from signal import SIG_DFL, SIGINT, default_int_handler, signal;"
    " signal(SIGINT, SIG_DFL); from realize.cli.main import main;"
    " signal(SIGINT, default_int_handler); main()",
)
_TWISTD: Final = (
    sys.executable,
    "-c",
    "from twisted.scripts.twistd import run; run()",
)

_FOR_REAL: Final = """
The same for real (the README walks through it), from the host "camera", where files
appear, to the host "archive", which keeps them:

  archive$ realize keygen host.key       # prints the public key for camera's config
  archive$ cat config.toml
      privkey = "host.key"
      [directories.inbox]
      path = "/srv/inbox"
      put = ["camera"]
      [peers.camera]
      pubkey = "<what keygen printed on camera>"
  archive$ twistd realized --config config.toml

  camera$ realize keygen host.key        # prints the public key for archive's config
  camera$ cat config.toml
      privkey = "host.key"
      [peers.archive]
      address = "archive.example:9771"
      pubkey = "<what keygen printed on archive>"
  camera$ realize --config config.toml /var/spool/camera archive:inbox"""


class _Terminated(KeyboardInterrupt):
    """
    A signal that only this process was sent, not the ones it started.
    """


@click.command(short_help="Show a whole move on this machine.")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
@configured
def command(directory: str | None, config: str | None, privkey: str | None) -> int:
    """
    Show a whole move on this machine.

    Starts a private realized under twistd on the loopback interface, with throw-away
    keys, moves a tree through it over TLS, checks every byte, and cleans up.

    The tree is generated.  With DIR it is a copy of that directory: DIR itself is
    only read.  --config and --privkey are not used: the demonstration makes its own.
    """
    with _signals_raise(), _scratch() as scratch:
        return _demonstrate(scratch, Path(directory) if directory else None)


def _demonstrate(scratch: Path, directory: Path | None) -> int:
    source, inbox = scratch / "camera", scratch / "archive"
    source.mkdir()
    inbox.mkdir()
    _fill(source, directory)
    before = demo_tree.checksums(source)
    click.echo(f"  {len(before):,} files, {format_size(demo_tree.tree_size(source))}\n")

    config = _prepare(scratch, inbox, port := _free_port())
    words = ("twistd", "-n", "realized", "--config", "archive.toml")
    click.echo(f"archive$ {' '.join(words)}    (on 127.0.0.1:{port})")
    with _daemon(scratch, port):
        click.echo("camera$  realize --config camera.toml camera archive:inbox\n")
        status = _move(config, source)
    if status not in (Exit.MOVED, Exit.FAILED, Exit.DEFERRED):
        return status
    return _verify(before, source, inbox) or status


def _fill(source: Path, directory: Path | None) -> None:
    if directory is None:
        _need_room(source, demo_tree.LARGE_SIZE + 16 * 1024 * demo_tree.SMALL_FILES)
        click.echo("Making up files that a camera might have left ...")
        demo_tree.generate(source)
        return
    if not directory.is_dir():
        raise ConfigError(f"DIR: {directory}: no such directory")
    if source.resolve().is_relative_to(directory.resolve()):
        raise ConfigError(
            f"DIR: {directory}: holds the folder for temporary files, to which it "
            "would be copied; let TMPDIR name another"
        )
    try:
        _need_room(source, demo_tree.tree_size(directory))
        click.echo(f"Copying {directory}, which is only read ...")
        demo_tree.copy(directory, source)
    except shutil.Error as error:  # its arguments are lists of (from, to, why)
        raise RealizeError(f"DIR: cannot be copied: {error.args[0][0][2]}") from None
    except OSError as error:
        raise RealizeError(f"DIR: cannot be copied: {error}") from None


def _need_room(place: Path, nbytes: int) -> None:
    """
    Make sure that the tree has room twice, and something to spare.
    """
    free = shutil.disk_usage(place).free
    needed = 2 * nbytes + 64 * 1024 * 1024
    if free < needed:
        raise ConfigError(
            f"{place.parent}: the demonstration needs {format_size(needed)} and only "
            f"{format_size(free)} are free; let TMPDIR name a roomier place"
        )


def _prepare(scratch: Path, inbox: Path, port: int) -> Path:
    """
    Write the keys and configurations of both ends; returns that of the command.
    """
    from realize.net.keys import generate_key, public_bytes
    from realize.peers import public_key_text

    keys = {}
    for name in ("archive", "camera"):
        key = generate_key(scratch / f"{name}.key")
        keys[name] = public_key_text(public_bytes(key))
    (scratch / "archive.toml").write_text(
        'privkey = "archive.key"\n\n'
        f'[directories.inbox]\npath = {json.dumps(str(inbox))}\nput = ["camera"]\n\n'
        f'[peers.camera]\npubkey = "{keys["camera"]}"\n\n'
        f'[service]\naddress = "127.0.0.1:{port}"\n'
    )
    config = scratch / "camera.toml"
    config.write_text(
        'privkey = "camera.key"\n\n'
        f'[peers.archive]\naddress = "127.0.0.1:{port}"\n'
        f'pubkey = "{keys["archive"]}"\n'
    )
    return config


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _daemon(scratch: Path, port: int) -> Iterator[None]:
    """
    A daemon that listens, for as long as the block runs.
    """
    log = scratch / "realized.log"
    arguments = ("-n", "--pidfile=", "realized", "--config", "archive.toml")
    with log.open("wb") as file:
        daemon = subprocess.Popen(  # noqa: S603
            [*_TWISTD, *arguments],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for the move
        )
    try:
        _await_listening(daemon, port, log)
        yield
    finally:
        _end(daemon)


def _await_listening(daemon: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    lines = log.read_text(errors="backslashreplace").strip().splitlines()
    raise RealizeError(
        f"realized did not start: {lines[-1] if lines else 'it said nothing'}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _move(config: Path, source: Path) -> int:
    """
    The command itself, just as a user would start it.
    """
    words = ("move", "--config", str(config), str(source), "archive:inbox")
    move = subprocess.Popen([*_REALIZE, *words])  # noqa: S603
    try:
        return move.wait()
    except _Terminated:
        return Exit.INTERRUPTED
    except KeyboardInterrupt:
        # It had the same Ctrl-C, and ends by itself; or not, on the next one.
        try:
            status = move.wait(PATIENCE)
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
        return status if status >= 0 else Exit.INTERRUPTED
    finally:
        if move.poll() is None:
            _end(move)


def _verify(before: dict[bytes, bytes], source: Path, inbox: Path) -> int:
    after = demo_tree.checksums(inbox)
    left = demo_tree.checksums(source)
    wrong = [path for path, digest in before.items() if after.get(path) != digest]
    click.echo(
        f"\nChecked with BLAKE3: {len(before) - len(wrong):,} of {len(before):,} files "
        f"arrived as they were; {len(left):,} are left at the source."
    )
    if wrong or left:
        return Exit.FAILED
    click.echo(_FOR_REAL)
    return Exit.MOVED


@contextmanager
def _scratch() -> Iterator[Path]:
    """
    A folder of our own that goes whatever happens.
    """
    folder = Path(tempfile.mkdtemp(prefix="realize-demo-"))
    try:
        yield folder
    finally:
        for path, directories, _ in os.walk(folder):
            for name in directories:
                child = Path(path, name)
                if not child.is_symlink():
                    child.chmod(0o700)  # a copied one may keep us out
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """
    Let SIGTERM and SIGHUP end the demonstration as Ctrl-C does, cleaning up.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
