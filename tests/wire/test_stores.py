"""
Stores of a peer: batches that are too long, answers that make no sense, deadlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, capturedLogs

from realize.errors import BadRequest, NoSuchFile, PeerGone
from realize.model import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    PREFIX_STEP,
    Digests,
    Directory,
    Extent,
    Failure,
    Finish,
    Held,
    Offer,
    Piece,
    Place,
    Prefix,
    Range,
    Removal,
    Written,
)
from realize.paths import MAX_COMPONENTS, MAX_PATH
from realize.wire import commands
from realize.wire.payload import MAX_PAYLOAD, Packed, Unpacked
from realize.wire.stores import RemoteDestination, RemoteSource, store_name
from realize.wire.waiting import ANSWER_DEADLINE, LATE, LOOK
from tests.support.slow import SlowStore
from tests.support.wire import Client, Net, now

PLACE = Place(b"root", [])


class Echo:
    """
    A connection that answers every item with what *result* makes of it.

    :ivar asked: the payloads that were sent, in order, decoded.
    :ivar largest: bytes in the largest payload.
    """

    def __init__(self, result: Any) -> None:
        self._result = result
        self.asked: list[Unpacked] = []
        self.largest = 0
        self.complaints: list[str] = []

    async def ask(
        self, command: type[commands.Request], quick: bool = False, **arguments: Any
    ) -> Any:
        """
        Answer at once.
        """
        packed: Packed = arguments["payload"]
        self.largest = max(self.largest, len(packed))
        objects: dict[str, Any] = {}
        raw = packed.head + bytes(packed.data)
        dict(command.arguments)[b"payload"].fromBox(
            b"payload", {b"payload": raw}, objects, None
        )
        asked: Unpacked = objects["payload"]
        self.asked.append(asked)
        items = getattr(asked.head, "files", asked.head)
        nbytes = sum(i.length for i in items) if command is commands.Read else 0
        data = bytes(nbytes)
        return {"payload": Unpacked([self._result(i) for i in items], memoryview(data))}

    def broken(self, why: str) -> PeerGone:
        """
        Only noted.
        """
        self.complaints.append(why)
        return PeerGone(why)


def run(asked: Any) -> Any:
    """
    What an operation comes to that has to wait for nothing.
    """
    return now(Deferred.fromCoroutine(asked))


def long_path(number: int) -> bytes:
    """
    As long and as deep as paths may be.
    """
    parts = [b"d%04d" % number + b"x" * 58] * (MAX_COMPONENTS - 1)
    path = b"/".join([*parts, b"y" * 63])
    assert len(path) == MAX_PATH
    return path


LONG = [long_path(n) for n in range(MAX_BATCH)]


class TestLongBatches:
    """
    A full batch of the longest paths does not fit into one payload.
    """

    def check(self, echo: Echo, results: Any, expected: list[Any]) -> None:
        """
        Several requests, none too large; all results, in order.
        """
        assert len(echo.asked) > 1
        assert echo.largest <= MAX_PAYLOAD
        assert list(results) == expected

    def test_digest(self):
        """
        Many long paths.
        """
        echo = Echo(lambda prefix: Digests([prefix.path]))
        source = RemoteSource(echo, "s", 1, PLACE)
        results = run(source.digest([Prefix(path, b"i", 1) for path in LONG]))
        self.check(echo, results, [Digests([path]) for path in LONG])

    def test_digests_of_large_files(self):
        """
        Few short paths whose digests are many.
        """
        echo = Echo(lambda prefix: Digests([prefix.path]))
        source = RemoteSource(echo, "s", 1, PLACE)
        length = 20_000 * PREFIX_STEP
        wanted = [Prefix(b"%d" % n, b"", length) for n in range(99)]
        results = run(source.digest(wanted))
        self.check(echo, results, [Digests([b"%d" % n]) for n in range(99)])

    def test_read(self):
        """
        The bytes are joined again.
        """
        echo = Echo(lambda wanted: Extent(wanted.length, wanted.path))
        source = RemoteSource(echo, "s", 1, PLACE)
        extents, data = run(source.read([Range(p, b"i", 0, 3000) for p in LONG]))
        self.check(echo, extents, [Extent(3000, path) for path in LONG])
        assert len(data) == 3000 * MAX_BATCH

    def test_write(self):
        """
        Each part goes with its own bytes, in order.
        """
        echo = Echo(lambda piece: Written(piece.length))
        destination = RemoteDestination(echo, "d", 1, PLACE)
        lengths = [n % 5 for n in range(MAX_BATCH)]
        payload = b"".join(bytes([n % 256]) * k for n, k in enumerate(lengths))
        pieces = [Piece(p, 0, k) for p, k in zip(LONG, lengths, strict=True)]
        results = run(destination.write(pieces, payload))
        self.check(echo, results, [Written(k) for k in lengths])
        assert b"".join(part.data for part in echo.asked) == payload
        for part in echo.asked:
            assert sum(piece.length for piece in part.head) == len(part.data)

    def test_offer(self):
        """
        Each part has the directories above its files, parents first.
        """
        echo = Echo(lambda offer: Held(offer.size))
        destination = RemoteDestination(echo, "d", 1, PLACE)
        directories: dict[bytes, Directory] = {}
        for path in LONG[:100]:
            parts = path.split(b"/")[:-1]
            for depth in range(1, len(parts) + 1):
                above = b"/".join(parts[:depth])
                directories[above] = Directory(above, 0o755)
        offers = [Offer(path, n) for n, path in enumerate(LONG[:100])]
        results = run(destination.offer(offers, list(directories.values())))
        self.check(echo, results, [Held(n) for n in range(100)])
        for part in echo.asked:
            known = {b""}
            for directory in part.head.directories:
                assert directory.path.rpartition(b"/")[0] in known
                known.add(directory.path)
            for offer in part.head.files:
                assert offer.path.rpartition(b"/")[0] in known

    @pytest.mark.parametrize("operation", ["finish", "compare"])
    def test_finish_and_compare(self, operation):
        """
        Many long paths.
        """
        echo = Echo(lambda finish: Failure("X", str(finish.size)))
        destination = RemoteDestination(echo, "d", 1, PLACE)
        files = [Finish(p, n, bytes(32), 0, 0) for n, p in enumerate(LONG)]
        results = run(getattr(destination, operation)(files))
        self.check(echo, results, [Failure("X", str(n)) for n in range(MAX_BATCH)])

    def test_remove(self):
        """
        Many long paths.
        """
        echo = Echo(lambda removal: Failure("X", str(len(removal.path))))
        source = RemoteSource(echo, "s", 1, PLACE)
        results = run(source.remove([Removal(p, b"i" * 90, bytes(32)) for p in LONG]))
        self.check(echo, results, [Failure("X", str(MAX_PATH))] * MAX_BATCH)

    def test_one_fails(self):
        """
        The error of one request is that of the operation.
        """

        class Failing(Echo):
            async def ask(self, *args: Any, **kwargs: Any) -> Any:
                if self.asked:
                    raise NoSuchFile("second")
                return await super().ask(*args, **kwargs)

        source = RemoteSource(Failing(lambda _: Digests([b""])), "s", 1, PLACE)
        with pytest.raises(NoSuchFile, match="second"):
            run(source.digest([Prefix(path, b"i", 1) for path in LONG]))


class TestTooLarge:
    """
    What a batch may not be is an error before anything is sent.
    """

    def test_too_many(self):
        """
        More items than a batch may have.
        """
        echo = Echo(None)
        source = RemoteSource(echo, "s", 1, PLACE)
        destination = RemoteDestination(echo, "d", 1, PLACE)
        many = range(MAX_BATCH + 1)
        for asked in (
            source.read([Range(b"x", b"", 0, 0) for _ in many]),
            source.digest([Prefix(b"x", b"", 0) for _ in many]),
            destination.offer([Offer(b"x", 0) for _ in many], []),
            destination.write([Piece(b"x", 0, 0) for _ in many], b""),
        ):
            with pytest.raises(BadRequest):
                run(asked)
        assert echo.asked == []

    def test_too_many_bytes(self):
        """
        More bytes than a batch may have, or not those that the pieces say.
        """
        echo = Echo(None)
        source = RemoteSource(echo, "s", 1, PLACE)
        destination = RemoteDestination(echo, "d", 1, PLACE)
        for asked in (
            source.read([Range(b"x", b"", 0, MAX_BATCH_BYTES), Range(b"y", b"", 0, 1)]),
            destination.write(
                [Piece(b"x", 0, MAX_BATCH_BYTES + 1)], bytes(MAX_BATCH_BYTES + 1)
            ),
            destination.write([Piece(b"x", 0, 2)], b"1"),
        ):
            with pytest.raises(BadRequest):
                run(asked)
        assert echo.asked == []

    def test_one_file_with_too_many_digests(self):
        """
        What does not fit into any payload.
        """
        destination = RemoteDestination(Echo(None), "d", 1, PLACE)
        keep = [bytes(32)] * (MAX_PAYLOAD // 32)
        with pytest.raises(BadRequest):
            run(destination.write([Piece(b"x", 1, 0, keep)], b""))


class TestAnswers:
    """
    A server's answers are checked too.
    """

    @pytest.mark.parametrize(
        ("extents", "nbytes"),
        [([], 0), ([Extent(5)] * 2, 10), ([Extent(6)], 6), ([Extent(5)], 4)],
    )
    def test_read(self, extents, nbytes):
        """
        Not as many extents or bytes as asked for, or as they say.
        """

        class Odd(Echo):
            async def ask(self, *args: Any, **kwargs: Any) -> Any:
                return {"payload": Unpacked(extents, memoryview(bytes(nbytes)))}

        odd = Odd(None)
        with pytest.raises(PeerGone):
            run(RemoteSource(odd, "s", 1, PLACE).read([Range(b"x", b"", 0, 5)]))
        assert len(odd.complaints) == 1

    def test_shorter(self):
        """
        Fewer bytes than were asked for are for the caller to judge.
        """

        class Short(Echo):
            async def ask(self, *args: Any, **kwargs: Any) -> Any:
                failed = Failure("NO_SUCH_FILE", "gone")
                return {"payload": Unpacked([Extent(2), failed], memoryview(b"ab"))}

        source = RemoteSource(Short(None), "s", 1, PLACE)
        ranges = [Range(b"x", b"", 0, 5), Range(b"y", b"", 0, 5)]
        extents, data = run(source.read(ranges))
        assert (extents[0], data) == (Extent(2), b"ab")

    def test_other_number_of_results(self):
        """
        Results that cannot be told to which file they belong.
        """

        class Odd(Echo):
            async def ask(self, *args: Any, **kwargs: Any) -> Any:
                return {"payload": Unpacked([Written(1)] * 3, memoryview(b""))}

        with pytest.raises(PeerGone):
            run(
                RemoteDestination(Odd(None), "d", 1, PLACE).write(
                    [Piece(b"x", 0, 1)], b"1"
                )
            )


def late(events: Sequence[LogEvent]) -> list[LogEvent]:
    """
    Those of their kind.
    """
    return [each for each in events if each.get("event") == "answer-late"]


class TestDeadline:
    """
    A request that does not touch the data of files is answered soon, or never.
    """

    @pytest.fixture
    def slow(self) -> SlowStore:
        """
        The store behind the client.
        """
        return SlowStore()

    @pytest.fixture
    def client(self, slow: SlowStore) -> Client:
        """
        A client of a slow server.
        """
        net = Net()
        net.service.offer("inbox").make_source = lambda: slow
        return net.client()

    def turn(self, client: Client, seconds: int) -> None:
        """
        Let time pass, and whatever happens then happen.
        """
        for _ in range(seconds):
            client.wires.clock.advance(1)
            client.wires.pump()

    def test_no_answer(self, client, slow):
        """
        The connection is given up, although the server still shows signs of life.
        """
        source = client.run(client.connection().open_source("inbox"))
        self.turn(client, 10)  # so that a sign of life comes while it waits
        asked = client.begin(source.list(0))
        self.turn(client, ANSWER_DEADLINE - 1)
        assert not client.link.gone
        self.turn(client, 1)
        with pytest.raises(PeerGone, match="no answer to List in 30 s"):
            now(asked)
        assert client.link.gone

    def test_other_answers_arrive(self, client, slow):
        """
        A server that answers other things is only slow.
        """
        source = client.run(client.connection().open_source("inbox"))
        asked = client.begin(source.list(0))
        for _ in range(10):
            reading = client.begin(source.read([Range(b"x", b"", 0, 1)]))
            self.turn(client, ANSWER_DEADLINE - 1)
            slow.waiting.pop().callback(None)
            client.wires.pump()
            assert now(reading)
        slow.let_go()
        client.wires.pump()
        assert now(asked)

    def test_still_sending(self, client, slow):
        """
        A request that waits behind much to be sent has time.
        """
        source = client.run(client.connection().open_source("inbox"))
        client.link._outbox.pauseProducing()
        asked = client.begin(source.list(0))
        self.turn(client, 2 * ANSWER_DEADLINE)
        assert not asked.called
        client.link._outbox.resumeProducing()
        client.wires.pump()
        slow.let_go()
        client.wires.pump()
        assert now(asked)

    def test_sent_late(self, client, slow):
        """
        Time counts from when nothing waits to be sent any more, not from when the
        request began to wait.
        """
        source = client.run(client.connection().open_source("inbox"))
        client.link._outbox.pauseProducing()
        asked = client.begin(source.list(0))
        self.turn(client, ANSWER_DEADLINE - 1)
        client.link._outbox.resumeProducing()
        self.turn(client, ANSWER_DEADLINE - LOOK)
        assert not asked.called
        self.turn(client, LOOK)
        with pytest.raises(PeerGone, match="no answer to List"):
            now(asked)

    def test_data_of_files(self, client, slow):
        """
        Reading has no deadline while the connection is alive.
        """
        source = client.run(client.connection().open_source("inbox"))
        asked = client.begin(source.read([Range(b"x", b"", 0, 1)]))
        self.turn(client, 10 * ANSWER_DEADLINE)
        slow.let_go()
        client.wires.pump()
        assert now(asked)

    def test_late_answers_are_told_of_once(self, client, slow):
        """
        Which peer, and what it was asked for; and once more after something came.
        """
        source = client.run(client.connection().open_source("inbox"))
        begun = [client.begin(source.read([Range(b"x", b"", 0, 1)])) for _ in "ab"]
        with capturedLogs() as events:
            self.turn(client, LATE - 1)
            assert not late(events)
            self.turn(client, 3 * LATE)
            (event,) = late(events)
            assert (event["peer"], event["commands"]) == ("archive", "Read")
            slow.waiting.pop(0).callback(None)
            self.turn(client, 2 * LATE)
            assert len(late(events)) == 2
        slow.let_go()
        client.wires.pump()
        assert [now(each) for each in begun]

    def test_who_sends_is_not_late(self, client, slow):
        """
        As long as the request itself waits to be sent.
        """
        source = client.run(client.connection().open_source("inbox"))
        client.link._outbox.pauseProducing()
        asked = client.begin(source.read([Range(b"x", b"", 0, 1)]))
        with capturedLogs() as events:
            self.turn(client, 2 * LATE)
            assert not late(events)
        client.link._outbox.resumeProducing()
        client.wires.pump()
        slow.let_go()
        client.wires.pump()
        assert now(asked)

    def test_nothing_left(self, client, slow):
        """
        An answer in time leaves no timer but that for signs of life.
        """
        source = client.run(client.connection().open_source("inbox"))
        before = len(client.wires.clock.getDelayedCalls())
        asked = client.begin(source.list(0))
        client.wires.pump()
        slow.let_go()
        client.wires.pump()
        assert now(asked)
        assert len(client.wires.clock.getDelayedCalls()) == before


def test_closing_what_is_gone():
    """
    A store of a lost connection is closed already.
    """
    net = Net()
    net.service.offer("inbox")
    client = net.client()
    source = client.run(client.connection().open_source("inbox"))
    client.wires.cut()
    client.run(source.close())
    client.run(client.connection().close())


def test_names():
    """
    As on the command line, and on one line.
    """
    assert store_name("archive", "inbox", b"") == "archive:inbox"
    assert store_name("archive", "inbox", b"a\nb/\xff") == r"archive:inbox/a\x0ab/\xff"


def test_adopting_is_not_possible():
    """
    A peer's file system is not this one.
    """
    destination = RemoteDestination(Echo(None), "d", 1, PLACE)
    source = RemoteSource(Echo(None), "s", 1, PLACE)
    assert run(destination.adopt(source, [], [])) is None
