"""
Files that somebody works on while they are moved.

The real program is held up at one step, and the file is changed, replaced, deleted or
opened meanwhile.  Whatever it holds then must be at one end or the other afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BufferedRandom
from pathlib import Path

import pytest
from attrs import define, field

from tests.support.processes import Call
from tests.support.programs import PATIENCE, PROGRAMS, World
from tests.support.requirements import needs

#: Seconds for which the program is held up, and after which the file is changed.
HELD = 0.8
INTO_IT = 0.2

#: What is in the file at first, and what is added.
CONTENT = os.urandom(200_000)
MORE = b"and one more line\n"

#: The end of a log: which of its lines are nowhere.
LINES = 400


@define
class Scene:
    """
    A file to move, on one file system, to another.

    :ivar held: the file, kept open for writing.
    """

    source: Path
    inbox: Path
    held: BufferedRandom | None = field(default=None, init=False)

    @property
    def file(self) -> Path:
        """
        At the source.
        """
        return self.source / "file"

    @property
    def moved(self) -> Path:
        """
        At the destination.
        """
        return self.inbox / "file"

    def hidden(self) -> Path | None:
        """
        The hidden directory, if there is one.
        """
        return next(self.source.glob(".realize-moved-*"), None)

    def contents(self) -> list[bytes]:
        """
        What is in the files at both ends, except those under construction.
        """
        return [
            each.read_bytes()
            for root in (self.source, self.inbox)
            for each in root.rglob("*")
            if each.is_file() and not each.name.endswith(".realize-part")
        ]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """
    Two file systems if there are two.
    """
    inbox = Path(f"/dev/shm/realize-changing-{os.getpid()}")
    source = tmp_path / "source"
    source.mkdir()
    inbox.mkdir()
    scene = Scene(source, inbox)
    try:
        if os.stat(inbox).st_dev == os.stat(source).st_dev:
            pytest.skip("needs a second file system")
        scene.file.write_bytes(CONTENT)
        # Long enough ago for a change to show in the times.
        os.utime(scene.file, ns=(0, 1_700_000_000_000_000_000))
        time.sleep(0.06)
        yield scene
    finally:
        if scene.held is not None:
            scene.held.close()
        shutil.rmtree(inbox)


def append(scene: Scene) -> bytes | None:
    """
    As a log is.
    """
    with scene.file.open("ab") as file:
        file.write(MORE)
    return scene.file.read_bytes()


def truncate(scene: Scene) -> bytes | None:
    """
    To nothing, and written anew.
    """
    scene.file.write_bytes(MORE)
    return MORE


def rewrite(scene: Scene) -> bytes | None:
    """
    In place, with as many bytes, and with the old time of modification.
    """
    status = scene.file.stat()
    content = bytes(reversed(scene.file.read_bytes()))
    with scene.file.open("r+b") as file:
        file.write(content)
    os.utime(scene.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    return content


def replace(scene: Scene) -> bytes | None:
    """
    By another file, as editors do, with as many bytes and the same time.
    """
    other = scene.source.parent / "other"
    other.write_bytes(MORE.ljust(len(CONTENT)))
    os.utime(other, ns=(0, 1_700_000_000_000_000_000))
    os.replace(other, scene.file)
    return MORE.ljust(len(CONTENT))


def delete(scene: Scene) -> bytes | None:
    """
    By somebody else.
    """
    scene.file.unlink()
    return None


def hold(scene: Scene) -> bytes | None:
    """
    Kept open, and written to when the program has ended.
    """
    scene.held = scene.file.open("r+b", buffering=0)  # type: ignore[assignment]
    return None


#: Returns what the file holds then, if that has to survive.
Change = Callable[[Scene], bytes | None]

#: Instants: where the program is held up, and how one sees that it is there.
MOMENTS: dict[str, tuple[Callable[[Scene], Call], Callable[[Scene, int], bool]]] = {
    "opened": (
        lambda scene: Call("fcntl", scene.file, "1"),
        lambda scene, pid: _has_open(pid, scene.file),
    ),
    "read": (
        lambda scene: Call("fsync", scene.inbox / ".file.realize-part"),
        lambda scene, _: (scene.inbox / ".file.realize-part").exists(),
    ),
    "renamed": (
        lambda scene: Call("fsync", scene.inbox),
        lambda scene, _: scene.moved.exists(),
    ),
    "leased": (
        lambda scene: Call("renameat2", scene.source),
        lambda scene, _: scene.hidden() is not None,
    ),
    "hidden": (
        lambda _: Call("unlinkat", when="1"),
        lambda scene, _: scene.hidden() is not None and not scene.file.exists(),
    ),
}


def _has_open(pid: int, file: Path) -> bool:
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(fd) == str(file):
                return True
        except FileNotFoundError:
            continue
    return False


@needs("strace")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("change", [append, truncate, rewrite, replace, delete, hold])
def test_no_version_is_lost(
    tmp_path: Path, scene: Scene, moment: str, change: Change
) -> None:
    """
    Deferred, gone, or moved with a successor in its place: whatever the file holds at
    the last is somewhere, and the next run moves it.
    """
    world = World.create(tmp_path / "world")
    call, is_there = MOMENTS[moment]
    process = world.begin(
        *("move", "--on-conflict=replace", scene.source, scene.inbox),
        wrapper=call(scene).delaying(HELD),
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_there(scene, process.pid):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(INTO_IT)
        try:
            content = change(scene)
        except FileNotFoundError:
            assert moment == "hidden"
            content = None
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, 4), (out, err)
    survivors = scene.contents()
    if scene.held is not None:
        # It is still the file that has the name.
        assert process.returncode == 4
        scene.held.write(MORE)
        scene.held.close()
        content = scene.file.read_bytes()
        assert content.startswith(MORE)
    elif content is not None:
        assert content in survivors
    elif change is delete and moment != "hidden":
        assert survivors in ([], [CONTENT])
    world.realize("move", "--on-conflict=replace", scene.source, scene.inbox)
    if content is not None:
        assert scene.moved.read_bytes() == content
    assert list(scene.source.iterdir()) == []


@needs("strace")
def test_no_mixture_of_versions_gets_a_name(tmp_path: Path, scene: Scene) -> None:
    """
    A file that is rewritten between two reads of it.
    """
    world = World.create(tmp_path / "world")
    old, new = os.urandom(24 << 20), os.urandom(24 << 20)
    scene.file.write_bytes(old)
    time.sleep(0.06)
    wrapper = Call("pread64", scene.file).delaying(HELD / 2)
    process = world.begin(
        "move", "--on-conflict=replace", scene.source, scene.inbox, wrapper=wrapper
    )
    try:
        part = scene.inbox / ".file.realize-part"
        deadline = time.monotonic() + PATIENCE
        while not part.exists() or not part.stat().st_size:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with scene.file.open("r+b") as file:
            file.write(new)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 4
    assert not scene.moved.exists()
    assert scene.file.read_bytes() == new
    world.realize("move", "--on-conflict=replace", scene.source, scene.inbox)
    assert scene.moved.read_bytes() == new


#: A writer of a log: keeps it open, or opens it for every line.
WRITER = """
import sys, time
path, count, keep = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "keep"
file = open(path, "a")
for number in range(count):
    if not keep:
        file = open(path, "a")
    file.write(f"{number}\\n")
    file.flush()
    if not keep:
        file.close()
    time.sleep(0.005)
"""


def write_log(path: Path, how: str) -> subprocess.Popen[bytes]:
    """
    Start a writer that takes about two seconds.
    """
    return subprocess.Popen([sys.executable, "-c", WRITER, path, str(LINES), how])


def lines_in(*roots: Path) -> list[int]:
    """
    The lines of all logs below, in order.
    """
    return sorted(
        int(line)
        for root in roots
        for log in root.rglob("log")
        for line in log.read_text().split()
    )


@pytest.mark.parametrize("how", ["keep", "reopen"])
def test_no_line_of_a_log_is_lost(tmp_path: Path, how: str) -> None:
    """
    Moved again and again, each time to a new place, while somebody writes to it.
    """
    scene = _log_scene(tmp_path)
    writer = write_log(scene.source / "log", how)
    statuses = set()
    try:
        for number in range(1000):
            target = scene.inbox / str(number)
            target.mkdir()
            statuses.add(_realize(scene.source, target))
            if writer.poll() is not None:
                break
    finally:
        writer.wait(PATIENCE)
        target = scene.inbox / "last"
        target.mkdir()
        statuses.add(_realize(scene.source, target))
        lines = lines_in(scene.source, scene.inbox)
        shutil.rmtree(scene.inbox)
    assert lines == list(range(LINES))
    assert statuses <= {0, 4}
    assert how == "reopen" or 4 in statuses


@needs("rsync")
def test_rsync_loses_lines(tmp_path: Path) -> None:
    """
    Otherwise the test above would show nothing.

    Not each time: where it notices that the file has grown, it leaves it.
    """
    assert any(_rsync_loses(tmp_path / str(number)) for number in range(20))


def _rsync_loses(folder: Path) -> bool:
    folder.mkdir()
    scene = _log_scene(folder)
    writer = write_log(scene.source / "log", "keep")
    try:
        while not lines_in(scene.source):
            time.sleep(0.01)
        subprocess.run(
            ["rsync", "-a", "--remove-source-files", f"{scene.source}/", scene.inbox],
            check=False,
            capture_output=True,
            timeout=PATIENCE,
        )
    finally:
        writer.wait(PATIENCE)
        lines = lines_in(scene.source, scene.inbox)
        shutil.rmtree(scene.inbox)
    return len(lines) < LINES


def _log_scene(tmp_path: Path) -> Scene:
    source = tmp_path / "logs"
    source.mkdir()
    inbox = Path(f"/dev/shm/realize-logs-{os.getpid()}")
    inbox.mkdir()
    return Scene(source, inbox)


def _realize(source: Path, target: Path) -> int:
    command: list[str | Path] = [
        PROGRAMS / "realize",
        "move",
        "--on-conflict=replace",
        "--output=quiet",
    ]
    return subprocess.run(
        [*command, source, target],
        check=False,
        timeout=PATIENCE,
        stderr=subprocess.DEVNULL,
    ).returncode
