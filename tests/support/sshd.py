"""
An OpenSSH server on loopback, with keys of its own, and what reaches it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define

from tests.support.programs import PATIENCE, PROGRAMS, free_port
from tests.support.requirements import find_program

#: The host's name in the configuration of ssh.
HOST = "sshhost"


@define
class Sshd:
    """
    One that runs, for the user who runs the tests.

    :ivar folder: of its files.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def ssh(self) -> str:
        """
        What ``--ssh`` takes.
        """
        return shlex.join(["ssh", "-F", str(self.folder / "ssh_config")])

    @property
    def env(self) -> dict[str, str]:
        """
        For a command that is to reach it.
        """
        return {"REALIZE_SSH": self.ssh}

    def allow(self, options: str = "") -> None:
        """
        Have the key stand there with these options.
        """
        key = (self.folder / "id.pub").read_text()
        (self.folder / "authorized").write_text(f"{options} {key}".lstrip())

    def force(self, *words: str) -> None:
        """
        Let the key run one command only.
        """
        line = shlex.join([str(PROGRAMS / "realize"), "serve", *words])
        quoted = line.replace('"', '\\"')
        self.allow(f'command="{quoted}",restrict')

    def sessions(self) -> list[int]:
        """
        The processes that serve one connection each.
        """
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, check=False
        )
        return [int(word) for word in found.stdout.split()]

    def servers(self) -> list[int]:
        """
        The processes of ``realize serve`` below it.
        """
        waiting, found = self.sessions(), []
        while waiting:
            pid = waiting.pop()
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in line and b"-c" not in line:
                found.append(pid)
            children = subprocess.run(
                ["pgrep", "-P", str(pid)], capture_output=True, check=False
            )
            waiting += [int(word) for word in children.stdout.split()]
        return found


@contextmanager
def running_sshd(folder: Path, path: Sequence[Path] = (PROGRAMS,)) -> Iterator[Sshd]:
    """
    Start one, and end it with all its sessions.

    :param path: of the programs that its sessions find, before the system's own.
    """
    program = find_program("sshd")
    assert program, "sshd is not installed"
    folder.mkdir(parents=True)
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("hostkey", "id"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name],
            check=True,
        )
    (folder / "home").mkdir()
    port = free_port()
    search = ":".join([*map(str, path), "/usr/bin", "/bin"])
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/hostkey\n"
        f"AuthorizedKeysFile {folder}/authorized\nPidFile none\nStrictModes no\n"
        "UsePAM no\nPasswordAuthentication no\nMaxStartups 100\n"
        f"SetEnv PATH={search} HOME={folder}/home\n"
    )
    (folder / "ssh_config").write_text(
        f"Host {HOST} 127.0.0.1\nHostName 127.0.0.1\nPort {port}\n"
        f"IdentityFile {folder}/id\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {folder}/known\nStrictHostKeyChecking yes\n"
    )
    known = (folder / "hostkey.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {known}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", folder / "sshd_config"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"]},
        )
    server = Sshd(folder, port, process)
    server.allow()
    try:
        deadline = time.monotonic() + PATIENCE
        while b"Server listening" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield server
    finally:
        for pid in server.sessions():
            try:
                os.kill(pid, 15)
            except ProcessLookupError:
                continue
        process.terminate()
        process.wait(PATIENCE)
