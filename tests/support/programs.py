"""
The two programs as users start them, in processes of their own, on loopback.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from realize.net.keys import generate_key, public_bytes
from realize.peers import public_key_text
from tests.support.processes import as_user

#: Where the environment under test has its programs.
PROGRAMS = Path(sys.executable).parent

#: Seconds for a program to start, or to leave.
PATIENCE = 30.0


#: Below those that Linux gives to outgoing connections.
_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """
    A port that nobody listened on a moment ago, and that nobody else is likely to be
    given: many tests may run at once.
    """
    while True:
        # Not from ``random``: hypothesis sets its seed.
        port = secrets.choice(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def environment(**extra: str) -> dict[str, str]:
    """
    What a program is started with: what all tests have, and more.
    """
    return os.environ | extra


@define
class Host:
    """
    A host with a key, maybe a daemon, and directories that it offers.

    :ivar settings: of each directory, beside its path: lines of TOML.
    :ivar user: who runs its daemon, without any capabilities; empty for whoever runs
        the tests.
    """

    name: str
    folder: Path
    user: str = ""
    port: int = field(factory=free_port)
    settings: dict[str, str] = field(factory=dict)
    public_key: str = field(init=False)
    daemon: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.public_key = public_key_text(public_bytes(generate_key(self.key)))

    @property
    def key(self) -> Path:
        """
        Its private key.
        """
        return self.folder / "host.key"

    @property
    def config(self) -> Path:
        """
        Its configuration.
        """
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        """
        What its daemon said.
        """
        return self.folder / "realized.log"

    def directory(self, name: str) -> Path:
        """
        The path of a directory that it offers.
        """
        return self.folder / name

    def offer(self, name: str, settings: str) -> Path:
        """
        Offer one more directory; seen when the daemon starts.

        :param settings: lines of TOML.
        """
        self.directory(name).mkdir(exist_ok=True)
        self.settings[name] = settings
        return self.directory(name)

    def configure(self, *peers: Host) -> None:
        """
        Write the configuration.
        """
        parts = [f'privkey = "{self.key}"\n']
        for name, settings in self.settings.items():
            path = self.directory(name)
            parts.append(f'[directories.{name}]\npath = "{path}"\n{settings}\n')
        parts += [
            f'[peers.{peer.name}]\npubkey = "{peer.public_key}"\n'
            f'address = "127.0.0.1:{peer.port}"\n'
            for peer in peers
        ]
        self.config.write_text("\n".join(parts))

    def start(
        self, *arguments: str, wrapper: Sequence[str | Path] = (), **env: str | Path
    ) -> None:
        """
        Start the daemon, and wait until it listens.

        :param wrapper: what to put in front of the command, such as ``strace``.
        :param env: variables of its environment.
        """
        words = ["-n", "--pidfile=", "realized", f"--config={self.config}"]
        words += [f"--address=127.0.0.1:{self.port}", *arguments]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [*wrapper, *_user(self.user), PROGRAMS / "twistd", *words],
                cwd=self.folder,
                env=environment(**{name: str(value) for name, value in env.items()}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.daemon.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self, how: int = signal.SIGTERM) -> None:
        """
        End the daemon, if it runs.
        """
        if self.daemon is not None:
            if self.daemon.poll() is None:
                self.daemon.send_signal(signal.SIGCONT)
                self.daemon.send_signal(how)
            try:
                self.daemon.wait(PATIENCE)
            finally:
                if self.daemon.poll() is None:
                    self.daemon.kill()
                    self.daemon.wait()
            self.daemon = None


@define
class World:
    """
    Two hosts with daemons, ``nas`` and ``box``, and ``me``, where the command runs.

    Both offer ``inbox`` to ``me``, with all rights.

    :ivar user: who runs everything, without any capabilities; empty for whoever runs
        the tests.
    """

    folder: Path
    nas: Host
    box: Host
    me: Host
    user: str = ""

    @classmethod
    def create(cls, folder: Path, user: str = "") -> World:
        """
        Hosts with keys and configurations; nothing is started yet.
        """
        names = ("nas", "box", "me")
        hosts = [Host(name, folder / name, user) for name in names]
        world = cls(folder, *hosts, user)
        for host in (world.nas, world.box):
            host.offer("inbox", 'put = ["me"]\nreplace = ["me"]\ntake = ["me"]')
        world.configure()
        world.give(folder)
        return world

    def give(self, *folders: Path) -> None:
        """
        Make these, and all that is in them, the property of who runs everything.
        """
        if self.user:
            owner = f"{self.user}:{grp.getgrgid(pwd.getpwnam(self.user).pw_gid)[0]}"
            subprocess.run(["chown", "-R", "-h", owner, *folders], check=True)

    def configure(self) -> None:
        """
        Write all configurations.
        """
        for host in (self.nas, self.box):
            host.configure(self.me)
        self.me.configure(self.nas, self.box)

    def allow_control(self, service: str = "") -> None:
        """
        Let ``me`` control the daemon of ``nas``.

        :param service: lines of the section ``[service]`` there.
        """
        text = self.nas.config.read_text()
        if "control = true" not in text:
            text = text.replace("[peers.me]", "[peers.me]\ncontrol = true")
        if service:
            text += f"\n[service]\n{service}\n"
        self.nas.config.write_text(text)

    def start(self) -> None:
        """
        Start both daemons.
        """
        self.nas.start()
        self.box.start()

    def stop(self) -> None:
        """
        End both daemons.
        """
        self.nas.stop()
        self.box.stop()

    def begin(
        self,
        *words: str | Path | bytes,
        env: Mapping[str, str] = {},
        wrapper: Sequence[str | Path] = (),
        **more: Any,
    ) -> subprocess.Popen[bytes]:
        """
        Start ``realize`` with these words, and ``--config`` after a sub-command.

        :param wrapper: what to put in front of the command, such as ``strace``.
        """
        settings = {"REALIZE_CONFIG": str(self.me.config), **env}
        more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(
            [*wrapper, *_user(self.user), PROGRAMS / "realize", *words],
            cwd=self.folder,
            env=environment(**settings),
            **more,
        )

    def realize(
        self, *words: str | Path | bytes, status: int | None = 0, **more: Any
    ) -> Said:
        """
        Run ``realize`` to its end.

        :param status: the exit status that is expected; None for any.
        """
        process = self.begin(*words, **more)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        said = Said(process.returncode, out.decode(), err.decode())
        assert status is None or said.status == status, said
        return said


@define
class Said:
    """
    What a program said before it ended.
    """

    status: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        """
        Standard output, as JSON lines.
        """
        return [json.loads(line) for line in self.out.splitlines()]


def _user(name: str) -> Sequence[str | Path]:
    return as_user(name) if name else ()


def regular_files(root: Path) -> Iterator[bytes]:
    """
    Paths of all regular files below *root*.
    """
    base = os.fsencode(root)
    for folder, _, names in os.walk(base):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield os.path.relpath(path, base)


def snapshot(root: Path) -> dict[bytes, tuple[bytes, int, int]]:
    """
    Content, permission bits and mtime of every regular file below *root*.
    """
    found = {}
    for path in regular_files(root):
        whole = os.path.join(os.fsencode(root), path)
        status = os.stat(whole)
        with open(whole, "rb") as file:
            found[path] = (file.read(), status.st_mode & 0o777, status.st_mtime_ns)
    return found


def plant(root: Path) -> dict[bytes, tuple[bytes, int, int]]:
    """
    A small tree of all that has to be moved, and what is in it.
    """
    base = os.fsencode(root)
    awkward = [
        b"plain",
        b"-rf",
        b"new\nline",
        b"{braces} %s \x1b[2J",
        b"caf\xe9",
        b"back\\slash",
        b"n" * 255,
        "smörgåsbord 🧀".encode(),
    ]
    for number, folder in enumerate([b".", b"a", b"a/b", b"dir\xff\n"]):
        os.makedirs(os.path.join(base, folder), exist_ok=True)
        for index, name in enumerate(awkward):
            path = os.path.join(base, folder, name)
            with open(path, "wb") as file:
                file.write(name * (index * 1000 + number))
            os.chmod(path, (0o600, 0o644, 0o755, 0o440)[index % 4])
            os.utime(path, ns=(0, 1_234_567_890_123_456_789 + index))
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(9 * 1024 * 1024 + 7))
    os.symlink("plain", root / "link")
    os.link(root / "large", root / "large too")
    return snapshot(root)


def events_in(log: Path) -> list[str]:
    """
    The names of the events that were logged, as JSON.
    """
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]
