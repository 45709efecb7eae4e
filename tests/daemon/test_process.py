"""
``twistd realized`` as operators meet it: real processes, real sockets.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define

from realize.net.keys import generate_key, public_bytes
from realize.peers import public_key_text
from tests.support.daemon import (
    PATIENCE,
    TWISTD,
    RunningDaemon,
    running_daemon,
    twistd,
    wait_for,
)
from tests.support.requirements import needs

LOOPBACK = ("--address", "127.0.0.1:0")


@define
class Host:
    """
    A host with a key, a directory, and a peer called laptop.
    """

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    def configure(self, more: str = "", directory: str = "") -> None:
        """
        Write the configuration, with more settings at the end of it.
        """
        laptop = generate_key(self.root / "laptop.key")
        (self.root / "inbox").mkdir()
        generate_key(self.root / "host.key")
        self.config.write_text(
            f"""
            privkey = "host.key"
            [peers.laptop]
            pubkey = "{public_key_text(public_bytes(laptop))}"
            [directories.inbox]
            path = "{self.root}/inbox"
            put = ["laptop"]
            {directory}
            {more}
            """
        )

    def s_client(self, port: int, key: str) -> str:
        """
        What openssl's client prints, with a key, after two seconds.
        """
        certificate = self.root / f"{key}.crt"
        subprocess.run(
            f"openssl req -x509 -new -key {key} -days 1 -subj /CN=x "
            f"-out {certificate}".split(),
            cwd=self.root,
            check=True,
            timeout=PATIENCE,
        )
        client = subprocess.run(
            f"timeout 2 openssl s_client -connect 127.0.0.1:{port} -alpn realize "
            f"-cert {certificate} -key {key} -ign_eof".split(),
            cwd=self.root,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        return (client.stdout + client.stderr).decode("utf-8", "replace")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """
    A host that is set up well.
    """
    host = Host(tmp_path)
    host.configure()
    return host


def start(host: Host, *more: str) -> tuple[str, ...]:
    """
    The options with which all is well.
    """
    return ("--config", str(host.config), *LOOPBACK, *more)


def test_a_known_peer_is_welcomed(host: Host) -> None:
    """
    The server speaks first, and only to keys it knows.
    """
    with running_daemon(host.root, *start(host)) as daemon:
        assert "Welcome" in host.s_client(daemon.port, "laptop.key")

        stranger = generate_key(host.root / "stranger.key")
        assert "Welcome" not in host.s_client(daemon.port, "stranger.key")
        key = re.escape(public_key_text(public_bytes(stranger)))
        daemon.logged(rf"Refused 127\.0\.0\.1: unknown key {key}\.")
    assert daemon.status == -signal.SIGTERM


def test_a_stop(host: Host) -> None:
    """
    SIGTERM ends the daemon cleanly, with a connection open, and the port is free.

    twistd, having cleaned up, ends by the signal that it was sent.
    """
    with running_daemon(host.root, *start(host)) as daemon:
        port = daemon.port
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        began = time.monotonic()
    with connection:
        pass
    assert daemon.status == -signal.SIGTERM
    assert time.monotonic() - began < 10
    daemon.logged(r"info  stopping: Stopping: .*\n(.*\n)*.*info  stopped: Stopped\.$")
    assert "Traceback" not in daemon.log.read_text()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_what_a_process_gets(host: Host) -> None:
    """
    All the open files there are, and no death by a broken lease.
    """
    limit = ["prlimit", "--nofile=256:2048", "--"]
    with running_daemon(host.root, *start(host), wrapper=limit) as daemon:
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        assert re.search(r"^Max open files +2048 +2048 ", limits, re.M)
        ignored = re.search(
            r"^SigIgn:\s*([0-9a-f]+)$",
            Path(f"/proc/{daemon.pid}/status").read_text(),
            re.M,
        )
        assert ignored
        assert int(ignored[1], 16) & (1 << (signal.SIGIO - 1))


@pytest.fixture(params=["foreground", "background"])
def nodaemon(request: pytest.FixtureRequest) -> bool:
    """
    With and without ``-n``.
    """
    return request.param == "foreground"


@define
class Fault:
    """
    Something that is wrong, and the line that says so.
    """

    host: Host
    options: list[str]
    said: str


def missing_config(host: Host) -> Fault:
    """
    The file that was asked for is not there.
    """
    host.config.unlink()
    return Fault(host, [], f"{host.config}: No such file or directory")


def wrong_setting(host: Host) -> Fault:
    """
    A setting is misspelt.
    """
    host.config.write_text(f"{host.config.read_text()}\n[service]\nadress = 'x'")
    said = f'{host.config}: [service] adress: unknown setting; did you mean "address"?'
    return Fault(host, [], said)


def no_key(host: Host) -> Fault:
    """
    Nobody says where the private key is.
    """
    text = host.config.read_text().replace('privkey = "host.key"', "")
    host.config.write_text(text)
    said = (
        "no private key; name one with --privkey FILE, or privkey in the configuration "
        '("realize keygen FILE" makes one)'
    )
    return Fault(host, [], said)


def open_key(host: Host) -> Fault:
    """
    Others may read the private key.
    """
    key = host.root / "host.key"
    key.chmod(0o640)
    said = (
        f"{key}: this private key has mode 0640, so others can get at it; "
        f"once you trust it again: chmod 600 {key}"
    )
    return Fault(host, [], said)


def missing_directory(host: Host) -> Fault:
    """
    A directory is not there.
    """
    (host.root / "inbox").rmdir()
    return Fault(host, [], f"[directories.inbox] path: {host.root}/inbox: ")


def missing_marker(host: Host) -> Fault:
    """
    A directory is there, but nothing is mounted on it.
    """
    text = host.config.read_text().replace("put =", 'marker = ".mounted"\nput =')
    host.config.write_text(text)
    return Fault(host, [], f"[directories.inbox] path: {host.root}/inbox: ")


def unclear_address(host: Host) -> Fault:
    """
    An address is none.
    """
    said = 'address: write IPv6 addresses in brackets: "[::1]"'
    return Fault(host, ["--address", "::1"], said)


def unknown_option(host: Host) -> Fault:
    """
    An option is misspelt.
    """
    said = 'option --adress not recognized; did you mean "--address"?'
    return Fault(host, ["--adress", "x"], said)


FAULTS = [
    missing_config,
    wrong_setting,
    no_key,
    open_key,
    missing_directory,
    missing_marker,
    unclear_address,
    unknown_option,
]


@pytest.mark.parametrize("make", FAULTS)
def test_one_line_and_status_1(host: Host, nodaemon: bool, make: object) -> None:
    """
    Whatever is wrong ends the daemon at its start, where somebody sees it.
    """
    assert callable(make)
    fault: Fault = make(host)
    ended = twistd(host.root, *start(host), *fault.options, nodaemon=nodaemon)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"realized: {fault.said}")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert not (host.root / "pid").exists()


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "tcp:{}:interface=127.0.0.1"])
def test_port_in_use(host: Host, nodaemon: bool, form: str) -> None:
    """
    Two daemons cannot have one port; the second one says so and ends.
    """
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = form.format(other.getsockname()[1])
        options = ("--config", str(host.config), "--address", address)
        ended = twistd(host.root, *options, nodaemon=nodaemon)
    assert (ended.returncode, ended.stderr) == (
        1,
        f"realized: cannot listen on {address}: Address already in use\n",
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("systemd:domain=INET:index=0", "systemd passed no such socket"),
        ("tcp:x:interface=127.0.0.1", ""),
        ("tcp:0:interfaec=127.0.0.1", ""),
        ("systemd:domain=NONSENSE:index=0", ""),
    ],
)
def test_useless_endpoints(host: Host, address: str, said: str) -> None:
    """
    An endpoint string that leads to no port is one line as well.
    """
    ended = twistd(host.root, "--config", str(host.config), "--address", address)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"realized: cannot listen on {address}: {said}")
    assert ended.stderr.count("\n") == 1


def test_nothing_configured(host: Host) -> None:
    """
    Without a configuration there is nothing to offer.
    """
    if Path("/etc/realize/config.toml").exists():
        pytest.skip("this host has a configuration")
    ended = twistd(host.root, environ={"HOME": str(host.root)})
    assert (ended.returncode, ended.stderr) == (
        1,
        f"realized: no configuration file: looked for {host.root}/.config/realize/"
        "config.toml and /etc/realize/config.toml; name one with --config FILE\n",
    )


def test_check(host: Host, nodaemon: bool) -> None:
    """
    ``--check`` does what a start does, up to serving anybody.
    """
    ended = twistd(host.root, *start(host, "--check"), nodaemon=nodaemon)
    assert ended.returncode == 0
    assert ended.stdout == "realized: everything that a start needs is there\n"
    assert ended.stderr == ""
    assert not (host.root / "pid").exists()

    (host.root / "inbox").rmdir()
    ended = twistd(host.root, *start(host, "--check"), nodaemon=nodaemon)
    assert ended.returncode == 1


def test_check_without_the_socket(host: Host) -> None:
    """
    systemd passes its sockets to the service only, not to what checks it before.
    """
    options = ("--config", str(host.config), "--address", "systemd:domain=INET:index=0")
    assert twistd(host.root, *options, "--check").returncode == 0


@pytest.mark.parametrize("address", ["127.0.0.1:0", "tcp:0:interface=127.0.0.1"])
def test_in_the_background(host: Host, address: str) -> None:
    """
    Daemonised, it listens by the time the command returns, and ends by its pid.
    """
    options = ("--config", "config.toml", "--address", address)
    ended = twistd(host.root, *options, nodaemon=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    pid = int((host.root / "pid").read_text())
    daemon = RunningDaemon(pid, host.root / "log")
    try:
        assert "Welcome" in host.s_client(daemon.port, "laptop.key")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(daemon.log, r"Stopped\.$")


def test_flag_environment_file(host: Host) -> None:
    """
    A flag wins over the environment, which wins over the file.
    """
    text = host.config.read_text().replace("host.key", "none.key")
    host.config.write_text(f'{text}\n[service]\naddress = "127.0.0.2:0"')
    environ = {
        "REALIZE_CONFIG": str(host.config),
        "REALIZE_PRIVKEY": str(host.root / "host.key"),
    }
    with running_daemon(host.root, environ=environ) as daemon:
        assert daemon.address.startswith("127.0.0.2:")
    environ["REALIZE_ADDRESS"] = "127.0.0.3:0"
    with running_daemon(host.root, environ=environ) as daemon:
        assert daemon.address.startswith("127.0.0.3:")
    environ |= {"REALIZE_CONFIG": "/none", "REALIZE_PRIVKEY": "/none"}
    flags = (*start(host), "--privkey", "host.key")
    with running_daemon(host.root, *flags, environ=environ) as daemon:
        assert daemon.address.startswith("127.0.0.1:")


@needs("systemd-socket-activate")
def test_socket_from_systemd(host: Host) -> None:
    """
    A socket that systemd opened is served from.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    activate = f"systemd-socket-activate -l 127.0.0.1:{port} --fdname=realized"
    starter = subprocess.Popen(
        [
            *activate.split(),
            TWISTD,
            *("-n", "--pidfile=", "--logfile", f"{host.root}/log", "realized"),
            *("--config", str(host.config)),
            *("--address", "systemd:domain=INET:name=realized"),
        ],
        cwd=host.root,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _attempt in _until_deadline():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        assert wait_for(host.root / "log", rf"listens on 127\.0\.0\.1:{port},")
        assert "Welcome" in host.s_client(port, "laptop.key")
    finally:
        starter.terminate()
        assert starter.wait(PATIENCE) == -signal.SIGTERM


def _until_deadline() -> Iterator[int]:
    for attempt in range(PATIENCE * 20):
        yield attempt
        time.sleep(0.05)
    raise AssertionError("nobody listens")


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_the_plugin_is_visible(tmp_path: Path, program: str) -> None:
    """
    As installed, from any directory.
    """
    helped = subprocess.run(
        [str(Path(TWISTD).with_name(program)), "--help"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert re.search(
        r"^ +realized +Offer directories of this host", helped.stdout, re.M
    )


def test_help(tmp_path: Path) -> None:
    """
    The daemon's own options.
    """
    helped = twistd(tmp_path, "--help")
    assert helped.returncode == 0
    for option in ("--config=", "--privkey=", "--address=", "--check"):
        assert option in helped.stdout
