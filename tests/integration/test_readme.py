"""
The README's walk through setting up two hosts, as it is written.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import PROGRAMS, environment, free_port, plant, snapshot

README = (Path(__file__).parents[2] / "README.md").read_text()
WALK = README.split("\n## Two hosts\n")[1].split("\n## ")[0]


def blocks(kind: str, section: str) -> list[str]:
    """
    The code blocks of a section.
    """
    text = WALK.split(f"\n### {section}\n")[1].split("\n### ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(command: str, folder: Path) -> str:
    """
    What one line of a shell says, on a host.
    """
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment(PATH=f"{PROGRAMS}:/usr/bin:/bin"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture
def hosts(tmp_path: Path) -> dict[str, Path]:
    """
    A folder for each of the two.
    """
    folders = {name: tmp_path / name for name in ("archive", "camera")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "files").mkdir()
    return folders


def test_the_walk_through_works(hosts: dict[str, Path]) -> None:
    """
    Every command and every configuration, with nothing changed but keys, the port,
    and where the directories are.
    """
    port = free_port()
    (keygen,) = blocks("sh", "Keys")
    lines = {name: run(keygen, folder).strip() for name, folder in hosts.items()}

    def adapted(text: str, other: str) -> str:
        text, keys = re.subn(r'^pubkey = "[^"]*"', lines[other], text, flags=re.M)
        assert keys == 1
        for path, name in (("/srv/inbox", "archive"), ("/var/spool/camera", "camera")):
            text = text.replace(path, str(hosts[name] / "files"))
        text = text.replace("archive.example:9771", f"127.0.0.1:{port}")
        return text

    (keeps,) = blocks("toml", "The host that keeps the files")
    (appear,) = blocks("toml", "The host where files appear")
    (hosts["archive"] / "config.toml").write_text(adapted(keeps, "camera"))
    (hosts["camera"] / "config.toml").write_text(adapted(appear, "archive"))
    before = plant(hosts["camera"] / "files")

    check, start = blocks("sh", "The host that keeps the files")[0].splitlines()
    address = f" --address 127.0.0.1:{port}"
    assert "everything" in run(check + address, hosts["archive"])
    daemon = subprocess.Popen(
        ["bash", "-c", f"exec {start}{address}"],
        cwd=hosts["archive"],
        env=environment(PATH=f"{PROGRAMS}:/usr/bin:/bin"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in daemon.stdout:
            if "listens" in line:
                break
        rehearse, move = blocks("sh", "Moving")[0].splitlines()
        spool = str(hosts["camera"] / "files")
        said = run(rehearse.replace("/var/spool/camera", spool), hosts["camera"])
        assert f"Would move {len(before)} files" in said
        assert snapshot(hosts["camera"] / "files") == before
        said = run(move.replace("/var/spool/camera", spool), hosts["camera"])
        assert said.startswith(f"Moved {len(before)} files")
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=30)
    assert snapshot(hosts["archive"] / "files") == before
    assert snapshot(hosts["camera"] / "files") == {}
