"""
Moves by ssh, with a real OpenSSH server and the system's ssh.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.programs import PATIENCE, PROGRAMS, World, plant, snapshot
from tests.support.requirements import needs
from tests.support.sshd import HOST, Sshd, running_sshd

pytestmark = needs("ssh", "sshd", "ssh-keygen", "pgrep", "setsid")


@pytest.fixture
def sshd(world: World) -> Iterator[Sshd]:
    """
    A server that knows the key of ssh here.
    """
    with running_sshd(world.folder / "sshd") as server:
        yield server


def folders(world: World, *names: str) -> list[Path]:
    """
    Empty directories.
    """
    made = [world.folder / name for name in names]
    for each in made:
        each.mkdir(parents=True)
    return made


def wait_until(condition: Callable[[], object]) -> None:
    """
    Look again and again, for a while.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_to_a_host_and_back(world: World, sshd: Sshd) -> None:
    """
    Every name, byte, mode and time; and nothing is left running over there.
    """
    source, target = folders(world, "source", "target dir")
    planted = plant(source)
    there = f"{HOST}:{target}"
    world.realize(source, there, "--dry-run", env=sshd.env)
    assert snapshot(source) == planted
    assert not snapshot(target)
    receipts = world.folder / "receipts"
    out = world.realize(source, there, f"--audit-log={receipts}", env=sshd.env).out
    assert f"to {there}" in out
    assert not snapshot(source)
    assert snapshot(target) == planted
    world.realize("verify", receipts, env=sshd.env)
    world.realize("verify", receipts, there, env=sshd.env)
    world.realize(there, source, env=sshd.env)
    assert snapshot(source) == planted
    assert not snapshot(target)
    wait_until(lambda: not sshd.servers())


@pytest.mark.daemons
@pytest.mark.parametrize("other", ["ssh", "peer", "port"])
def test_between_hosts(world: World, sshd: Sshd, other: str) -> None:
    """
    Both ends elsewhere: one host twice over one session, two names of it, a daemon.
    """
    (source,) = folders(world, "source")
    planted = plant(source)
    target, place = {
        "ssh": (world.folder / "target", f"{HOST}:{world.folder}/target"),
        "port": (
            world.folder / "target",
            f"ssh://127.0.0.1:{sshd.port}{world.folder}/target",
        ),
        "peer": (world.nas.directory("inbox"), "nas:inbox"),
    }[other]
    target.mkdir(exist_ok=True)
    world.realize(f"{HOST}:{source}", place, env=sshd.env)
    assert snapshot(target) == planted
    world.realize(place, f"{HOST}:{source}", env=sshd.env)
    assert snapshot(source) == planted


def test_single_files_directories_and_the_home(world: World, sshd: Sshd) -> None:
    """
    Several sources by ssh; subdirectories that are made; paths from the home, and
    through a symbolic link that the user wrote.
    """
    home = sshd.folder / "home"
    source, target = folders(world, "sshd/home/out", "target")
    (source / "one").write_text("1")
    (source / "two").write_text("2")
    receipts = world.folder / "receipts"
    world.realize(f"{HOST}:~/out/one", target, f"--audit-log={receipts}", env=sshd.env)
    assert f'"{HOST}:~/out"' in receipts.read_text()
    world.realize(f"{HOST}:{source}/two", target, env=sshd.env)
    assert set(snapshot(target)) == {b"one", b"two"}
    (home / "link").symlink_to(source)
    a, b = folders(world, "a", "b")
    (a / "x").write_text("x")
    (b / "y").write_text("y")
    world.realize(a, b, f"{HOST}:~/link", env=sshd.env)
    assert set(snapshot(source)) == {b"a/x", b"b/y"}
    world.realize(f"{HOST}:~/out/a/x", f"{HOST}:~/out/b/y", target, env=sshd.env)
    assert set(snapshot(target)) == {b"one", b"two", b"x", b"y"}
    world.realize(f"{HOST}:~", target, env=sshd.env)


def test_the_same_place_is_recognised(world: World, sshd: Sshd) -> None:
    """
    As anywhere else, before anything is moved.
    """
    (source,) = folders(world, "source")
    (source / "x").write_text("x")
    said = world.realize(source, f"{HOST}:{source}", env=sshd.env, status=2)
    assert (source / "x").read_text() == "x"
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("place", "options", "complaint"),
    [
        (f"{HOST}:/nowhere/at/all", [], "create it first"),
        (f"{HOST}:/etc/passwd", [], "Not a directory"),
        (f"{HOST}:~/nowhere", [], "create it first"),
        ("no-such-host.invalid:/srv", [], "is the name right"),
        (f"{HOST}:/", ["--remote-realize=/opt/no realize"], "--remote-realize PATH"),
        (f"{HOST}:/", ["--ssh=/no/ssh"], "/no/ssh cannot be started"),
        (f"{HOST}:/", ["--ssh=false"], "ended with status 1"),
        (f"{HOST}:/", ["--ssh=true"], "ended with status 0"),
        (f"{HOST}:/", ["--remote-realize=/bin/echo"], "this: serve; what starts"),
        (f"{HOST}:/", ["--remote-realize=/bin/false"], "ended with status 1"),
    ],
)
def test_what_can_go_wrong(
    world: World, sshd: Sshd, place: str, options: list[str], complaint: str
) -> None:
    """
    One line, and status 3.
    """
    (source,) = folders(world, "source")
    (source / "x").write_text("x")
    said = world.realize(source, place, *options, env=sshd.env, status=3)
    *_, line = said.err.splitlines()
    assert complaint in line
    assert "Traceback" not in said.err
    assert (source / "x").exists()


def test_keys_that_are_refused(world: World, sshd: Sshd) -> None:
    """
    Ours, and the host's.
    """
    (source,) = folders(world, "source")
    (sshd.folder / "authorized").write_text("")
    said = world.realize(source, f"{HOST}:/tmp", env=sshd.env, status=3)
    assert f"ssh-copy-id {HOST}" in said.err
    (sshd.folder / "known").write_text("")
    said = world.realize(source, f"{HOST}:/tmp", env=sshd.env, status=3)
    assert f"accept its key: ssh {HOST}" in said.err


def test_a_shell_that_prints(world: World, sshd: Sshd) -> None:
    """
    Before the session it is skipped; without end it is shown, harmless.
    """
    source, target = folders(world, "source", "target")
    (source / "x").write_text("x")
    program = PROGRAMS / "realize"
    sshd.allow(f'command="echo hello; exec {program} serve"')
    world.realize(source, f"{HOST}:{target}", env=sshd.env)
    assert set(snapshot(target)) == {b"x"}
    sshd.allow("command=\"yes $(printf '\\033[2Jhello')\"")
    said = world.realize(source, f"{HOST}:{target}", env=sshd.env, status=3)
    assert "\\x1b[2Jhello" in said.err
    assert "\x1b" not in said.err
    assert "must print nothing" in said.err


def test_a_key_that_can_only_put(world: World, sshd: Sshd) -> None:
    """
    Whatever the client asks for.
    """
    source, inbox, outside = folders(world, "source", "inbox", "outside")
    (inbox / "link").symlink_to(outside)
    (outside / "secret").write_text("secret")
    (inbox / "there").write_text("there")
    sshd.force("--put", str(inbox))
    (source / "x").write_text("x")
    (source / "there").write_text("other")
    world.realize(source, f"{HOST}:{inbox}", env=sshd.env, status=1)
    assert (inbox / "x").read_text() == "x"
    assert (inbox / "there").read_text() == "there"
    world.realize(source, f"{HOST}:{inbox}/new/sub", env=sshd.env)
    assert (inbox / "new/sub/there").read_text() == "other"
    (source / "y").write_text("y")
    for place in (outside, inbox.parent, f"{inbox}x", "/", f"{inbox}/link"):
        said = world.realize(source, f"{HOST}:{place}", env=sshd.env, status=None)
        assert said.status in (1, 3)
        assert set(snapshot(outside)) == {b"secret"}
    said = world.realize(source, f"{HOST}:{outside}", env=sshd.env, status=3)
    assert f"it may put into {inbox}" in said.err
    said = world.realize(f"{HOST}:{inbox}", source, env=sshd.env, status=3)
    assert "may not take" in said.err
    assert (source / "y").exists()
    assert (inbox / "x").exists()


def test_a_forced_command_looks_at_nothing_that_is_asked(
    world: World, sshd: Sshd
) -> None:
    """
    Nor does it run it; there are neither subsystems nor forwardings.
    """
    (inbox,) = folders(world, "inbox")
    sshd.force("--put", str(inbox))
    mark = world.folder / "mark"
    words = sshd.ssh.split()
    asked = [
        f"touch {mark}",
        f"serve --take /; touch {mark}",
        f"realize serve --take / $(touch {mark})",
        f"\n`touch {mark}`\n",
        f"--take=/\n-x '\"&& touch {mark}",
        f"\udcff; touch {mark}",
    ]
    for each in asked:
        said = subprocess.run(
            [*words, "--", HOST, each],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert not said.stdout or said.stdout.startswith(b"\0realize-session\n")
        assert said.returncode == 0
    for flags in (["-s", "--", HOST, "sftp"], ["-W", f"127.0.0.1:{sshd.port}", HOST]):
        said = subprocess.run(
            [*words, *flags],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert b"SSH-2.0" not in said.stdout
    assert not mark.exists()
    assert not list(inbox.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "$(touch mark)",
        "`touch mark`",
        "; touch mark #",
        "'\"; touch mark; '",
        "--take=",
        "-oProxyCommand=touch mark",
        "new\nline; touch mark",
        "~root",
        "*",
        "caf\udce9",
    ],
)
def test_names_run_nothing(world: World, sshd: Sshd, name: str) -> None:
    """
    Of directories and files, here and there, whatever is in them.
    """
    source, target = folders(world, f"source/{name}", f"target/{name}")
    (source / name).write_text("x")
    world.realize(source, f"{HOST}:{target}", env=sshd.env)
    assert set(snapshot(target)) == {os.fsencode(name)}
    world.realize(f"{HOST}:{target}/{name}", source, env=sshd.env)
    assert (source / name).read_text() == "x"
    assert not list(world.folder.rglob("mark"))


def test_hosts_that_are_options_or_commands(world: World, sshd: Sshd) -> None:
    """
    Are refused before ssh sees them.
    """
    (source,) = folders(world, "source")
    (source / "x").write_text("x")
    for host in ("-oProxyCommand=touch mark", "a;touch mark", "$(touch mark)", "a b"):
        for word in (f"{host}:/tmp", f"ssh://{host}:22/tmp", f"-l@{host}:/tmp"):
            if not word.startswith("-"):
                world.realize(source, word, env=sshd.env, status=2)
            world.realize("--", source, word, env=sshd.env, status=2)
    assert not list(world.folder.rglob("mark"))


def test_another_version(world: World, sshd: Sshd) -> None:
    """
    Which, on each side, and which to update.
    """
    source, target = folders(world, "source", "target")
    (source / "x").write_text("x")
    program = world.folder / "newer"
    program.write_text(
        f"#!{PROGRAMS / 'python'}\n"
        "from realize.wire import commands\n"
        "from realize.cli.main import main\n"
        "commands.VERSION += 1\n"
        "main()\n"
    )
    program.chmod(0o755)
    there = f"{HOST}:{target}"
    option = f"--remote-realize={program}"
    said = world.realize(source, there, option, env=sshd.env, status=3)
    assert "update realize here" in said.err
    assert (source / "x").exists()


def test_compressed_limited_and_counted(world: World, sshd: Sshd) -> None:
    """
    As with a daemon.
    """
    source, target = folders(world, "source", "target")
    (source / "zeros and ones").write_bytes(b"01" * 2_000_000)
    textfile = world.folder / "move.prom"
    (said,) = world.realize(
        source,
        f"{HOST}:{target}",
        "--compress=always",
        "--throttle-up=1M",
        "--output=json",
        f"--metrics-textfile={textfile}",
        env=sshd.env,
    ).json[-1:]
    assert said["event"] == "summary"
    assert f'destination="ssh://{HOST}"' in textfile.read_text()
    assert (target / "zeros and ones").stat().st_size == 4_000_000


@pytest.mark.parametrize("victim", ["ssh", "sshd", "serve", "command"])
def test_killed_in_the_middle(world: World, sshd: Sshd, victim: str) -> None:
    """
    Nothing is lost, nobody stays behind, and the same command goes on.
    """
    source, target = folders(world, "source", "target")
    (source / "large").write_bytes(os.urandom(3_000_000))
    planted = snapshot(source)
    there = f"{HOST}:{target}"
    moving = world.begin(source, there, "--throttle=500K", env=sshd.env)
    wait_until(lambda: list(target.glob(".*.realize-part")))
    if victim == "command":
        moving.kill()
    elif victim == "ssh":
        found = subprocess.run(
            ["pgrep", "-P", str(moving.pid)], capture_output=True, check=True
        )
        os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    else:
        victims = sshd.sessions() if victim == "sshd" else sshd.servers()
        os.kill(victims[0], signal.SIGKILL)
    if victim == "command":
        moving.communicate(timeout=PATIENCE)
        wait_until(lambda: not sshd.servers())
        assert snapshot(source) == planted
        world.realize(source, there, env=sshd.env)
    else:
        _out, err = moving.communicate(timeout=2 * PATIENCE)
        assert moving.returncode == 0, err
        assert b"trying again" in err
    assert snapshot(target) == planted
    assert not snapshot(source)
    wait_until(lambda: not sshd.servers())


def test_interrupted(world: World, sshd: Sshd) -> None:
    """
    The signal reaches everybody in the terminal's group; what is in progress is
    finished all the same.
    """
    source, target = folders(world, "source", "target")
    (source / "large").write_bytes(os.urandom(1_500_000))
    planted = snapshot(source)
    moving = world.begin(
        source,
        f"{HOST}:{target}",
        "--throttle=500K",
        env=sshd.env,
        start_new_session=True,
    )
    wait_until(lambda: list(target.glob(".*.realize-part")))
    os.killpg(moving.pid, signal.SIGINT)
    _out, err = moving.communicate(timeout=PATIENCE)
    assert moving.returncode in (0, 20), err
    assert snapshot(target) == planted
    assert not snapshot(source)
    wait_until(lambda: not sshd.servers())


def test_what_is_said_over_there_is_told(world: World, sshd: Sshd) -> None:
    """
    While the session goes on too, one harmless line each.
    """
    source, target = folders(world, "source", "target")
    (source / "large").write_bytes(os.urandom(600_000))
    program = PROGRAMS / "realize"
    noise = "sleep 2; printf 'disk \\033[2J\\nfull\\n' >&2"
    sshd.allow(f'command="({noise}) & exec {program} serve"')
    said = world.realize(source, f"{HOST}:{target}", "--throttle=150K", env=sshd.env)
    assert re.search(rf"ssh://{HOST}: disk \\\\+x1b\[2J\n", said.err)
    assert f"ssh://{HOST}: full\n" in said.err


def begin_on_terminal(
    world: World, *words: str | Path, env: dict[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """
    Start ``realize`` in the foreground of a terminal; the other end of that.
    """
    near, far = pty.openpty()
    process = world.begin(
        *words,
        env=env,
        wrapper=["setsid", "--ctty"],
        stdin=far,
        stdout=far,
        stderr=far,
    )
    os.close(far)
    return process, near


def read_until(terminal: int, words: bytes) -> bytes:
    """
    What appears on a terminal until these words do, or it is closed.
    """
    seen = b""
    deadline = time.monotonic() + PATIENCE
    while words not in seen and time.monotonic() < deadline:
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            break
    return seen


def test_ctrl_c_on_a_terminal(world: World, sshd: Sshd) -> None:
    """
    There ssh is in the foreground with us, as it may have to ask, and is not ended.
    """
    source, target = folders(world, "source", "target")
    (source / "large").write_bytes(os.urandom(1_500_000))
    planted = snapshot(source)
    moving, terminal = begin_on_terminal(
        world, source, f"{HOST}:{target}", "--throttle=500K", env=sshd.env
    )
    wait_until(lambda: list(target.glob(".*.realize-part")))
    os.write(terminal, b"\x03")
    seen = read_until(terminal, b"never")
    assert moving.wait(PATIENCE) in (0, 20), seen
    os.close(terminal)
    assert b"finishing what is in progress" in seen
    assert snapshot(target) == planted
    assert not snapshot(source)
    wait_until(lambda: not sshd.servers())


@pytest.mark.parametrize("answer", ["yes", "no", "\x03"])
def test_ssh_may_ask_on_a_terminal(world: World, sshd: Sshd, answer: str) -> None:
    """
    Whether a key is right, for one.  Without a terminal it does not.
    """
    source, target = folders(world, "source", "target")
    (source / "x").write_text("x")
    (sshd.folder / "known").write_text("")
    env = {"REALIZE_SSH": f"{sshd.ssh} -o StrictHostKeyChecking=ask"}
    world.realize(source, f"{HOST}:{target}", env=env, status=3)
    moving, terminal = begin_on_terminal(world, source, f"{HOST}:{target}", env=env)
    seen = read_until(terminal, b"(yes/no")
    assert b"(yes/no" in seen
    os.write(terminal, answer.encode() + b"\n")
    seen = read_until(terminal, b"never")
    status = {"yes": 0, "no": 3, "\x03": 20}[answer]
    assert moving.wait(PATIENCE) == status, seen
    os.close(terminal)
    assert (target / "x").exists() == (answer == "yes")
    assert (source / "x").exists() == (answer != "yes")
