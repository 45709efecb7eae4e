"""
How often a peer that may put files may be wrong about those that are there.
"""

from __future__ import annotations

import os

import pytest
from blake3 import blake3
from twisted.internet.defer import Deferred

from realize.config import DirectorySettings
from realize.delta.exchange import Patch
from realize.delta.plan import Reuse
from realize.errors import DigestMismatch
from realize.model import Failure, Finish, Finished, Held, Offer
from realize.observe.recorder import LOCAL, Party
from realize.store.directory import LocalDirectory
from realize.store.guesses import MAX_VERSIONS, MAX_WRONG, MEMORY, Guesses
from tests.support.threads import QueueReactor

LAPTOP = Party("laptop")


class Host:
    """
    A directory with a file *pin*, and whoever asks about it.
    """

    def __init__(self, tree):
        self.path = tree / "pin"
        self.path.write_bytes(b"4711")
        self.reactor = QueueReactor()
        self.directory = LocalDirectory("inbox", DirectorySettings(tree), self.reactor)

    def run(self, asked):
        """
        What is answered.
        """
        return self.reactor.wait_for(Deferred.fromCoroutine(asked))

    def open(self, party=LAPTOP):
        """
        Another session.
        """
        return self.run(self.directory.open_destination(party=party))

    def ask(self, store, content, how="compare"):
        """
        Whether the file is said to hold this.
        """
        digest = blake3(content).digest()
        wanted = Finish(b"pin", len(content), digest, 0o644, 0)
        (result,) = self.run(getattr(store, how)([wanted]))
        if isinstance(result, Failure):
            assert isinstance(result.error, DigestMismatch)
        return isinstance(result, Held | Finished)


@pytest.fixture
def host(tree):
    """
    Closed afterwards.
    """
    host = Host(tree)
    yield host
    host.run(host.directory.close())


@pytest.mark.parametrize("how", ["compare", "finish"])
def test_wrong_guesses_are_counted(host, how):
    """
    Over all sessions of a peer; after so many the right one is as good as wrong.
    """
    assert host.ask(host.open(), b"4711", how)
    for number in range(MAX_WRONG):
        store = host.open()
        assert not host.ask(store, b"%04d" % number, how)
        host.run(store.close())
    assert not host.ask(host.open(), b"4711", how)
    assert host.ask(host.open(Party("archive")), b"4711", how)
    assert host.ask(host.open(LOCAL), b"4711", how)


def test_another_version_is_asked_about_anew(host):
    """
    A file that changes often is compared as often.
    """
    store = host.open()
    for _ in range(3):
        for number in range(MAX_WRONG):
            assert not host.ask(store, b"%04d" % number)
        assert not host.ask(store, b"4711")
        host.path.with_name("new").write_bytes(b"4711")
        os.replace(host.path.with_name("new"), host.path)
        assert host.ask(store, b"4711")


def test_right_guesses_cost_nothing(host):
    """
    Nor do those of another size, which are answered without a look at the content.
    """
    store = host.open()
    for _ in range(2 * MAX_WRONG):
        assert host.ask(store, b"4711")
        assert not host.ask(store, b"4")
    assert host.ask(store, b"4711")


def test_a_copied_part_is_a_guess(host):
    """
    A byte of the present file, and a digest of what became of it, tell the byte.
    """
    host.path.write_bytes(os.urandom(200_000))
    store = host.open()
    (held,) = host.run(store.offer([Offer(b"pin", 1)], []))
    copied = 0
    for number in range(MAX_WRONG + 5):
        host.run(store.offer([Offer(b"pin", 1)], []))
        patch = Patch(b"pin", held.version, [Reuse(0, 1, 7)])
        result = host.run(store.reuse(patch, b""))
        copied += not isinstance(result, Failure)
        wrong = Finish(b"pin", 1, bytes([number]) * 32, 0o644, 0)
        (final,) = host.run(store.finish([wrong]))
        assert isinstance(final, Failure)
    assert copied == MAX_WRONG


def test_they_are_forgotten():
    """
    After an hour at the latest, and not before half of one.
    """
    now = [0.0]
    counted = Guesses(lambda: now[0])
    for _ in range(MAX_WRONG):
        counted.check(b"1")
        counted.wrong(b"1")
    now[0] = MEMORY - 1
    with pytest.raises(DigestMismatch):
        counted.check(b"1")
    now[0] = MEMORY
    with pytest.raises(DigestMismatch):
        counted.check(b"1")
    now[0] = 2 * MEMORY
    counted.check(b"1")


def test_nobody_makes_room_by_other_guesses():
    """
    Who was wrong about so many files is told nothing about more, and no count is lost.
    """
    counted = Guesses(lambda: 0.0)
    for _ in range(MAX_WRONG):
        counted.wrong(b"pin")
    for number in range(MAX_VERSIONS - 1):
        counted.check(b"%d" % number)
        counted.wrong(b"%d" % number)
    with pytest.raises(DigestMismatch):
        counted.check(b"another")
    with pytest.raises(DigestMismatch):
        counted.check(b"pin")
