"""
The file system of switches, mounted in a process of its own.

    with mount(tmp_path / "fs", Switches(folds=True)) as there:
        (there.root / "a").touch()
        there.fail(Fault(call="unlink", error="EIO"))
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes.util import find_library
from pathlib import Path
from typing import Final

import pytest
from attrs import define, evolve, field

from tests.support.fuse.switches import Control, Fault, Switches
from tests.support.requirements import find_program, missing

_REPOSITORY: Final = Path(__file__).parents[3]

#: Seconds for it to be mounted, or to end.
_PATIENCE: Final = 30.0


def lacking() -> list[str]:
    """
    What the machine does not have of what is needed here, in words.
    """
    lacks = missing("fusermount3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        lacks.append("/dev/fuse")
    if find_library("fuse3") is None:
        lacks.append("libfuse3")
    return lacks


#: For tests of it.
needs_fuse = pytest.mark.skipif(bool(lacking()), reason=f"needs {', '.join(lacking())}")


@define
class Mounted:
    """
    One that is mounted.

    :ivar folder: holds all of it.
    :ivar shown: a directory of somebody else's that it shows; None for its own.
    """

    folder: Path
    shown: Path | None = None
    control: Control = field(factory=Control)

    @property
    def root(self) -> Path:
        """
        Where it is seen.
        """
        return self.folder / "mounted"

    @property
    def below(self) -> Path:
        """
        The directory that it shows.
        """
        return self.shown or self.folder / "below"

    def switch(self, switches: Switches) -> None:
        """
        Be like this from now on.
        """
        self._tell(evolve(self.control, switches=switches))

    def fail(self, *faults: Fault) -> None:
        """
        Let these calls go wrong from now on, and no others; counted from here.
        """
        (self.folder / "log").write_text("")
        number = self.control.number + 1
        self._tell(evolve(self.control, faults=faults, number=number))

    def failed(self) -> list[str]:
        """
        Which faults have happened since.
        """
        return (self.folder / "log").read_text().splitlines()

    def _tell(self, control: Control) -> None:
        self.control = control
        new = self.folder / "control.new"
        new.write_text(control.to_json())
        new.replace(self.folder / "control")


@contextmanager
def mount(
    folder: Path, switches: Switches | None = None, below: Path | None = None
) -> Iterator[Mounted]:
    """
    For as long as the block runs.

    :param folder: created; new.
    :param below: the directory that it shows; by default a new one.
    """
    folder.mkdir(parents=True)
    mounted = Mounted(folder, below)
    mounted.root.mkdir()
    mounted.below.mkdir(exist_ok=True)
    mounted.fail()
    mounted.switch(switches or Switches())
    words = [mounted.below, mounted.root, folder / "control", folder / "log"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fuse.filesystem", *words],
        cwd=_REPOSITORY,
        # Otherwise the binding takes libfuse2, where that is installed.
        env={**os.environ, "PYTHONUTF8": "1", "FUSE_LIBRARY_NAME": "fuse3"},
        stdin=subprocess.DEVNULL,
        stderr=(folder / "errors").open("wb"),
    )
    try:
        _wait(mounted, process)
        yield mounted
    finally:
        _end(mounted, process)


def _wait(mounted: Mounted, process: subprocess.Popen[bytes]) -> None:
    outside = mounted.folder.stat().st_dev
    deadline = time.monotonic() + _PATIENCE
    while mounted.root.stat().st_dev == outside:
        said = (mounted.folder / "errors").read_text()
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.01)


def _end(mounted: Mounted, process: subprocess.Popen[bytes]) -> None:
    # Lazily, and even if it hangs: nothing of it may stay.
    mounted.fail()
    unmount = find_program("fusermount3") or "fusermount3"
    subprocess.run([unmount, "-u", "-z", mounted.root], check=False, timeout=_PATIENCE)
    with suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
    process.kill()
    process.wait()
