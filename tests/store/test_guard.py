"""
Versions of files, and the guard that opens only the right one, which nobody writes to.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from attrs import evolve
from blake3 import blake3

from realize.errors import (
    BadRequest,
    DiskError,
    NoSuchFile,
    NotSettled,
    SourceChanged,
    StillOpen,
)
from realize.store import guard as guard_module
from realize.store import writers
from realize.store.filesystem import TICK_NS, FileSystem
from realize.store.guard import MAPPED_AT_ONCE, Guard, TooFresh, ignore_lease_signals
from realize.store.identity import (
    differs_by_links,
    identity_now,
    identity_of,
    matches,
    matches_moved,
    size_of,
)
from realize.store.writers import Writers
from tests.support.files import as_nobody, identity_at
from tests.support.requirements import needs

SECOND = 1_000_000_000

#: What an identity is made of.
COUNTED = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_nlink")


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
    time.sleep(TICK_NS / 1e9)  # older kernels' clocks move in steps
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
    Adding a link makes another version.  Removing or renaming one may have made none,
    which the content has to tell.
    """
    alone = identity_at(file)
    second = file.with_name("second")
    os.link(file, second)
    assert not matches(file.stat(), alone)
    assert not differs_by_links(file.stat(), alone)
    linked = identity_at(file)
    while matches(file.stat(), linked):
        second = second.rename(file.with_name(f"{second.name}."))
    assert differs_by_links(file.stat(), linked)
    linked = identity_at(file)
    second.unlink()
    assert identity_at(file) != linked
    assert not matches(file.stat(), linked)
    assert differs_by_links(file.stat(), linked)
    for how in ("append", "replace", "touch"):
        changed(file)[how]()
        assert not differs_by_links(file.stat(), linked)


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
        "from realize.store.guard import ignore_lease_signals\n"
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


@pytest.mark.parametrize("identity", [b"", b"x", bytes(43), bytes(45)])
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
    for age, wait in ((0, TICK_NS), (TICK_NS - 5, 5), (-SECOND, TICK_NS)):
        guard = Guard(0, no_leases, lambda age=age: born + age)
        with pytest.raises(TooFresh) as caught:
            opening(guard, file, identity_at(file), fresh=False)
        assert caught.value.wait_ns == wait
        assert opening(guard, file, identity_at(file))
    guard = Guard(0, no_leases, lambda: born + TICK_NS)
    assert opening(guard, file, identity_at(file), fresh=False)


def test_descriptors_are_closed(file, no_leases):
    """
    Whatever the reason for refusing.
    """
    guard = Guard(0, no_leases, lambda: 0)
    before = len(os.listdir("/proc/self/fd"))
    for identity in (bytes(44), b"", identity_at(file)):
        with pytest.raises((SourceChanged, BadRequest, TooFresh)):
            opening(guard, file, identity, fresh=False)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def foreign(public, monkeypatch):
    """
    A file of another user, that everybody may read, and nobody has mapped: a process
    that has changed its user may not look at its own tables.
    """
    monkeypatch.setattr(guard_module, "mapped_elsewhere", lambda fd, size: False)
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
@pytest.mark.parametrize("mtime", [1, 2**62, 2**63 + 1])
def test_settled_by_which_clock(foreign, no_leases, links, mtime):
    """
    A time of modification in the future does not keep a file for ever, and one that was
    set back does not make it settle: the change time tells, whatever the links.
    """
    if links == 2:
        os.link(foreign, foreign.with_name("second"))
    os.utime(foreign, ns=(0, mtime))
    born = foreign.stat().st_ctime_ns
    with as_nobody():
        early = Guard(30 * SECOND, no_leases, lambda: born + 29 * SECOND)
        with pytest.raises(NotSettled):
            opening(early, foreign, identity_at(foreign))
        late = Guard(30 * SECOND, no_leases, lambda: born + 31 * SECOND)
        assert opening(late, foreign, identity_at(foreign)) == b"hello world"


@needs(root=True)
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("edited", ["", "append", "overwrite_and_hide", "link"])
def test_put_back(foreign, no_leases, told, edited):
    """
    A file that we have renamed there and back is the version that it was, and as old:
    else it would never be moved by another way.  Nobody else's change is taken for
    that.
    """
    born = foreign.stat().st_ctime_ns
    guard = Guard(30 * SECOND, no_leases, lambda: born + 31 * SECOND)
    identity = identity_at(foreign)
    foreign.rename(foreign.with_name("elsewhere"))
    foreign.with_name("elsewhere").rename(foreign)
    if told:
        with foreign.open() as file:
            guard.put_back(file.fileno(), identity)
    if edited:
        changed(foreign)[edited]()
    with as_nobody():
        if told and not edited:
            assert opening(guard, foreign, identity) == b"hello world"
        else:
            with pytest.raises(SourceChanged):
                opening(guard, foreign, identity)


@needs(root=True)
def test_put_back_too_soon(foreign, no_leases):
    """
    It is not older than it was either.
    """
    identity = identity_at(foreign)
    guard = Guard(3600 * SECOND, no_leases)
    with foreign.open() as file:
        guard.put_back(file.fileno(), identity)
    with as_nobody(), pytest.raises(NotSettled):
        opening(guard, foreign, identity)


@needs(root=True)
def test_nothing_to_wait_for(foreign, no_leases):
    """
    With no time to settle a file is taken, though a clock be behind that of its times.
    """
    guard = Guard(0, no_leases, lambda: 0)
    with as_nobody():
        assert opening(guard, foreign, identity_at(foreign)) == b"hello world"


@needs(root=True)
def test_changed_in_the_future(foreign, no_leases):
    """
    A clock is wrong: how old the file is nobody knows.
    """
    born = foreign.stat().st_ctime_ns
    guard = Guard(30 * SECOND, no_leases, lambda: born - 60 * SECOND)
    with as_nobody(), pytest.raises(NotSettled, match="1m in the future"):
        opening(guard, foreign, identity_at(foreign))


def without_leases(_device, fd):
    """
    The same file system, where leases are not to be believed.
    """
    return evolve(FileSystem.of(fd), leases=False, kind="fuse.somefs")


def test_lease_that_is_not_believed(file, no_leases):
    """
    It is given back, and the file has to settle as if there had been none.
    """
    born = file.stat().st_ctime_ns
    for age, settled in ((29, False), (31, True)):
        guard = Guard(
            30 * SECOND, no_leases, lambda age=age: born + age * SECOND, without_leases
        )
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            if settled:
                fd, leased = guard.open_leased(
                    directory, b"file", b"file", identity_at(file)
                )
                assert not leased
                os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
                os.close(fd)
            else:
                with pytest.raises(NotSettled):
                    guard.open_leased(directory, b"file", b"file", identity_at(file))
        finally:
            os.close(directory)
    assert no_leases.reasons == ["on fuse.somefs they do not tell of all who write"] * 2


@pytest.mark.parametrize("remote", [False, True])
def test_lease_refused_where_it_is_not_believed(file, no_leases, tmp_path, remote):
    """
    Then somebody has it open here, but for file systems that refuse it for reasons of
    their own, such as NFS without a delegation.
    """
    guard = Guard(
        0,
        no_leases,
        filesystem_of=lambda _device, fd: evolve(
            without_leases(_device, fd), remote=remote
        ),
    )
    guard._writers = Writers(proc=tmp_path)
    with file.open("ab"):
        if remote:
            assert opening(guard, file, identity_at(file)) == b"hello world"
        else:
            with pytest.raises(StillOpen):
                opening(guard, file, identity_at(file))


def test_writer_who_is_seen_without_a_lease(file, no_leases, monkeypatch):
    """
    On a server's files no lease tells; the kernel tells of the processes of this host.
    """
    monkeypatch.setattr(writers, "MOST_SECONDS", 60.0)
    guard = Guard(
        30 * SECOND,
        no_leases,
        lambda: 2**62,
        lambda _device, fd: evolve(without_leases(_device, fd), remote=True),
    )
    with (
        file.open("ab"),
        pytest.raises(StillOpen, match="open for writing"),
    ):
        opening(guard, file, identity_at(file))


def removing(guard, file, identity, digest=b""):
    """
    Open a file as one that is to be removed.
    """
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        fd, _leased = guard.open_leased(
            directory, b"file", b"file", identity, digest=digest
        )
        os.close(fd)
    finally:
        os.close(directory)


@pytest.mark.parametrize("edited", [False, True])
def test_lost_link_is_proven_by_content(file, no_leases, edited):
    """
    An edit that keeps size and time of modification would not show in what the removal
    of another link leaves to compare.
    """
    second = file.with_name("second")
    os.link(file, second)
    guard, identity = Guard(0, no_leases), identity_at(file)
    second.unlink()
    if edited:
        changed(file)["overwrite_and_hide"]()
    with pytest.raises(SourceChanged):
        removing(guard, file, identity)
    digest = blake3(b"hello world").digest()
    if edited:
        with pytest.raises(SourceChanged):
            removing(guard, file, identity, digest)
    else:
        removing(guard, file, identity, digest)


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("known", [True, False])
def test_change_time_that_only_follows(file, no_leases, edited, known):
    """
    Where it is no more than the time of modification (FAT, sshfs), an edit that sets
    that back shows in the content only.
    """
    while (status := file.stat()).st_ctime_ns != status.st_mtime_ns:
        file.write_bytes(b"hello world")
    guard = Guard(
        0,
        no_leases,
        filesystem_of=lambda _device, fd: evolve(FileSystem.of(fd), ctime=known),
    )
    digest = blake3(b"HELLO WORLD" if edited else b"hello world").digest()
    if edited and not known:
        with pytest.raises(SourceChanged):
            removing(guard, file, identity_at(file), digest)
    else:
        removing(guard, file, identity_at(file), digest)


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
    assert len(identity_at(file)) == 44


@pytest.mark.parametrize("settle_ns", [0, 30 * SECOND])
def test_mapped_without_a_lease(file, no_leases, settle_ns):
    """
    However long ago it seems to have changed: who writes through a mapping changes no
    times.
    """
    guard = Guard(settle_ns, no_leases, lambda: 2**62, without_leases)
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 11, prot=mmap.PROT_READ) as memory,
    ):
        assert memory[0] == ord("h")
        identity = identity_at(file)
        opened.close()
        with pytest.raises(StillOpen, match="mapped by another process"):
            opening(guard, file, identity)
        with pytest.raises(StillOpen):
            removing(guard, file, identity)
    assert opening(guard, file, identity) == b"hello world"


def test_large_files_are_looked_at_once(file, no_leases, monkeypatch):
    """
    Before they are removed: looking may mean to read them.
    """
    looked = []
    monkeypatch.setattr(
        guard_module, "mapped_elsewhere", lambda fd, size: looked.append(size)
    )
    guard = Guard(0, no_leases, lambda: 2**62, without_leases)
    os.truncate(file, MAPPED_AT_ONCE + 1)
    assert opening(guard, file, identity_at(file))
    assert not looked
    removing(guard, file, identity_at(file))
    assert looked == [MAPPED_AT_ONCE + 1]


@pytest.mark.parametrize(("age", "settled"), [(31, False), (41, True)])
def test_mappings_that_do_not_show(file, no_leases, monkeypatch, age, settled):
    """
    Then a file has to have been left alone for as long as pages stay dirty.
    """
    monkeypatch.setattr(guard_module, "mapped_elsewhere", lambda fd, size: None)
    monkeypatch.setattr(guard_module, "writeback_ns", lambda: 40 * SECOND)
    born = file.stat().st_ctime_ns
    guard = Guard(30 * SECOND, no_leases, lambda: born + age * SECOND, without_leases)
    if settled:
        assert opening(guard, file, identity_at(file)) == b"hello world"
    else:
        with pytest.raises(NotSettled):
            opening(guard, file, identity_at(file))


def test_inode_that_does_not_count(file, no_leases):
    """
    Where it may be another at any time, all else tells versions apart, and stays so for
    a file that was renamed or has lost a link.
    """
    status = file.stat()
    uncounted = identity_of(status, inodes=False)
    assert uncounted != identity_of(status)
    other = SimpleNamespace(**{name: getattr(status, name) for name in COUNTED})
    other.st_ino += 1
    assert matches(other, uncounted)
    assert matches_moved(other, uncounted)
    assert not matches(other, identity_of(status))
    assert identity_now(other, uncounted) == uncounted
    assert identity_now(other, identity_of(status)) == identity_of(other)
    for name in COUNTED:
        if name != "st_ino":
            changed = SimpleNamespace(**vars(other))
            setattr(changed, name, getattr(changed, name) + 1)
            assert not matches(changed, uncounted)
    assert opening(Guard(0, no_leases), file, uncounted) == b"hello world"
