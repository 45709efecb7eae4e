"""
Versions of files, and whether somebody writes to them.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from realize.errors import (
    BadRequest,
    DiskError,
    NoSuchFile,
    NotSettled,
    SourceChanged,
    StillOpen,
)
from realize.store.identity import (
    STEP_NS,
    Guard,
    TooFresh,
    identity_of,
    ignore_lease_signals,
    matches,
    matches_moved,
    size_of,
)
from tests.support.files import as_nobody, identity_at
from tests.support.requirements import needs

SECOND = 1_000_000_000


class Unavailable:
    """
    Hears for what reasons there were no leases.
    """

    def __init__(self):
        self.reasons = []

    def __call__(self, reason):
        """
        Note it.
        """
        self.reasons.append(reason)


@pytest.fixture
def no_leases():
    """
    What the guard tells.
    """
    return Unavailable()


@pytest.fixture
def file(tree):
    """
    A file of eleven bytes.
    """
    path = tree / "file"
    path.write_bytes(b"hello world")
    return path


def opening(guard, path, identity, **options):
    """
    Open a file by the guard, and read it.
    """
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fd = guard.open(directory, os.fsencode(path.name), b"file", identity, **options)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)
    finally:
        os.close(directory)


def changed(path):
    """
    Everything that makes another version of a file, by name.
    """

    def append():
        with path.open("ab") as file:
            file.write(b"!")

    def overwrite():
        with path.open("r+b") as file:
            file.write(b"HELLO")

    def overwrite_and_hide():
        status = path.stat()
        overwrite()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def replace():
        status = path.stat()
        other = path.with_name("other")
        other.write_bytes(b"HELLO WORLD")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(path)

    return {
        "append": append,
        "overwrite": overwrite,
        "overwrite_and_hide": overwrite_and_hide,
        "replace": replace,
        "truncate": lambda: os.truncate(path, 5),
        "touch": lambda: os.utime(path),
        "link": lambda: os.link(path, path.with_name("second")),
    }


@pytest.mark.parametrize("how", changed(None))
def test_another_version(file, no_leases, how):
    """
    Any change is another version, one that resets the time of modification too.
    """
    identity = identity_at(file)
    time.sleep(STEP_NS / 1e9)  # older kernels' clocks move in steps
    changed(file)[how]()
    assert not matches(file.stat(), identity)
    with pytest.raises(SourceChanged):
        opening(Guard(0, no_leases), file, identity)


def test_same_version(file, no_leases):
    """
    Reading, and a new name for it, leave the content the same version.
    """
    identity = identity_at(file)
    assert opening(Guard(0, no_leases), file, identity) == b"hello world"
    assert matches(file.stat(), identity)
    file.rename(file.with_name("moved"))
    assert matches_moved(file.with_name("moved").stat(), identity)
    assert no_leases.reasons == []
    assert size_of(identity) == 11


def test_moved_version_is_still_checked(file):
    """
    A rename is allowed, another size, time or inode is not.
    """
    identity = identity_at(file)
    os.utime(file, ns=(1, 1))
    assert not matches_moved(file.stat(), identity)


def test_links_come_and_go(file):
    """
    Removing one of two links does not make another version of the other, but adding
    one to a file that had one does.
    """
    alone = identity_at(file)
    second = file.with_name("second")
    os.link(file, second)
    assert not matches(file.stat(), alone)
    linked = identity_at(file)
    second.unlink()
    assert matches(file.stat(), linked)
    assert identity_at(file) != linked


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_open_for_writing(file, no_leases, flags):
    """
    As long as somebody could write, the file is left alone.
    """
    guard, identity = Guard(0, no_leases), identity_at(file)
    writer = os.open(file, flags)
    with pytest.raises(StillOpen):
        opening(guard, file, identity)
    os.close(writer)
    assert opening(guard, file, identity) == b"hello world"


def test_open_for_reading_is_no_matter(file, no_leases):
    """
    Readers do no harm.
    """
    reader = os.open(file, os.O_RDONLY)
    assert opening(Guard(0, no_leases), file, identity_at(file)) == b"hello world"
    os.close(reader)


def test_mapped_for_writing(file, no_leases):
    """
    Somebody may write without an open descriptor, into a mapping.
    """
    script = (
        "import mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "memory = mmap.mmap(fd, 11)\n"
        "os.close(fd)\n"
        "print('mapped', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"mapped\n"
        with pytest.raises(StillOpen):
            opening(Guard(0, no_leases), file, identity_at(file))
        process.stdin.close()


def test_lease_is_dropped_at_once(file, no_leases):
    """
    Whoever wants to write next does not wait for us.
    """
    directory = os.open(file.parent, os.O_RDONLY)
    fd = Guard(0, no_leases).open(directory, b"file", b"file", identity_at(file))
    os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
    os.close(fd)
    os.close(directory)


def test_lease_that_is_kept(file, no_leases):
    """
    It holds writers off, and tells that one came by.
    """
    guard = Guard(0, no_leases)
    directory = os.open(file.parent, os.O_RDONLY)
    fd, leased = guard.open_leased(directory, b"file", b"file", identity_at(file))
    assert leased
    assert guard.is_unbroken(fd)
    with pytest.raises(BlockingIOError):
        os.open(file, os.O_WRONLY | os.O_NONBLOCK)
    assert not guard.is_unbroken(fd)
    os.close(fd)
    os.close(directory)


def test_signal_of_a_broken_lease_is_ignored(tree):
    """
    It would kill the process: shown by one that does not ignore it.
    """
    file = tree / "file"
    file.touch()
    script = (
        "import fcntl, os, sys\n"
        "from realize.store.identity import ignore_lease_signals\n"
        "if sys.argv[2] == 'yes': ignore_lease_signals()\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)\n"
        "try: os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)\n"
        "except BlockingIOError: pass\n"
    )
    ended = {
        answer: subprocess.run(
            [sys.executable, "-c", script, file, answer],
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGIO, signal.SIG_DFL),
        ).returncode
        for answer in ("yes", "no")
    }
    assert ended == {"yes": 0, "no": -signal.SIGIO}


def test_ignores_for_good():
    """
    The setting is that of the process.
    """
    ignore_lease_signals()
    assert signal.getsignal(signal.SIGIO) is signal.SIG_IGN


def test_gone(file, no_leases):
    """
    A name that is free is no changed file.
    """
    identity = identity_at(file)
    file.unlink()
    with pytest.raises(NoSuchFile):
        opening(Guard(0, no_leases), file, identity)


@pytest.mark.parametrize("what", ["directory", "symlink", "pipe", "socket"])
def test_no_file_any_more(file, no_leases, what):
    """
    Whatever has the name now, it is not opened with patience, and not followed; nor
    is it blamed on missing leases.
    """
    identity = identity_at(file)
    file.rename(file.with_name("other"))
    if what == "directory":
        file.mkdir()
    elif what == "symlink":
        file.symlink_to("other")
    elif what == "pipe":
        os.mkfifo(file)
    else:
        here = os.getcwd()
        os.chdir(file.parent)  # the path may be too long for a socket
        socket.socket(socket.AF_UNIX).bind("file")
        os.chdir(here)
    with pytest.raises(SourceChanged):
        opening(Guard(0, no_leases), file, identity)
    assert no_leases.reasons == []


@pytest.mark.parametrize("identity", [b"", b"x", bytes(39), bytes(41)])
def test_not_an_identity(file, no_leases, identity):
    """
    Made up by the other side.
    """
    with pytest.raises(BadRequest):
        size_of(identity)
    with pytest.raises(BadRequest):
        opening(Guard(0, no_leases), file, identity)


def test_changed_just_now(file, no_leases):
    """
    A file that changed within a step of the clock has to wait, if that is asked for.
    """
    born = file.stat().st_ctime_ns
    for age, wait in ((0, STEP_NS), (STEP_NS - 5, 5), (-SECOND, STEP_NS)):
        guard = Guard(0, no_leases, lambda age=age: born + age)
        with pytest.raises(TooFresh) as caught:
            opening(guard, file, identity_at(file), fresh=False)
        assert caught.value.wait_ns == wait
        assert opening(guard, file, identity_at(file))
    guard = Guard(0, no_leases, lambda: born + STEP_NS)
    assert opening(guard, file, identity_at(file), fresh=False)


def test_descriptors_are_closed(file, no_leases):
    """
    Whatever the reason for refusing.
    """
    guard = Guard(0, no_leases, lambda: 0)
    before = len(os.listdir("/proc/self/fd"))
    for identity in (bytes(40), b"", identity_at(file)):
        with pytest.raises((SourceChanged, BadRequest, TooFresh)):
            opening(guard, file, identity, fresh=False)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def foreign(public):
    """
    A file of another user, that everybody may read.
    """
    path = public / "file"
    path.write_bytes(b"hello world")
    path.chmod(0o644)
    return path


@needs(root=True)
@pytest.mark.parametrize(("age", "settles"), [(29, False), (31, True), (-5, False)])
def test_without_leases_a_file_has_to_settle(foreign, no_leases, age, settles):
    """
    Whose file it is not has no lease; then what counts is how long ago it changed.
    """
    born = foreign.stat().st_ctime_ns
    guard = Guard(30 * SECOND, no_leases, lambda: born + age * SECOND)
    with as_nobody():
        if settles:
            assert opening(guard, foreign, identity_at(foreign)) == b"hello world"
        else:
            with pytest.raises(NotSettled):
                opening(guard, foreign, identity_at(foreign))
    assert no_leases.reasons == [os.strerror(errno.EACCES)]


@needs(root=True)
@pytest.mark.parametrize("links", [1, 2])
def test_settled_by_which_clock(foreign, no_leases, links):
    """
    A time of modification in the future does not keep a file for ever.  Nor does the
    removal of another link, which shows in the change time only.
    """
    if links == 2:
        os.link(foreign, foreign.with_name("second"))
        os.utime(foreign, ns=(0, 1))
        now = foreign.stat().st_ctime_ns
    else:
        os.utime(foreign, ns=(0, 2**62))
        now = foreign.stat().st_ctime_ns + 31 * SECOND
    guard = Guard(30 * SECOND, no_leases, lambda: now)
    with as_nobody():
        assert opening(guard, foreign, identity_at(foreign)) == b"hello world"


@needs(root=True)
def test_without_leases_a_recent_modification_counts(foreign, no_leases):
    """
    Also if the change time is older, as on some network file systems.
    """
    born = foreign.stat().st_ctime_ns
    os.utime(foreign, ns=(0, born + 20 * SECOND))
    guard = Guard(30 * SECOND, no_leases, lambda: born + 40 * SECOND)
    with as_nobody(), pytest.raises(NotSettled, match="20s ago"):
        opening(guard, foreign, identity_at(foreign))


@needs(root=True)
def test_file_that_may_not_be_read(foreign, no_leases):
    """
    It is an error, with the reason.
    """
    foreign.chmod(0o600)
    with as_nobody(), pytest.raises(DiskError, match="Permission denied"):
        opening(Guard(0, no_leases), foreign, identity_at(foreign))


def test_identity_is_of_everything_that_tells_versions_apart(file):
    """
    Equal only if device, inode, size and both times are.
    """
    assert identity_of(file.stat()) == identity_at(file)
    assert len(identity_at(file)) == 40
