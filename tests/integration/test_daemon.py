"""
A real daemon and clients that talk to it over real sockets.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from realize.errors import DirectoryGone, NotAllowed, PeerGone, PeerRefused
from realize.model import Directory, Finish, Finished, Offer, Piece
from realize.net.address import client_endpoint
from realize.net.keys import generate_key, load_private_key, public_bytes
from realize.peers import Address, public_key_text
from realize.wire.remote import Connection, connect
from tests.support.daemon import RunningDaemon, running_daemon
from tests.support.requirements import needs


@define
class Host:
    """
    A host that offers an inbox to its one peer.
    """

    root: Path

    @property
    def options(self) -> tuple[str, ...]:
        """
        How to start its daemon.
        """
        return ("--config", str(self.root / "config.toml"), "--address", "127.0.0.1:0")

    @property
    def peer_key(self) -> Ed25519PrivateKey:
        """
        The private key of the peer.
        """
        return load_private_key(self.root / "laptop.key")

    async def connect(
        self, daemon: RunningDaemon, key: Ed25519PrivateKey | None = None
    ) -> Connection:
        """
        Connect with the key of the peer, or another.
        """
        server = load_private_key(self.root / "host.key")
        clock: Any = reactor
        return await connect(
            client_endpoint(reactor, Address("127.0.0.1", daemon.port)),
            key or self.peer_key,
            "archive",
            public_bytes(server),
            bytes(16),
            clock,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """
    A host that is set up.
    """
    peer = public_key_text(public_bytes(generate_key(tmp_path / "laptop.key")))
    generate_key(tmp_path / "host.key")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / ".mounted").touch()
    (tmp_path / "config.toml").write_text(
        f"""
        privkey = "host.key"
        [peers.laptop]
        pubkey = "{peer}"
        [directories.inbox]
        path = "{tmp_path}/inbox"
        marker = ".mounted"
        put = ["laptop"]
        [directories.secret]
        path = "{tmp_path}"
        """
    )
    return Host(tmp_path)


@pytest_twisted.ensureDeferred
async def test_what_a_peer_may_do(host: Host) -> None:
    """
    A peer is told of what it may use; forbidden and unknown look the same.
    """
    with running_daemon(host.root, *host.options) as daemon:
        connection = await host.connect(daemon)
        assert {
            name: (granted.take, granted.put, granted.replace)
            for name, granted in connection.granted.items()
        } == {"inbox": (False, True, False)}
        said = []
        for name in ("secret", "none"):
            with pytest.raises(NotAllowed) as raised:
                await connection.open_destination(name)
            said.append(str(raised.value).replace(name, "NAME"))
        assert said[0] == said[1]
        with pytest.raises(NotAllowed):
            await connection.open_source("inbox")
        await connection.close()


@pytest_twisted.ensureDeferred
async def test_a_stranger_learns_what_to_do(host: Host) -> None:
    """
    Whose key is unknown is told so, and which key the other side has to add.
    """
    stranger = Ed25519PrivateKey.generate()
    with running_daemon(host.root, *host.options) as daemon:
        with pytest.raises(PeerRefused) as raised:
            await host.connect(daemon, stranger)
        text = public_key_text(public_bytes(stranger))
        assert f'pubkey = "{text}"' in str(raised.value)
        assert "it does not know this host's key" in str(raised.value)


@pytest_twisted.ensureDeferred
async def test_a_directory_that_vanishes(host: Host) -> None:
    """
    What is not there any more is answered so, until it is back.
    """
    marker = host.root / "inbox" / ".mounted"
    with running_daemon(host.root, *host.options) as daemon:
        connection = await host.connect(daemon)
        marker.unlink()
        with pytest.raises(DirectoryGone):
            await connection.open_destination("inbox")
        marker.touch()
        await connection.open_destination("inbox")
        await connection.close()


@pytest_twisted.ensureDeferred
async def test_strangers_do_no_harm(host: Host) -> None:
    """
    Garbage, plain text and silence are refused with a line each, and a peer is served
    all the while.
    """
    with running_daemon(host.root, *host.options) as daemon:
        there = ("127.0.0.1", daemon.port)
        strangers = [socket.create_connection(there, timeout=10) for _ in range(3)]
        strangers[0].sendall(os.urandom(100_000))
        strangers[1].sendall(b"GET / HTTP/1.0\r\n\r\n")
        for stranger in strangers[:2]:
            await _closed(stranger)
        connection = await host.connect(daemon)
        await connection.open_destination("inbox")
        await connection.close()
        for stranger in strangers:
            stranger.close()
        daemon.logged(r"Refused 127\.0\.0\.1: TLS: http request\.")
        daemon.logged(r"Refused 127\.0\.0\.1: it left before its handshake was over\.")
    log = daemon.log.read_text()
    assert log.count("Refused") == 3
    assert "Traceback" not in log


def _flood(port: int, over: threading.Event) -> None:
    """
    A thousand new connections a second, from as many addresses, that say nothing.
    """
    opened: deque[socket.socket] = deque()
    began, count = time.monotonic(), 0
    try:
        while not over.wait(0.002):
            while count < (time.monotonic() - began) * 1000:
                stranger = socket.socket()
                stranger.setblocking(False)
                number = count % 1000
                stranger.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
                stranger.connect_ex(("127.0.0.1", port))
                opened.append(stranger)
                count += 1
                if len(opened) > 800:
                    opened.popleft().close()
    finally:
        for stranger in opened:
            stranger.close()


@pytest.mark.alone
@pytest_twisted.ensureDeferred
async def test_a_flood_from_everywhere(host: Host) -> None:
    """
    Who is known gets in within two seconds, and the log does not fill.
    """
    over = threading.Event()
    with running_daemon(host.root, *host.options) as daemon:
        flood = threading.Thread(target=_flood, args=(daemon.port, over))
        flood.start()
        try:
            await deferLater(reactor, 1)
            for _ in range(4):
                began = time.monotonic()
                connection = await host.connect(daemon)
                assert time.monotonic() - began < 2
                await connection.close()
        finally:
            over.set()
            flood.join()
        assert len(daemon.log.read_bytes()) < 50_000


@pytest_twisted.ensureDeferred
async def test_a_flood_of_strangers(host: Host) -> None:
    """
    One address that opens connections and says nothing has a few of them, no more.
    """
    with running_daemon(host.root, *host.options) as daemon:
        there = ("127.0.0.1", daemon.port)
        strangers = [socket.create_connection(there, timeout=10) for _ in range(12)]
        daemon.logged(r"Refused 127\.0\.0\.1: too many connections in their handshake")
        for stranger in strangers[:4]:
            await _closed(stranger)
        for stranger in strangers:
            stranger.close()
        connection = await host.connect(daemon)
        await connection.close()


async def _closed(stranger: socket.socket) -> None:
    """
    Wait until the other side has closed.
    """
    stranger.setblocking(False)
    for _attempt in range(500):
        try:
            if stranger.recv(1000) == b"":
                return
        except BlockingIOError:
            pass
        except ConnectionResetError:
            return
        await deferLater(reactor, 0.02)
    raise AssertionError("still open")


@pytest_twisted.ensureDeferred
async def test_permissions_whatever_the_umask(host: Host) -> None:
    """
    twistd's umask in the background is 0077; files and directories arrive as sent.
    """
    umask = ("sh", "-c", 'umask 077; exec "$@"', "sh")
    with running_daemon(host.root, *host.options, wrapper=umask) as daemon:
        connection = await host.connect(daemon)
        store = await connection.open_destination("inbox")
        await store.offer([Offer(b"new/file", 1)], [Directory(b"new", 0o755)])
        await store.write([Piece(b"new/file", 0, 1)], b"x")
        finish = Finish(b"new/file", 1, blake3(b"x").digest(), 0o664, 0)
        (finished,) = await store.finish([finish])
        assert isinstance(finished, Finished)
        await connection.close()
    new = host.root / "inbox" / "new"
    assert stat.S_IMODE(new.stat().st_mode) == 0o755
    assert stat.S_IMODE((new / "file").stat().st_mode) == 0o664


@needs("strace")
@pytest_twisted.ensureDeferred
async def test_stopping_finishes_a_commit(host: Host) -> None:
    """
    A daemon that is told to stop while it makes a file durable ends when the file has
    its name, and not before.
    """
    content = b"precious"
    slow = "inject=fsync,fdatasync:delay_enter=700000"
    strace = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", slow, "--")
    with running_daemon(host.root, *host.options, wrapper=strace) as daemon:
        connection = await host.connect(daemon)
        store = await connection.open_destination("inbox")
        await store.offer([Offer(b"file", len(content))], [])
        await store.write([Piece(b"file", 0, len(content))], content)
        digest = blake3(content).digest()
        finish = [Finish(b"file", len(content), digest, 0o600, 0)]
        outcome: list[object] = []
        Deferred.fromCoroutine(store.finish(finish)).addBoth(outcome.append)
        await deferLater(reactor, 0.5)
        assert not (host.root / "inbox" / "file").exists()
        os.kill(daemon.pid, signal.SIGTERM)
        await deferToThread(daemon.logged, r"Stopped\.$")
        assert (host.root / "inbox" / "file").read_bytes() == content
        await deferLater(reactor, 0.5)
        assert len(outcome) == 1


@pytest_twisted.ensureDeferred
async def test_a_client_hears_that_the_daemon_stops(host: Host) -> None:
    """
    It is told to come again, which its retries do.
    """
    with running_daemon(host.root, *host.options) as daemon:
        connection = await host.connect(daemon)
        store = await connection.open_destination("inbox")
        os.kill(daemon.pid, signal.SIGTERM)
        await deferToThread(daemon.logged, r"Stopped\.$")
        with pytest.raises(PeerGone, match="the service is stopping"):
            await store.offer([Offer(b"file", 1)], [])
