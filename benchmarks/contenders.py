"""
``realize``, and what it is compared with.

Everybody gets the same work: move the files, with their modes and times, and remove
them from the source.
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from benchmarks.processes import free_port
from benchmarks.setup import Contender, Job, Setup, find, lacking
from realize.net.keys import generate_key, public_bytes
from realize.peers import public_key_text

#: Where the environment has the programs under test.
_PROGRAMS = Path(sys.executable).parent


@frozen
class Realize:
    """
    The program itself: TLS, every file verified and durable.

    :ivar through: a command that runs both programs.
    :ivar options: of the move.
    :ivar programs: the directory with both programs.
    """

    name: str = "realize"
    through: Sequence[str] = ()
    options: Sequence[str] = ()
    programs: Path = _PROGRAMS

    def missing(self) -> Sequence[str]:
        """
        Nothing: it is this one.
        """
        return [] if (self.programs / "twistd").exists() else ["realize, installed"]

    def set_up(self, job: Job) -> Setup:
        """
        A key and a daemon for each remote end, and a configuration for the command.
        """
        setup = Setup(job)
        key = job.scratch / "command.key"
        ours = public_key_text(public_bytes(generate_key(key)))
        config = [f"privkey = {str(key)!r}\n"]
        source, destination = str(job.source), str(job.destination)
        if job.direction in ("pull", "relay"):
            config.append(self._daemon(setup, "source daemon", job.source, ours))
            source = "source-daemon:files"
        if job.direction in ("push", "relay"):
            config.append(self._daemon(setup, "daemon", job.destination, ours))
            destination = "daemon:files"
        file = job.scratch / "command.toml"
        file.write_text("".join(config))
        program = str(self.programs / "realize")
        setup.words = [
            *self.through,
            program,
            "move",
            source,
            destination,
            "--output",
            "quiet",
            *self.options,
        ]
        setup.words += ["--config", str(file)] if job.direction != "local" else []
        return setup

    def _daemon(self, setup: Setup, role: str, path: Path, client: str) -> str:
        """
        Start one; what the command's configuration needs to know.
        """
        peer = role.replace(" ", "-")
        scratch = setup.job.scratch
        key = scratch / f"{peer}.key"
        public = public_key_text(public_bytes(generate_key(key)))
        config = scratch / f"{peer}.toml"
        config.write_text(
            f"privkey = {str(key)!r}\n"
            f"[directories.files]\npath = {str(path)!r}\n"
            'put = ["command"]\nreplace = ["command"]\ntake = ["command"]\n'
            f'[peers.command]\npubkey = "{client}"\n'
        )
        port = free_port()
        words = [
            *self.through,
            str(self.programs / "twistd"),
            "-n",
            "--pidfile=",
            "realized",
        ]
        words += [f"--config={config}", f"--address=127.0.0.1:{port}"]
        near = setup.serve(role, words, port)
        return f'[peers.{peer}]\npubkey = "{public}"\naddress = "127.0.0.1:{near}"\n'


@frozen
class RsyncDaemon:
    """
    rsync and its daemon: no encryption; durable only file by file, with ``--fsync``.

    :ivar options: more of them.
    """

    fsync: bool = False
    options: Sequence[str] = ()

    @property
    def name(self) -> str:
        """
        With the options, where they are given.
        """
        return " ".join(["rsync daemon", *self._options])

    @property
    def _options(self) -> list[str]:
        return [*(["--fsync"] * self.fsync), *self.options]

    def missing(self) -> Sequence[str]:
        """
        rsync, if it is.
        """
        return lacking("rsync")

    def set_up(self, job: Job) -> Setup:
        """
        A daemon that offers the remote end.
        """
        setup = Setup(job)
        remote = job.destination if job.direction == "push" else job.source
        port = free_port()
        config = job.scratch / "rsyncd.conf"
        config.write_text(
            f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n"
            f"pid file = {job.scratch}/rsyncd.pid\nlog file = /dev/stderr\n"
            f"[files]\npath = {remote}\nread only = no\n"
        )
        words = ["rsync", "--daemon", "--no-detach", f"--config={config}"]
        near = setup.serve(
            "daemon", [*words, "--address=127.0.0.1", f"--port={port}"], port
        )
        url = f"rsync://127.0.0.1:{near}/files/"
        setup.words = _rsync(job, url, *self._options)
        return setup


def _rsync(job: Job, remote: str, *options: str) -> list[str]:
    ends = [f"{job.source}/", remote]
    if job.direction == "pull":
        ends = [remote, f"{job.destination}/"]
    return ["rsync", "-a", "--remove-source-files", *options, *ends]


@frozen
class RsyncSsh:
    """
    rsync over ssh, with a server of its own: encryption, nothing durable.
    """

    name: str = "rsync over ssh"

    def missing(self) -> Sequence[str]:
        """
        rsync and both ends of ssh, if they are.
        """
        return lacking("rsync", "ssh", "sshd", "ssh-keygen")

    def set_up(self, job: Job) -> Setup:
        """
        An sshd that lets in a key of its own.
        """
        setup = Setup(job)
        shell = shlex.join(_ssh(setup, start_sshd(setup)))
        remote = job.destination if job.direction == "push" else job.source
        setup.words = _rsync(job, f"127.0.0.1:{remote}/", "-e", shell)
        return setup


def start_sshd(setup: Setup) -> int:
    """
    Start an sshd on loopback; its port.
    """
    scratch = setup.job.scratch
    if os.getuid() == 0:
        # It insists on this directory, which Debian's unit makes when it starts.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(scratch / name)]
        subprocess.run(key, check=True)
    port = free_port()
    (scratch / "sshd.conf").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {scratch}/host\nPidFile none\n"
        f"AuthorizedKeysFile {scratch}/user.pub\nStrictModes no\nUsePAM no\n"
        "PermitUserRC no\nPrintMotd no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    words = [str(find("sshd")), "-D", "-e", "-f", str(scratch / "sshd.conf")]
    return setup.serve("daemon", words, port)


def _ssh(setup: Setup, port: int) -> list[str]:
    options = {
        "IdentityFile": f"{setup.job.scratch}/user",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    words = [f"-o{name}={value}" for name, value in options.items()]
    return ["ssh", "-F/dev/null", f"-p{port}", *words]


@frozen
class RcloneSftp:
    """
    rclone over sftp, to the same sshd: encryption, nothing durable.

    Without a shell at the other end: with one it would start a program there for each
    file, to digest it, which takes some 50 ms.
    """

    name: str = "rclone over sftp"

    def missing(self) -> Sequence[str]:
        """
        rclone and both ends of ssh, if they are.
        """
        return lacking("rclone", "sshd", "ssh-keygen")

    def set_up(self, job: Job) -> Setup:
        """
        An sshd that lets in a key of its own.
        """
        setup = Setup(job)
        near = start_sshd(setup)
        remote = job.destination if job.direction == "push" else job.source
        url = (
            f":sftp,host=127.0.0.1,port={near},user={getpass.getuser()},"
            f"key_file={job.scratch}/user,shell_type=none:{remote}"
        )
        ends = [str(job.source), url]
        if job.direction == "pull":
            ends = [url, str(job.destination)]
        config = f"--config={job.scratch}/rclone.conf"
        (job.scratch / "rclone.conf").touch()
        setup.words = ["rclone", config, "move", *ends]
        return setup


@frozen
class Copy:
    """
    ``cp``, an fsync of each file, ``rm``: between local directories.
    """

    name: str = "cp, sync, rm"

    def missing(self) -> Sequence[str]:
        """
        Nothing: every machine has these.
        """
        return lacking("cp", "sync", "find", "rm")

    def set_up(self, job: Job) -> Setup:
        """
        A shell that does one after the other.
        """
        source, destination = map(shlex.quote, map(str, (job.source, job.destination)))
        script = (
            f"cp -a {source}/. {destination} && "
            f"find {destination} -type f -print0 | xargs -0 sync && "
            f"find {source} -type f -delete"
        )
        return Setup(job, ["sh", "-c", script])


REALIZE = Realize()
RSYNC = RsyncDaemon()
RSYNC_FSYNC = RsyncDaemon(fsync=True)
RSYNC_SSH = RsyncSsh()
RCLONE = RcloneSftp()
COPY = Copy()

#: All, by name.
CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (REALIZE, RSYNC, RSYNC_FSYNC, RSYNC_SSH, RCLONE, COPY)
}
