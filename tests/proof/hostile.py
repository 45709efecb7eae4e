"""
A peer that means harm, and strangers, against a daemon: raw boxes after a real TLS
handshake, without any code of ``realize``.

    python -m tests.proof.hostile '{"port": 9771, "key": "evil.key", "seconds": 30}'

Prints how often each attack was made, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from tests.proof.described import COMMANDS, Made

#: Seconds to wait for an answer, or with a frame that is not whole.
PATIENCE: Final = 5.0

#: Peers' connections, and strangers, at a time.
PEERS: Final = 10
STRANGERS: Final = 2

#: Most wrong texts in one: an answer's, and a word's.
LOUD: Final = b"\x1b]0;owned\x07\x1b[2J\n\xe2\x80\xae" * 2000


#: One of the methods of :class:`Evil`.
Attack = Callable[["Evil", Random], None]


class Ended(Exception):
    """
    The server has closed the connection, or says nothing.
    """


def certificate(key: Ed25519PrivateKey) -> bytes:
    """
    A certificate of a key and the key itself, in PEM.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .sign(key, None)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


def context(key: Ed25519PrivateKey) -> ssl.SSLContext:
    """
    TLS with that key, which takes the server for whoever it likes to be.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["realize"])
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate(key))
        file.flush()
        made.load_cert_chain(file.name)
    return made


def frame(box: dict[bytes, bytes], payload: bytes | None = None) -> bytes:
    """
    A box, and what follows it.
    """
    if payload is not None:
        box = {**box, b"payload": b"%d" % len(payload)}
    parts = [
        len(each).to_bytes(2, "big") + each
        for pair in box.items()
        for each in (pair[0], pair[1][:65_535])
    ]
    return b"".join(parts) + b"\0\0" + (payload or b"")


def headed(head: Any, content: bytes = b"") -> bytes:
    """
    A payload.
    """
    packed = msgspec.msgpack.encode(head)
    return len(packed).to_bytes(4, "big") + packed + content


@define
class Wire:
    """
    A connection of the peer.

    :ivar heard: bytes that are not looked at yet.
    """

    socket: ssl.SSLSocket
    heard: bytes = b""
    _asked: int = 0

    @classmethod
    def connect(cls, port: int, tls: ssl.SSLContext) -> Wire:
        """
        Connect and shake hands; the welcome is not read yet.
        """
        raw = socket.create_connection(("127.0.0.1", port), PATIENCE, ("127.0.0.2", 0))
        try:
            return cls(tls.wrap_socket(raw))
        except BaseException:
            raw.close()
            raise

    def welcome(self, token: bytes, software: bytes = b"evil") -> None:
        """
        Answer the welcome.
        """
        box = self.welcomed()
        answer = {
            b"_answer": box[b"_ask"],
            b"version": box[b"version"],
            b"software": software,
            b"token": token,
            b"compress": b"always",
        }
        self.send(answer)

    def welcomed(self) -> dict[bytes, bytes]:
        """
        The welcome; there is none if there are too many of us.
        """
        box, _ = self.receive()
        if box.get(b"_command") != b"Welcome":
            raise Ended
        return box

    def send(self, box: dict[bytes, bytes], payload: bytes | None = None) -> None:
        """
        Send a box.
        """
        self.socket.sendall(frame(box, payload))

    def _take(self, count: int) -> bytes:
        while len(self.heard) < count:
            more = self.socket.recv(65_536)
            if not more:
                raise Ended
            self.heard += more
        taken, self.heard = self.heard[:count], self.heard[count:]
        return taken

    def receive(self) -> tuple[dict[bytes, bytes], bytes]:
        """
        The next box, and the payload that follows it.
        """
        box = {}
        while size := int.from_bytes(self._take(2), "big"):
            key = self._take(size)
            box[key] = self._take(int.from_bytes(self._take(2), "big"))
        return box, self._take(int(box.get(b"payload", b"0")))

    def ask(
        self, command: bytes, payload: bytes | None = None, **arguments: bytes | int
    ) -> tuple[dict[bytes, bytes], Any]:
        """
        Send a request, and wait for its answer: the box and the head.
        """
        tag = self.begin(command, payload, **arguments)
        while True:
            box, answer = self.receive()
            if tag in (box.get(b"_answer"), box.get(b"_error")):
                break
        if b"zstd" in box or not answer:
            return box, None
        size = int.from_bytes(answer[:4], "big")
        return box, msgspec.msgpack.decode(answer[4 : 4 + size])

    def begin(
        self, command: bytes, payload: bytes | None = None, **arguments: bytes | int
    ) -> bytes:
        """
        Send a request without waiting for anything.
        """
        self._asked += 1
        tag = b"%d" % self._asked
        box = {b"_command": command, b"_ask": tag}
        for key, value in arguments.items():
            box[key.encode()] = value if isinstance(value, bytes) else b"%d" % value
        self.send(box, payload)
        return tag

    def open(self, kind: bytes, directory: bytes = b"inbox") -> bytes:
        """
        Open a store.

        :returns: its number.
        """
        box, _ = self.ask(kind, directory=directory, below=b"")
        if b"store" not in box:
            raise Ended
        return box[b"store"]

    def listed(self, store: bytes) -> list[Any]:
        """
        The files of a source's first page.
        """
        _, page = self.ask(
            b"List", headed([[], True]), store=store, cursor=0, restore=b"False"
        )
        files: list[Any] = page[0] if page else []
        return files


@define
class Evil:
    """
    :ivar only: names of the attacks to make; all if there are none.
    :ivar made: how often each attack was made.
    """

    port: int
    key: Ed25519PrivateKey
    seconds: float
    seed: int
    only: list[str]
    made: Counter[str] = field(factory=Counter)
    _tls: ssl.SSLContext = field(init=False)
    _strange: ssl.SSLContext = field(init=False)
    _until: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tls = context(self.key)
        self._strange = context(Ed25519PrivateKey.generate())
        self._until = time.monotonic() + self.seconds

    def run(self) -> None:
        """
        Attack until the time is over.
        """
        loops = [self._peer] * PEERS + [self._stranger] * STRANGERS
        threads = [
            threading.Thread(target=loop, args=(Random(f"{self.seed} {number}"),))
            for number, loop in enumerate(loops)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    @property
    def over(self) -> bool:
        """
        Whether the time is.
        """
        return time.monotonic() > self._until

    @contextmanager
    def _wire(self, random: Random, software: bytes = b"evil") -> Iterator[Wire]:
        wire = Wire.connect(self.port, self._tls)
        with wire.socket:
            wire.welcome(random.randbytes(16), software)
            yield wire

    def _peer(self, random: Random) -> None:
        while not self.over:
            self._try(self._choice(PEER_ATTACKS, random), random)

    def _stranger(self, random: Random) -> None:
        while not self.over:
            self._try(self._choice(STRANGER_ATTACKS, random), random)

    def _choice(self, attacks: Sequence[Attack], random: Random) -> Attack:
        wanted = [each for each in attacks if each.__name__ in self.only]
        return random.choice((wanted or [_wait]) if self.only else attacks)

    def _try(self, attack: Attack, random: Random) -> None:
        self.made[attack.__name__] += 1
        with suppress(OSError, Ended):
            attack(self, random)
            self.made[f"{attack.__name__}, to its end"] += 1

    # What is held, and not given back.

    def names(self, random: Random) -> None:
        """
        Offer long names, and write nothing.
        """
        with self._wire(random) as wire:
            deep = b"/".join([b"d" * 250] * 14)
            for store in [wire.open(b"OpenDestination", b"pool") for _ in range(4)]:
                for batch in range(20):
                    files = [
                        [deep + b"/%d-%0200d" % (batch, number), 1]
                        for number in range(800)
                    ]
                    head = headed([files, []])
                    wire.ask(b"Offer", head, store=store, reserve=b"True")

    def descriptors(self, random: Random) -> None:
        """
        Begin as many files as go.
        """
        with self._wire(random) as wire:
            for number in range(8):
                store = wire.open(b"OpenDestination", b"pool")
                paths = [b"begun-%d-%d" % (number, each) for each in range(300)]
                offers = headed([[[path, 10] for path in paths], []])
                wire.ask(b"Offer", offers, store=store, reserve=b"True")
                pieces = headed([[path, 0, 1] for path in paths], bytes(300))
                wire.ask(b"Write", pieces, store=store)
            time.sleep(random.random())

    def promises(self, random: Random) -> None:
        """
        Have all room set aside.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenDestination")
            for power in range(63, 20, -1):
                offers = headed([[[b"promised-%d" % power, 2**power - 1]], []])
                wire.ask(b"Offer", offers, store=store, reserve=b"True")
            time.sleep(random.random())

    # Work that one causes and others wait for.

    def comparing(self, random: Random) -> None:
        """
        Have files digested that are huge, again and again, without waiting.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenDestination", b"pool")
            for path, size in ((b"large", 2**28), (b"hole", 2**40)):
                finish = [path, size, bytes(32), 0o644, 0]
                for _ in range(random.randint(1, 20)):
                    wire.begin(b"Compare", headed([finish] * 1000), store=store)
                    wire.begin(b"Compare", headed([finish]), store=store)
                    wire.begin(b"Finish", headed([finish]), store=store)
            time.sleep(random.random())

    def digesting(self, random: Random) -> None:
        """
        The same, of a source; and its signatures.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenSource", b"pool")
            for path, size, _, _, identity, *_ in wire.listed(store):
                for sparse in (True, False):
                    prefix = headed([[path, identity, size, sparse]])
                    wire.begin(b"Digest", prefix, store=store)
                    for page in range(3):
                        sign = headed([path, identity, 65_536, page, [], False, sparse])
                        wire.begin(b"Sign", sign, store=store)
            time.sleep(random.random())

    def spans(self, random: Random) -> None:
        """
        Ask for digests of single bytes, and of the same path a thousand times.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenDestination", b"pool")
            _, answer = wire.ask(
                b"Offer", headed([[[b"large", 1]], []]), store=store, reserve=b"False"
            )
            version = answer[0][3] if answer and len(answer[0]) > 3 else b""
            for offset in range(50):
                sign = [b"large", version, 2048, 0, [[offset, 1]], False, False]
                _, signed = wire.ask(b"Sign", headed(sign), store=store)
                # A digest of zeros is one that is not told.
                if signed and any(any(each[-1]) for each in signed[0]):
                    self.made["A SINGLE BYTE WAS SIGNED"] += 1

    # Nothing is read, or nothing comes to an end.

    def unread(self, random: Random) -> None:
        """
        Ask for much, and read nothing.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenSource", b"pool")
            files = wire.listed(store)
            wire.socket.settimeout(2)
            for _ in range(200):
                for path, size, _, _, identity, *_ in files:
                    most = min(size, 3_145_728)
                    ranges = headed([[path, identity, 0, most]])
                    wire.begin(b"Read", ranges, store=store)
                    wire.begin(b"GetThrottle", scope=b"connection")

    def slow(self, random: Random) -> None:
        """
        Read byte by byte.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenSource", b"pool")
            for _ in range(40):
                wire.begin(b"List", headed([[], True]), store=store, cursor=0)
            for _ in range(300):
                if not wire.socket.recv(1) or self.over:
                    break
                time.sleep(0.005)

    def stalling(self, random: Random) -> None:
        """
        Stop within a frame.
        """
        name = random.choice(sorted(COMMANDS))
        with self._wire(random) as wire:
            box, payload = Made(random).request(name)
            box = {b"_command": name.encode(), b"_ask": b"1", **box}
            sent = frame(box, payload)
            wire.socket.sendall(sent[: random.randrange(len(sent))])
            time.sleep(random.random() * 3)

    def trickling(self, random: Random) -> None:
        """
        Send a frame byte by byte.
        """
        with self._wire(random) as wire:
            box = {b"_command": b"L" * 255, b"_ask": b"1", b"a": b""}
            for each in frame(box):
                wire.socket.sendall(bytes([each]))

    # What is not what it should be.

    def anything(self, random: Random) -> None:
        """
        Requests of every kind in every order, with every value.
        """
        with self._wire(random) as wire:
            made = Made(random)
            wire.open(b"OpenSource", b"pool")
            wire.open(b"OpenDestination", b"pool")
            for file in wire.listed(b"1"):
                made.known.setdefault("identity", []).append(file[4])
                made.known.setdefault("version", []).append(file[4])
            wire.socket.settimeout(1)
            for number in range(100):
                name = random.choice(sorted(COMMANDS))
                box, payload = made.request(name)
                if name in ("SetThrottle", "CloseStore") and random.randrange(10):
                    continue
                if name not in ("Alive",):
                    box[b"_ask"] = b"r%d" % number
                wire.send({b"_command": name.encode(), **box}, payload)
                if random.randrange(3):
                    with suppress(TimeoutError):
                        wire.receive()

    def bombs(self, random: Random) -> None:
        """
        Compressed content that becomes much more, or that ends in no way.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenDestination", b"pool")
            offers = headed([[[b"bomb", 2**22]], []])
            wire.ask(b"Offer", offers, store=store, reserve=b"True")
            size = random.choice((3_000_000, 2**22, 2**40, 2**63 - 1))
            # RFC 8878: magic number, 8 bytes of size, and blocks of one byte repeated.
            block = ((random.choice((2**17, 2**21 - 1)) << 3) | 2).to_bytes(3, "little")
            content = b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little")
            content += (block + b"x") * random.choice((1, 23, 500_000))
            head = headed([[b"bomb", 0, min(size, 3_000_000)]], content)
            box = {b"_command": b"Write", b"_ask": b"z", b"store": store}
            wire.send({**box, b"zstd": b"%d" % size}, head)
            wire.receive()

    def texts(self, random: Random) -> None:
        """
        Texts for terminals and logs, in all that one says of itself.
        """
        wire = Wire.connect(self.port, self._tls)
        with wire.socket:
            if random.random() < 0.5:
                wire.welcome(random.randbytes(16), LOUD[: random.choice((100, 60_000))])
                wire.open(b"OpenDestination", LOUD[:60_000])
            else:
                box = wire.welcomed()
                code = random.choice((b"INTERNAL", b"DISK", LOUD[:60_000]))
                answer = {b"_error": box[b"_ask"], b"_error_code": code}
                wire.send({**answer, b"_error_description": LOUD[:60_000]})
            wire.receive()

    def odd(self, random: Random) -> None:
        """
        Files with times and modes at the edges of what there is.
        """
        times = (-(2**63), 2**63 - 1, 2**64 - 1, -1, 0, 2**33 * 10**9)
        with self._wire(random) as wire:
            store = wire.open(b"OpenDestination", b"pool")
            for number, mtime in enumerate(times):
                path = b"odd-%d" % number
                offers = headed([[[path, 0]], []])
                wire.ask(b"Offer", offers, store=store, reserve=b"True")
                wire.ask(b"Write", headed([[path, 0, 0]]), store=store)
                empty = bytes.fromhex(
                    "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
                )
                finish = headed([[path, 0, empty, number * 100, mtime]])
                wire.ask(b"Finish", finish, store=store)

    def taking(self, random: Random) -> None:
        """
        Take what is not shown: the marker, partials, hidden files.
        """
        with self._wire(random) as wire:
            store = wire.open(b"OpenSource", b"pool")
            for name in (b".realize", b".realize-dir", b".realize-hidden/x", b".large"):
                for step in ("hide", "unlink", "restore"):
                    removal = headed([[name, b"", bytes(32), step]])
                    wire.ask(b"Remove", removal, store=store)
                wire.ask(b"Prune", headed([name, b"", b"."]), store=store)

    def tiny(self, random: Random) -> None:
        """
        The smallest requests there are, as many as go.
        """
        alive = frame({b"_command": b"Alive"}) * 500
        one = frame({b"_command": b"Nothing", b"_ask": b"1"}) * 50
        with self._wire(random) as wire:
            reader = threading.Thread(target=_drain, args=(wire.socket,))
            reader.start()
            try:
                for _ in range(200):
                    wire.socket.sendall(random.choice((alive, one)))
            finally:
                wire.socket.shutdown(socket.SHUT_RDWR)
                reader.join()

    def limits(self, random: Random) -> None:
        """
        Change limits of oneself and of others, as fast as that goes.
        """
        with self._wire(random) as wire:
            others = ((b"connection", b""), (b"peer", b"me"), (b"service", b""))
            for scope, name in others:
                for rate in (b"128", b"off", b"0", b"9" * 30):
                    wire.ask(b"SetThrottle", scope=scope, name=name, receive=rate)

    def ghosts(self, random: Random) -> None:
        """
        Connections that take each other's places, and never say the welcome.
        """
        wires = []
        try:
            for _ in range(10):
                wires.append(Wire.connect(self.port, self._tls))
                if random.random() < 0.5:
                    wires[-1].welcome(bytes(16))
        finally:
            for wire in wires:
                wire.socket.close()

    # Strangers.

    def _address(self, random: Random) -> tuple[str, int]:
        return f"127.{random.randint(1, 250)}.{random.randint(0, 255)}.1", 0

    def silent(self, random: Random) -> None:
        """
        Connect, and say nothing or nonsense.
        """
        held = []
        try:
            for _ in range(100):
                made = socket.create_connection(
                    ("127.0.0.1", self.port), PATIENCE, self._address(random)
                )
                held.append(made)
                with suppress(OSError):
                    made.sendall(random.randbytes(random.choice((0, 0, 1, 5000))))
            time.sleep(random.random())
        finally:
            for each in held:
                each.close()

    def halfway(self, random: Random) -> None:
        """
        Begin a handshake, and leave it; or end it with a key that nobody knows.
        """
        held = []
        try:
            for _ in range(30):
                raw = socket.create_connection(
                    ("127.0.0.1", self.port), PATIENCE, self._address(random)
                )
                held.append(raw)
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = self._strange.wrap_bio(incoming, outgoing)
                with suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                hello = outgoing.read()
                raw.sendall(hello[: random.choice((10, len(hello), len(hello)))])
        finally:
            for each in held:
                each.close()

    def unknown(self, random: Random) -> None:
        """
        Shake hands with a key that nobody knows.
        """
        raw = socket.create_connection(
            ("127.0.0.1", self.port), PATIENCE, self._address(random)
        )
        with raw, self._strange.wrap_socket(raw) as tls:
            tls.sendall(frame({b"_command": b"OpenSource", b"_ask": b"1"}))
            tls.recv(1)


def _wait(_evil: Evil, _random: Random) -> None:
    time.sleep(0.1)


def _drain(made: socket.socket) -> None:
    with suppress(OSError):
        while made.recv(65_536):
            pass


PEER_ATTACKS: Final = (
    *(Evil.names, Evil.descriptors, Evil.promises, Evil.comparing, Evil.digesting),
    *(Evil.spans, Evil.unread, Evil.slow, Evil.stalling, Evil.trickling),
    *(Evil.anything, Evil.anything, Evil.anything, Evil.bombs, Evil.texts, Evil.odd),
    *(Evil.taking, Evil.tiny, Evil.limits, Evil.ghosts),
)
STRANGER_ATTACKS: Final = (Evil.silent, Evil.halfway, Evil.unknown)


def main(plan: str) -> None:
    """
    Attack, and print how often.
    """
    wanted = json.loads(plan)
    # What it costs to attack is not what is measured.
    os.nice(10)
    pem = Path(wanted["key"]).read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, Ed25519PrivateKey)
    only = wanted.get("only", [])
    evil = Evil(wanted["port"], key, wanted["seconds"], wanted.get("seed", 1), only)
    evil.run()
    print(json.dumps(evil.made))


if __name__ == "__main__":
    main(sys.argv[1])
