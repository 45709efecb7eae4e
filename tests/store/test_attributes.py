"""
Permissions and times, also where a file system does not take them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from realize.model import Directory, Finished, Offer
from realize.store.attributes import attempt, not_kept, set_mode
from realize.store.filesystem import COARSE_NS
from tests.support.files import as_nobody
from tests.support.mounts import mounted
from tests.support.putting import MTIME_NS, Putting, contents
from tests.support.requirements import needs
from tests.support.threads import result_of


def failing(number: int) -> Callable[[], None]:
    """
    A call that fails in this way.
    """

    def call() -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_what_is_refused_is_no_failure(number):
    """
    The file arrives without.
    """
    attempt(failing(number))


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE])
def test_other_errors_are(number):
    """
    A disk that fails is no file system that lacks something.
    """
    with pytest.raises(OSError, match=os.strerror(number)):
        attempt(failing(number))


@needs(root=True)
def test_not_even_readable_by_its_owner(public):
    """
    An ordinary user could not read such a file again, to prove that it is there after a
    crash, nor could anybody where opening it is the only way to ask: he may read it.
    """
    with as_nobody(), (public / "x").open("w") as file:
        set_mode(file.fileno(), 0o044)
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o444
        set_mode(file.fileno(), 0o640)
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o640


@needs("bindfs", root=True)
@pytest.mark.parametrize(("kind", "mode"), [("", 0o044), ("bindfs", 0o444)])
def test_root_reads_all_but(tmp_path, kind, mode):
    """
    What is on another host, or in another program, may refuse root as well.
    """
    with mounted(kind, tmp_path) if kind else nullcontext(tmp_path) as place:
        with (place / "x").open("w") as file:
            set_mode(file.fileno(), 0o044)
        assert (place / "x").stat().st_mode & 0o777 == mode


def test_not_kept(tmp_path):
    """
    Other permissions, other times; but not times that were rounded.
    """
    path = tmp_path / "x"
    path.touch(0o640)
    path.chmod(0o640)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
    status = path.stat()
    assert not_kept(status, 0o640, MTIME_NS) == []
    assert not_kept(status, 0o600, MTIME_NS) == ["permissions"]
    assert not_kept(status, 0o640, MTIME_NS + COARSE_NS - 1) == []
    assert not_kept(status, 0o600, MTIME_NS - COARSE_NS) == ["permissions", "time"]


@needs("bindfs", root=True)
@pytest.mark.parametrize("option", ["--chmod-deny", "--chmod-ignore"])
def test_permissions_that_are_not_taken(tmp_path, option):
    """
    The file arrives, in a new directory, and it is told that they are not kept.
    """
    with mounted("bindfs", tmp_path, option) as place:
        putting = Putting(place)
        offer = Offer(b"d/x", 7)
        result_of(putting.store.offer([offer], [Directory(b"d", 0o750)]))
        (result,) = putting.put({b"d/x": b"content"})
        assert result == Finished("written", result.version, ["permissions"])
        assert contents(place) == {"d": None, "d/x": b"content"}
        putting.close()


def test_permissions_that_somebody_changed_meanwhile(tree: Path):
    """
    Another session took the partial for abandoned, just before it got its name.
    """

    def sync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".realize-part"):
            os.fchmod(fd, 0o600)
        os.fsync(fd)

    putting = Putting(tree, sync=sync)
    (result,) = putting.put({b"x": b"content"})
    assert result.not_kept == []
    assert (tree / "x").stat().st_mode & 0o777 == 0o640
    putting.close()
