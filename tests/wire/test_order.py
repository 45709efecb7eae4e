"""
Operations on one file take effect in the order in which they were sent.
"""

from __future__ import annotations

from contextlib import closing

import pytest
from blake3 import blake3
from twisted.internet.defer import Deferred

from realize.model import Failure, Finish, Finished, Offer, Piece
from realize.store.interface import Destination
from tests.contract.pairs import ReorderingThreads
from tests.contract.remote import MemoryPair, TlsPair
from tests.support.slow import SlowStore
from tests.support.wire import Net


@pytest.mark.parametrize("kind", [MemoryPair, TlsPair])
def test_finish_right_after_many_writes(kind, tmp_path):
    """
    A file's writes and its finish, sent in one go over threads that reorder, for many
    files at once.
    """
    files = {b"%d" % n: bytes([n]) * (1000 * n + 1) for n in range(12)}
    with closing(kind(ReorderingThreads)) as pair:
        destination: Destination = pair.open_destination(tmp_path)
        pair.run(destination.offer([Offer(p, len(c)) for p, c in files.items()], []))
        begun = []
        for at in range(0, 12_000, 500):
            for path, content in files.items():
                part = content[at : at + 500]
                if part:
                    wrote = destination.write([Piece(path, at, len(part))], part)
                    begun.append(Deferred.fromCoroutine(wrote))
        for path, content in files.items():
            finish = Finish(path, len(content), blake3(content).digest(), 0o600, 10**18)
            begun.append(Deferred.fromCoroutine(destination.finish([finish])))
        results = [pair.wait(each)[0] for each in begun]
        assert not [each for each in results if isinstance(each, Failure)]
        assert sum(isinstance(each, Finished) for each in results) == len(files)
    for path, content in files.items():
        assert (tmp_path / path.decode()).read_bytes() == content


def test_begun_in_order_without_waiting():
    """
    The store is called for each request before the next is looked at.
    """
    net = Net()
    store = SlowStore()
    net.service.offer("inbox").make_destination = lambda: store
    client = net.client(segment=lambda: 3)
    destination = client.run(client.connection().open_destination("inbox"))
    for number in range(50):
        client.begin(destination.write([Piece(b"%d" % number, 0, 1)], b"x"))
    client.wires.pump()
    assert [each[1] for each in store.begun] == [b"%d" % n for n in range(50)]
    store.let_go()
    client.wires.pump()
