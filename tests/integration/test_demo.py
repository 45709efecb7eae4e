"""
``realize demo``, which is the first thing that anybody sees.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.programs import PROGRAMS, environment, plant, snapshot


def begin(temporary: Path, *words: str | Path) -> subprocess.Popen[str]:
    """
    Start it, with temporary files in a place that can be looked at.
    """
    return subprocess.Popen(
        [PROGRAMS / "realize", "demo", *words],
        env=environment(TMPDIR=str(temporary)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=temporary.parent,
    )


def children_left(temporary: Path) -> list[str]:
    """
    Command lines of processes that still have to do with it.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            place = os.readlink(folder / "cwd")
            line = os.fsdecode((folder / "cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            continue
        if place.startswith(str(temporary)):
            found.append(line)
    return found


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """
    A folder for temporary files.
    """
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def test_a_generated_tree(temporary: Path) -> None:
    """
    Thousands of files arrive, each is checked, it says how to do it for real, and
    nothing is left behind.
    """
    demo = begin(temporary)
    out, err = demo.communicate(timeout=120)
    assert demo.returncode == 0, (out, err)
    found = re.search(
        r"([\d,]+) of ([\d,]+) files arrived as they were; 0 are left", out
    )
    assert found
    assert found[1] == found[2]
    assert int(found[1].replace(",", "")) > 3000
    assert "realize --config config.toml /var/spool/camera archive:inbox" in out
    assert re.search(r"^Moved 3,\d\d\d files, ", out, re.MULTILINE)
    assert os.listdir(temporary) == []
    assert children_left(temporary) == []


def test_a_directory_of_the_user(temporary: Path, tmp_path: Path) -> None:
    """
    A copy is moved; the directory itself is as it was.
    """
    mine = tmp_path / "mine"
    mine.mkdir()
    plant(mine)
    (mine / "closed").mkdir(mode=0o500)
    os.mkfifo(mine / "pipe")
    before = snapshot(mine)
    demo = begin(temporary, mine)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 0, (out, err)
    assert f"{len(before)} of {len(before)} files arrived as they were" in out
    assert snapshot(mine) == before
    assert os.listdir(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["Making up", "archive$", "camera$"])
def test_interrupted(temporary: Path, number: int, moment: str) -> None:
    """
    At any moment: exit 20, no process and no file left.
    """
    demo = begin(temporary)
    for line in demo.stdout:
        if line.startswith(moment):
            break
    time.sleep(0.3)
    if number == signal.SIGINT:
        os.killpg(demo.pid, number)  # as a terminal does
    else:
        demo.send_signal(number)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode in (20, 0), (out, err)
    assert "Traceback" not in err
    assert os.listdir(temporary) == []
    assert children_left(temporary) == []


def test_a_directory_that_holds_the_temporary_folder(temporary: Path) -> None:
    """
    It would be copied into itself without end.
    """
    demo = begin(temporary, temporary.parent)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert "TMPDIR" in err
    assert os.listdir(temporary) == []


def test_a_directory_that_is_not_there(temporary: Path) -> None:
    """
    Exit 2 and one line.
    """
    demo = begin(temporary, "nonesuch")
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert err == "realize: DIR: nonesuch: no such directory\n"
