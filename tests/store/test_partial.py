"""
Files under construction.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from realize.errors import BadRequest, Busy, NameTaken
from realize.model import PREFIX_STEP
from realize.paths import MAX_NAME, is_partial
from realize.store.partial import Partial, held_bytes, partial_name
from tests.support.files import as_nobody, descriptors
from tests.support.requirements import needs

NAME = b".x.realize-part"


@pytest.fixture
def directory(tmp_path):
    """
    Descriptor of an empty directory, ``tmp_path``.
    """
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def steps_of(content: bytes) -> list[bytes]:
    """
    Digests as a source sends them.
    """
    ends = [*range(PREFIX_STEP, len(content), PREFIX_STEP), len(content)]
    return [blake3(content[:end]).digest() for end in ends]


@pytest.mark.parametrize("length", [1, 10, 240, 241, 242, 250, 254, 255])
@pytest.mark.parametrize("letter", [b"x", b"\xff"])
def test_names(length, letter):
    """
    Every name has a partial's name that looks like one and fits, and no two the same.
    """
    name = letter * length
    assert is_partial(partial_name(name))
    assert len(partial_name(name)) <= MAX_NAME
    assert partial_name(name) != partial_name(name[:-1] + b"y")


def test_short_names_stay_readable():
    """
    Somebody who finds a partial sees whose it is.
    """
    assert partial_name(b"movie.mkv") == b".movie.mkv.realize-part"
    assert partial_name(b"m" * 241) == b"." + b"m" * 241 + b".realize-part"


def test_long_names_are_cut_in_a_fixed_way():
    """
    200 bytes of the name, then 16 hexadecimal digits of its digest: the same in every
    version, or nothing could be resumed.
    """
    name = b"m" * 242
    expected = b"." + b"m" * 200 + b"~" + blake3(name).hexdigest()[:16].encode()
    assert partial_name(name) == expected + b".realize-part"


def test_begin_makes_an_empty_private_file(directory, tmp_path):
    """
    Whatever the umask: nobody else reads what is not finished.
    """
    old = os.umask(0)
    try:
        partial = Partial.begin(directory, NAME)
    finally:
        os.umask(old)
    status = os.stat(tmp_path / os.fsdecode(NAME))
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (partial.size, status.st_size) == (0, 0)
    partial.close()


def test_begin_empties_what_is_there(directory, tmp_path):
    """
    Beginning anew keeps nothing of an earlier run.
    """
    path = tmp_path / os.fsdecode(NAME)
    path.write_bytes(b"old and much longer")
    partial = Partial.begin(directory, NAME)
    partial.write(0, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert partial.hasher.digest() == blake3(b"new").digest()
    partial.close()


def test_second_holder_is_busy(directory):
    """
    One session at a time, in one process too; after closing the next one may.
    """
    first = Partial.begin(directory, NAME)
    with pytest.raises(Busy):
        Partial.begin(directory, NAME)
    with pytest.raises(Busy):
        Partial.resume(directory, NAME)
    with pytest.raises(Busy):
        held_bytes(directory, NAME)
    first.close()
    Partial.resume(directory, NAME).close()


@needs("flock")
def test_busy_says_who(directory, tmp_path):
    """
    This program, or the process that has it.
    """
    first = Partial.begin(directory, NAME)
    with pytest.raises(Busy, match="another session of this program"):
        Partial.begin(directory, NAME)
    first.close()
    path = tmp_path / os.fsdecode(NAME)
    locker = subprocess.Popen(
        ["flock", path, "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    locker.stdout.readline()
    with pytest.raises(Busy, match=rf"process {locker.pid} \(flock\)"):
        Partial.begin(directory, NAME)
    locker.communicate()


def test_finished_by_another_before_our_lock(tmp_path):
    """
    The file that was opened has its final name by the time it is locked: it is left
    alone, and a new one begun.
    """
    path, final = tmp_path / os.fsdecode(NAME), tmp_path / "final"
    path.write_bytes(b"whole")
    # In a process of its own, because such hooks stay for ever.
    script = (
        "import os, sys\n"
        "from realize.store.partial import Partial\n"
        "os.chdir(sys.argv[1])\n"
        "directory, name = os.open('.', os.O_RDONLY), os.fsencode(sys.argv[2])\n"
        "def finish(event, arguments):\n"
        "    if event == 'fcntl.flock' and not os.path.exists('final'):\n"
        "        os.rename(name, 'final')\n"
        "sys.addaudithook(finish)\n"
        "partial = Partial.begin(directory, name)\n"
        "partial.write(0, memoryview(b'new'))\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path, os.fsdecode(NAME)],
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert final.read_bytes() == b"whole"
    assert path.read_bytes() == b"new"


def test_busy_leaves_the_content_alone(directory, tmp_path):
    """
    The one who is kept out has not emptied the file before finding out.
    """
    first = Partial.begin(directory, NAME)
    first.write(0, memoryview(b"precious"))
    with pytest.raises(Busy):
        Partial.begin(directory, NAME)
    assert (tmp_path / os.fsdecode(NAME)).read_bytes() == b"precious"
    first.close()


def test_no_descriptor_is_lost_when_busy(directory):
    """
    Being kept out costs no descriptor.
    """
    first = Partial.begin(directory, NAME)
    before = descriptors()
    for _ in range(5):
        with pytest.raises(Busy):
            Partial.begin(directory, NAME)
    assert descriptors() == before
    first.close()


def test_hard_link_is_not_written_to(directory, tmp_path):
    """
    A partial with a second name is left to that name.
    """
    other = tmp_path / "other"
    other.write_bytes(b"mine")
    os.link(other, tmp_path / os.fsdecode(NAME))
    assert held_bytes(directory, NAME) == 0
    partial = Partial.begin(directory, NAME)
    partial.write(0, memoryview(b"theirs"))
    assert other.read_bytes() == b"mine"
    assert (tmp_path / os.fsdecode(NAME)).read_bytes() == b"theirs"
    partial.close()


@needs(root=True)
def test_file_of_another_owner_is_not_written_to(directory, tmp_path):
    """
    A partial that somebody else owns could be changed by them afterwards.
    """
    path = tmp_path / os.fsdecode(NAME)
    path.write_bytes(b"planted")
    os.chown(path, 12345, 12345)
    assert held_bytes(directory, NAME) == 0
    partial = Partial.begin(directory, NAME)
    assert path.stat().st_uid == os.geteuid()
    partial.close()


@needs(root=True)
@pytest.mark.parametrize("mode", [0o444, 0o400, 0o200, 0o000, 0o555])
def test_own_file_with_its_final_mode(public, mode):
    """
    A crash came between the mode and the name: an ordinary user goes on all the same.
    """
    path = public / os.fsdecode(NAME)
    fd = os.open(public, os.O_RDONLY | os.O_DIRECTORY)
    with as_nobody():
        path.write_bytes(b"whole")
        path.chmod(mode)
        assert held_bytes(fd, NAME) == 5
        assert stat.S_IMODE(path.stat().st_mode) == mode
        partial = Partial.resume(fd, NAME)
        partial.keep(5, steps_of(b"whole"))
        assert partial.size == 5
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        partial.close()
    os.close(fd)


@needs(root=True)
def test_unreadable_file_of_another_owner(public):
    """
    Stays as it is.
    """
    path = public / os.fsdecode(NAME)
    path.write_bytes(b"theirs")
    path.chmod(0o600)
    fd = os.open(public, os.O_RDONLY | os.O_DIRECTORY)
    with as_nobody():
        for attempt in (held_bytes, Partial.resume, Partial.begin):
            with pytest.raises(PermissionError):
                attempt(fd, NAME)
    assert path.read_bytes() == b"theirs"
    os.close(fd)


@pytest.mark.parametrize("kind", ["directory", "symlink", "dangling", "pipe"])
def test_other_things_keep_the_name(directory, tmp_path, kind):
    """
    What is no regular file is neither followed nor opened nor removed.
    """
    target, path = tmp_path / "target", tmp_path / os.fsdecode(NAME)
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
        if kind == "symlink":
            target.write_bytes(b"untouched")
    for attempt in (Partial.begin, Partial.resume, held_bytes):
        with pytest.raises(NameTaken):
            attempt(directory, NAME)
    assert os.path.lexists(path)
    assert target.exists() == (kind == "symlink")


class TestKeep:
    """
    What an earlier run left counts as far as its digests agree.
    """

    @pytest.fixture
    def content(self):
        """
        Two steps and a bit.
        """
        return os.urandom(1024) * (2 * PREFIX_STEP // 1024) + b"the tail"

    def test_all(self, directory, tmp_path, content):
        """
        All agrees: all is kept, and hashing goes on from there.
        """
        path = tmp_path / os.fsdecode(NAME)
        path.write_bytes(content)
        assert held_bytes(directory, NAME) == len(content)
        partial = Partial.resume(directory, NAME)
        partial.keep(len(content), steps_of(content))
        assert partial.size == len(content)
        partial.write(partial.size, memoryview(b" and more"))
        assert partial.hasher.digest() == blake3(content + b" and more").digest()
        assert path.stat().st_size == len(content) + 9
        partial.close()

    @pytest.mark.parametrize(
        ("spoilt", "kept"),
        [
            (0, 0),
            (PREFIX_STEP - 1, 0),
            (PREFIX_STEP, PREFIX_STEP),
            (2 * PREFIX_STEP + 3, 2 * PREFIX_STEP),
        ],
    )
    def test_up_to_the_first_difference(
        self, directory, tmp_path, content, spoilt, kept
    ):
        """
        One wrong byte costs its step and what follows, not what precedes it.
        """
        path = tmp_path / os.fsdecode(NAME)
        damaged = bytearray(content)
        damaged[spoilt] ^= 1
        path.write_bytes(damaged)
        partial = Partial.resume(directory, NAME)
        partial.keep(len(content), steps_of(content))
        assert partial.size == path.stat().st_size == kept
        assert partial.hasher.digest() == blake3(content[:kept]).digest()
        partial.close()

    def test_shorter_than_was_asked(self, directory, tmp_path, content):
        """
        A partial cut short, as after a power cut, keeps its whole steps.
        """
        path = tmp_path / os.fsdecode(NAME)
        path.write_bytes(content[:-1])
        partial = Partial.resume(directory, NAME)
        partial.keep(len(content), steps_of(content))
        assert partial.size == path.stat().st_size == 2 * PREFIX_STEP
        partial.close()

    def test_longer_than_was_asked(self, directory, tmp_path):
        """
        What lies beyond the length that was compared is dropped.
        """
        path = tmp_path / os.fsdecode(NAME)
        path.write_bytes(b"good and bad")
        partial = Partial.resume(directory, NAME)
        partial.keep(4, steps_of(b"good"))
        assert path.read_bytes() == b"good"
        partial.close()

    @pytest.mark.parametrize(
        ("length", "count"), [(5, 0), (5, 2), (PREFIX_STEP + 1, 1), (PREFIX_STEP, 2)]
    )
    def test_wrong_number_of_digests(self, directory, tmp_path, length, count):
        """
        Digests that don't fit the length are refused, and nothing is dropped.
        """
        path = tmp_path / os.fsdecode(NAME)
        path.write_bytes(b"12345")
        partial = Partial.resume(directory, NAME)
        with pytest.raises(BadRequest):
            partial.keep(length, [bytes(32)] * count)
        assert path.read_bytes() == b"12345"
        partial.close()


class TestWrite:
    """
    Bytes in ascending order, and the zeros between them.
    """

    def test_holes_are_zeros(self, directory, tmp_path):
        """
        A piece beyond the end leaves a hole that is hashed as what it reads as.
        """
        partial = Partial.begin(directory, NAME)
        partial.write(3 * 2**20, memoryview(b"end"))
        expected = bytes(3 * 2**20) + b"end"
        path = tmp_path / os.fsdecode(NAME)
        assert path.read_bytes() == expected
        assert partial.hasher.digest() == blake3(expected).digest()
        assert path.stat().st_blocks * 512 < 2**20
        partial.close()

    def test_hole_before_nothing(self, directory, tmp_path):
        """
        An empty piece beyond the end makes the file longer like any other.
        """
        partial = Partial.begin(directory, NAME)
        partial.write(5, memoryview(b""))
        assert (tmp_path / os.fsdecode(NAME)).read_bytes() == bytes(5)
        assert partial.hasher.digest() == blake3(bytes(5)).digest()
        partial.close()

    def test_extend(self, directory, tmp_path):
        """
        A file that ends in a hole.
        """
        partial = Partial.begin(directory, NAME)
        partial.write(0, memoryview(b"begin"))
        partial.extend(2**20 + 1)
        expected = b"begin" + bytes(2**20 - 4)
        assert (tmp_path / os.fsdecode(NAME)).read_bytes() == expected
        assert partial.hasher.digest() == blake3(expected).digest()
        partial.close()

    def test_going_back_is_refused(self, directory):
        """
        Neither overlapping pieces nor a size below what is there.
        """
        partial = Partial.begin(directory, NAME)
        partial.write(0, memoryview(b"12345"))
        with pytest.raises(BadRequest):
            partial.write(4, memoryview(b"5"))
        with pytest.raises(BadRequest):
            partial.extend(4)
        assert partial.size == 5
        partial.close()

    def test_restart(self, directory, tmp_path):
        """
        The same open file, from the beginning.
        """
        partial = Partial.begin(directory, NAME)
        partial.write(0, memoryview(b"first attempt"))
        partial.restart()
        partial.write(0, memoryview(b"second"))
        assert (tmp_path / os.fsdecode(NAME)).read_bytes() == b"second"
        assert partial.hasher.digest() == blake3(b"second").digest()
        partial.close()


def test_discard(directory, tmp_path):
    """
    The name and the descriptor are gone; doing it twice is harmless.
    """
    partial = Partial.begin(directory, NAME)
    partial.discard(directory)
    partial.discard(directory)
    partial.close()
    assert list(tmp_path.iterdir()) == []
    assert partial.fd == -1
