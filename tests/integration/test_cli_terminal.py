"""
What a move looks like on a terminal.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.support.programs import PROGRAMS, World, environment
from tests.support.requirements import find_program, needs

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-HJKhl]")


@pytest.fixture
def world(world: World, tmp_path: Path) -> World:
    """
    A daemon to move to, and files to move, one of them with a hostile name.
    """
    world.nas.start()
    source = tmp_path / "photos"
    source.mkdir()
    for number in range(200):
        (source / f"{number}").write_text("1")
    (source / "film \x1b]0;owned\x07.mov").write_bytes(os.urandom(1 << 20) * 150)
    (source / "taken \x1b[2J").write_text("1")
    (world.nas.directory("inbox") / "taken \x1b[2J").mkdir()
    return world


def on_terminal(
    world: World, *words: str, columns: int = 100, lines: int = 30, **env: str
) -> tuple[int, str]:
    """
    Run ``realize photos nas:inbox`` on a terminal: its status, and what it wrote.
    """
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [PROGRAMS / "realize", "photos", "nas:inbox", *words],
        cwd=world.folder,
        stdin=far,
        stdout=far,
        stderr=far,
        env=environment(REALIZE_CONFIG=str(world.me.config), **env),
    )
    os.close(far)
    written = bytearray()
    try:
        while piece := os.read(near, 65536):
            written += piece
    except OSError:  # EIO: nobody has the other side any more
        pass
    finally:
        os.close(near)
    return process.wait(60), written.decode().replace("\r\n", "\n")


def test_bars(world: World) -> None:
    """
    Bars for the whole and for the large file, in colour; the complaint above them;
    at the end only text is left, and the cursor is shown.
    """
    status, text = on_terminal(world, TERM="xterm-256color")
    assert status == 1
    assert COLOUR.search(text)
    assert "━" in text
    assert re.search(r"\d+ of 202 files", text)
    assert "film \\x1b]0;" in text
    assert "realize: failed: taken \\x1b[2J: nas:inbox: " in text
    assert "\x1b]0;" not in text
    assert "\x1b[2J" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert re.search(r"[\r\n]Moved 201 files, ", CURSOR.sub("", text))


def test_no_colour(world: World) -> None:
    """
    ``NO_COLOR`` leaves the bars and takes the colours.
    """
    _, text = on_terminal(world, TERM="xterm-256color", NO_COLOR="1")
    assert "━" in text
    codes = {code for code in COLOUR.findall(text) if code not in ("\x1b[0m", "\x1b[m")}
    assert not {code for code in codes if re.search(r"[34][0-7]|[34]8;|9[0-7]", code)}


@pytest.mark.parametrize(
    "how",
    [
        {"TERM": "dumb"},
        {"TERM": ""},
        {"TERM": "xterm", "columns": 20},
        {"TERM": "xterm", "lines": 3},
    ],
)
def test_where_bars_cannot_be_drawn(world: World, how: dict[str, str]) -> None:
    """
    No cursor is moved; the summary is there.
    """
    status, text = on_terminal(world, **how)
    assert status == 1
    assert "\x1b" not in text
    assert "Moved 201 files" in text


def test_a_terminal_of_no_width(world: World) -> None:
    """
    As some pseudo-terminals are: nothing breaks.
    """
    status, text = on_terminal(world, columns=0, lines=0, TERM="xterm")
    assert status == 1
    assert "Moved 201 files" in text


@needs("tmux")
def test_interrupting_leaves_a_clean_screen(world: World, tmp_path: Path) -> None:
    """
    As a person sees it: what was echoed and drawn has not mixed.
    """
    tmux = [
        find_program("tmux"),
        "-f",
        "/dev/null",
        "-S",
        str(tmp_path / "tmux.socket"),
    ]

    def screen() -> str:
        return subprocess.run(
            [*tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True
        ).stdout

    def until(text: str) -> str:
        deadline = time.monotonic() + 30
        while text not in (shown := screen()):
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
        return shown

    command = (
        f"REALIZE_CONFIG={world.me.config} {PROGRAMS / 'realize'} photos nas:inbox"
        " --throttle 2M"
    )
    film = next((tmp_path / "photos").glob("film*"))
    film.write_bytes(os.urandom(50_000_000))
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", "90", "-y", "20", "env", "TERM=tmux", "sh"],
        check=True,
        cwd=tmp_path,
    )
    try:
        subprocess.run([*tmux, "send-keys", f"clear; {command}", "Enter"], check=True)
        until("film")
        subprocess.run([*tmux, "send-keys", "C-c"], check=True)
        until("interrupted")
        subprocess.run([*tmux, "send-keys", "C-c"], check=True)
        shown = until("stopped at once")
        subprocess.run([*tmux, "send-keys", "echo status $?", "Enter"], check=True)
        until("status 20")
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)
    assert len(re.findall(r"of 202 files", shown)) == 1
    (last,) = (line for line in shown.splitlines() if "stopped at once" in line)
    assert last == "realize: stopped at once"


def test_the_log_does_not_tear_the_bars(world: World) -> None:
    """
    Its lines are whole, in colour, and above the bars; each begins on a line of its
    own.
    """
    status, text = on_terminal(
        world, "--log-level", "info", TERM="xterm-256color", COLUMNS="100"
    )
    assert status == 1
    plain = COLOUR.sub("", CURSOR.sub("", text))
    lines = [line for line in re.split(r"[\r\n]+", plain) if " info  " in line]
    assert lines
    for line in lines:
        assert re.match(
            r"\d{4}-\d\d-\d\d [\d:.]+[+-]\d\d:\d\d info  [a-z-]+: .+\.$", line
        )
        assert "━" not in line
    assert any("move-began: " in line for line in lines)
    assert any("files-moved: " in line for line in lines)
    assert re.search(r"\x1b\[\d*(;\d+)*3[12]m(info|warn) ?", text)
    assert "\x1b]0;" not in text


def test_the_log_instead_of_the_bars(world: World) -> None:
    """
    No cursor is moved; levels are coloured.
    """
    status, text = on_terminal(world, "--output", "log", TERM="xterm-256color")
    assert status == 1
    assert not CURSOR.search(text)
    assert "\x1b[32minfo \x1b[0m move-began: " in text
    assert "\x1b[33mwarn \x1b[0m file-failed: taken \\x1b[2J in nas:inbox: " in text
    _, plain = on_terminal(
        world, "--output", "log", TERM="xterm-256color", NO_COLOR="1"
    )
    assert "\x1b" not in plain
