"""
Who is let in, how often, in whose place, and what they may do then.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.protocols.amp import AmpBox
from twisted.python.failure import Failure

from realize.errors import (
    BadRequest,
    DirectoryGone,
    Incompatible,
    NotAllowed,
    PeerGone,
    PeerRefused,
)
from realize.model import EVERYTHING, Finish, Offer, Piece, Prefix, Range, Removal
from realize.peers import public_key_text
from realize.wire import commands
from realize.wire.client import ClientLink
from realize.wire.commands import Granted
from realize.wire.link import WELCOME_DEADLINE
from realize.wire.payload import pack
from realize.wire.responders import MAX_STORES
from realize.wire.server import (
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_PEER,
    MAX_UNGREETED,
    MAX_UNGREETED_PER_PEER,
)
from tests.support.slow import QuickStore, SlowStore
from tests.support.transports import Stranger
from tests.support.wire import LAPTOP, TOKEN, Client, MemoryDirectory, Net, now


@pytest.fixture
def net() -> Net:
    """
    A server without directories.
    """
    return Net()


def store_of(directory: MemoryDirectory, store: Any) -> None:
    """
    Open this store whenever the directory is opened.
    """
    directory.make_source = directory.make_destination = lambda: store


def ended(client: Client) -> BaseException:
    """
    Why a client was not welcomed, or lost its connection.
    """
    asked = Deferred.fromCoroutine(client.link.ask(commands.CloseStore, store=1))
    errors: list[Failure] = []
    asked.addErrback(errors.append)
    assert errors, "it is connected"
    client.link.welcomed.addErrback(lambda _: None)
    return errors[0].value


#: A digest, of whatever.
DIGEST = bytes(32)


class TestWelcome:
    """
    The first command.
    """

    def test_what_it_says(self, net):
        """
        The client learns what it may use, and nothing of the rest; the server learns
        who it is.
        """
        net.service.offer("inbox", put=True)
        net.service.offer("outbox", take=True)
        net.service.offer("secret", peer="other")
        with capturedLogs() as events:
            client = net.client()
            connection = client.connection()
        assert connection.granted == {
            "inbox": Granted("inbox", put=True),
            "outbox": Granted("outbox", take=True),
        }
        assert connection.software == client.server.software == commands.SOFTWARE
        (event,) = events
        assert (event["peer"], event["address"]) == ("laptop", "192.0.2.1")

    def test_asking_at_once(self, net):
        """
        What a client asks as soon as it is welcomed does not overtake its answer.
        """
        net.service.offer("inbox")
        client = net.client(pump=False)
        opened: list[Any] = []

        def open_source(_greeting: Any) -> None:
            asked = client.link.ask(
                commands.OpenSource, directory="inbox", below=b"", settle=None
            )
            Deferred.fromCoroutine(asked).addCallback(opened.append)

        client.link.welcomed.addCallback(open_source)
        client.wires.pump()
        assert opened[0]["store"] == 1

    def test_too_slow(self, net):
        """
        A client that does not answer is not kept, nor is a server that says nothing.
        """
        client = net.client(pump=False)
        net.clock.advance(WELCOME_DEADLINE)
        assert client.wires.server_end.aborted
        assert client.wires.client_end.aborted
        client.wires.pump()
        with pytest.raises(PeerGone, match="no words of welcome in 10 s"):
            now(client.link.welcomed)
        assert net.factory.links == set()
        assert net.clock.getDelayedCalls() == []

    @pytest.mark.parametrize(
        ("version", "older"), [(commands.VERSION + 1, "there"), (0, "here")]
    )
    def test_client_of_another_version(self, net, version, older):
        """
        Each end learns which one to update.
        """

        class Other(ClientLink):
            @commands.Welcome.responder
            def welcome_another(self, version, payload):
                # What this end thinks it has.
                return {"version": mine, "software": "old", "token": TOKEN}

        mine = version
        with capturedLogs() as events:
            client = net.client(kind=Other)
        assert client.server.gone
        where = "here" if older == "there" else "there"
        assert f"update realize {where}" in events[0]["reason"]
        with pytest.raises(PeerRefused):
            now(client.link.welcomed)

    @pytest.mark.parametrize(
        ("version", "older"), [(commands.VERSION + 1, "here"), (0, "there")]
    )
    def test_server_of_another_version(self, net, version, older):
        """
        Whatever else such a server says is not looked at.
        """
        client = net.client(pump=False)
        packed = pack({"everything": "is different"})
        box = AmpBox(
            _command=b"Welcome",
            _ask=b"1",
            version=b"%d" % version,
            payload=b"%d" % len(packed),
        )
        client.wires.server_end.sent[:] = box.serialize() + packed.head
        client.wires.pump()
        with pytest.raises(Incompatible, match=f"update realize {older}"):
            now(client.link.welcomed)
        assert client.link.gone

    def test_an_odd_token(self, net):
        """
        A session needs a token of the right size.
        """
        client = net.client(token=b"short")
        assert client.server.gone
        assert isinstance(ended(client), PeerGone)


class TestRights:
    """
    Checked at every request.
    """

    def test_unknown_and_forbidden_look_the_same(self, net):
        """
        What a peer may not use does not exist for it.
        """
        net.service.offer("secret", peer="other")
        net.service.offer("inbox", put=True)
        connection = net.client().connection()
        client = net.client(token=b"2" * 16)
        connection = client.connection()
        texts = set()
        for name in ("secret", "nothing", "inbox"):
            with pytest.raises(NotAllowed) as raised:
                client.run(connection.open_source(name))
            texts.add(str(raised.value).replace(name, "X"))
        assert len(texts) == 1
        for name in ("secret", "nothing"):
            with pytest.raises(NotAllowed):
                client.run(connection.open_destination(name))
        assert net.service.directories["secret"].opened == []

    @pytest.mark.parametrize("replace", [True, False])
    def test_replace_is_passed_on(self, net, replace):
        """
        A destination knows whether it may replace.
        """
        directory = net.service.offer("inbox", put=True, replace=replace)
        client = net.client()
        client.run(client.connection().open_destination("inbox", b"a/b"))
        assert directory.opened == [("destination", b"a/b", replace)]

    @pytest.mark.parametrize(("settle", "expected"), [(None, -1), (0, 0), (5, 5)])
    def test_settle_is_passed_on(self, net, settle, expected):
        """
        A source knows how long files must have settled, if the client says so.
        """
        directory = net.service.offer("inbox")
        client = net.client()
        client.run(client.connection().open_source("inbox", b"x", settle))
        assert directory.opened == [("source", b"x", expected)]

    @pytest.mark.parametrize("lost", ["take", "put", "replace", "all"])
    def test_taken_away(self, net, lost):
        """
        A right that was taken away is gone for stores that are open already.
        """
        directory = net.service.offer("inbox")
        store_of(directory, QuickStore())
        client = net.client()
        connection = client.connection()
        source = client.run(connection.open_source("inbox"))
        destination = client.run(connection.open_destination("inbox"))
        rights = net.service.rights["laptop"]
        left = {"take", "put", "replace"} - {lost}
        if lost == "all":
            rights.clear()
        else:
            rights["inbox"] = Granted("inbox", **dict.fromkeys(left, True))
        denied = []
        for name, asked in {
            "list": source.list(0),
            "digest": source.digest([Prefix(b"x", b"", 0)]),
            "read": source.read([Range(b"x", b"", 0, 0)]),
            "remove": source.remove([Removal(b"x", b"", DIGEST)]),
            "offer": destination.offer([Offer(b"x", 1)], []),
            "compare": destination.compare([Finish(b"x", 0, DIGEST, 0, 0)]),
            "write": destination.write([Piece(b"x", 0, 0)], b""),
            "finish": destination.finish([Finish(b"x", 0, DIGEST, 0, 0)]),
        }.items():
            waiting = client.begin(asked)
            client.wires.pump()
            waiting.addErrback(
                lambda f, n=name: f.check(NotAllowed) and denied.append(n)
            )
        sources = ["list", "digest", "read", "remove"]
        destinations = ["offer", "compare", "write", "finish"]
        expected = {
            "take": sources,
            "put": destinations,
            "replace": destinations,
            "all": sources + destinations,
        }
        assert denied == expected[lost]

    def test_another_directory(self, net):
        """
        What is open of a directory whose id stands for another place by now is shut.
        """
        directory = net.service.offer("inbox")
        store_of(directory, QuickStore())
        client = net.client()
        connection = client.connection()
        source = client.run(connection.open_source("inbox"))
        destination = client.run(connection.open_destination("inbox"))
        del net.service.directories["inbox"]
        net.service.offer("inbox")
        for asked in (
            source.list(0),
            source.read([Range(b"x", b"", 0, 0)]),
            source.remove([Removal(b"x", b"", DIGEST)]),
            destination.offer([Offer(b"x", 1)], []),
            destination.finish([Finish(b"x", 0, DIGEST, 0, 0)]),
        ):
            with pytest.raises(DirectoryGone, match="another directory by now"):
                client.run(asked)

    def test_more_rights(self, net):
        """
        A right that was added does not disturb.
        """
        directory = net.service.offer("inbox", put=True)
        store_of(directory, QuickStore())
        client = net.client()
        destination = client.run(client.connection().open_destination("inbox"))
        net.service.offer("inbox")
        assert client.run(destination.write([Piece(b"x", 0, 1)], b"1"))

    def test_numbers_of_stores(self, net):
        """
        A number means nothing on another connection, for the other kind, or once it
        is closed.
        """
        store_of(net.service.offer("inbox"), QuickStore())
        client = net.client()
        other = net.client(token=b"2" * 16)
        source = client.run(client.connection().open_source("inbox"))
        ask = other.connection().ask
        with pytest.raises(BadRequest):
            other.run(
                ask(
                    commands.List,
                    store=1,
                    cursor=0,
                    restore=True,
                    payload=pack(EVERYTHING),
                )
            )
        destination = client.run(client.connection().open_destination("inbox"))
        with pytest.raises(BadRequest):
            client.run(
                client.link.ask(
                    commands.List,
                    store=2,
                    cursor=0,
                    restore=True,
                    payload=pack(EVERYTHING),
                )
            )
        assert client.run(source.list(0))
        client.run(source.close())
        client.run(source.close())
        with pytest.raises(BadRequest):
            client.run(source.list(0))
        assert destination.name == "archive:inbox"

    def test_too_many_stores(self, net):
        """
        A connection has so many stores open and no more; closing one makes room.
        """
        net.service.offer("inbox")
        client = net.client()
        connection = client.connection()
        opened = [
            client.run(connection.open_source("inbox")) for _ in range(MAX_STORES)
        ]
        with pytest.raises(BadRequest):
            client.run(connection.open_source("inbox"))
        client.run(opened[0].close())
        client.run(connection.open_source("inbox"))

    def test_opening_fails(self, net):
        """
        A store that could not be opened leaves nothing behind.
        """

        def fail() -> Any:
            raise DirectoryGone("inbox is not there")

        directory = net.service.offer("inbox")
        directory.make_source = fail
        client = net.client()
        for _ in range(MAX_STORES + 1):
            with pytest.raises(DirectoryGone):
                client.run(client.connection().open_source("inbox"))

    def test_bytes_and_pieces(self, net):
        """
        A write whose bytes are not as many as its pieces say is refused.
        """
        store = QuickStore()
        store_of(net.service.offer("inbox"), store)
        client = net.client()
        destination = client.run(client.connection().open_destination("inbox"))
        with pytest.raises(BadRequest):
            client.run(destination.write([Piece(b"x", 0, 5)], b"1234"))
        packed = pack([Piece(b"x", 0, 5)], b"1234")
        with pytest.raises(BadRequest):
            client.run(client.link.ask(commands.Write, store=1, payload=packed))
        assert store.begun == []

    def test_reading_too_much(self, net):
        """
        A batch of ranges that is longer than a batch may be is refused unread.
        """
        store = QuickStore()
        store_of(net.service.offer("inbox"), store)
        client = net.client()
        client.run(client.connection().open_source("inbox"))
        packed = pack([Range(b"x", b"", 0, 2**62)] * 3)
        with pytest.raises(BadRequest):
            client.run(client.link.ask(commands.Read, store=1, payload=packed))
        assert store.begun == []


class TestSessions:
    """
    A connection takes the place of an older one of its session.
    """

    def test_superseded(self, net):
        """
        The older is cut at once; stores are opened only once its own are closed.
        """
        directory = net.service.offer("inbox")
        ghost_store = SlowStore()
        ghost_store.close_waits = Deferred()
        store_of(directory, ghost_store)
        ghost = net.client()
        source = ghost.run(ghost.connection().open_source("inbox"))
        waiting = ghost.begin(source.list(0))
        ghost.wires.pump()
        store_of(directory, QuickStore())
        client = net.client()
        assert ghost.wires.server_end.aborted
        opening = client.begin(client.connection().open_source("inbox"))
        client.wires.pump()
        ghost.wires.pump()
        assert ghost_store.cancelled == 1
        assert len(directory.opened) == 1
        ghost_store.close_waits.callback(None)
        client.wires.pump()
        assert now(opening).name == "archive:inbox"
        assert len(directory.opened) == 2
        with pytest.raises(PeerGone):
            now(waiting)

    def test_a_row_of_ghosts(self, net):
        """
        Each waits for all before it, also if those in between had opened nothing.
        """
        directory = net.service.offer("inbox")
        first_store = SlowStore()
        first_store.close_waits = Deferred()
        store_of(directory, first_store)
        first = net.client()
        first.run(first.connection().open_source("inbox"))
        second = net.client()
        third = net.client()
        opening = third.begin(third.connection().open_source("inbox"))
        for each in (first, second, third):
            each.wires.pump()
        assert len(directory.opened) == 1
        first_store.close_waits.callback(None)
        third.wires.pump()
        assert now(opening)

    def test_others_are_left_alone(self, net):
        """
        Another token, or the same of another peer, is another session.
        """
        net.service.peers[b"O" * 32] = "other"
        clients = [net.client(), net.client(token=b"2" * 16), net.client(key=b"O" * 32)]
        assert not any(client.link.ended for client in clients)

    def test_forgotten(self, net):
        """
        Nothing is kept of sessions that have ended.
        """
        for _ in range(3):
            client = net.client()
            client.run(client.connection().close())
        assert net.factory._sessions == {}
        assert net.factory.links == set()

    def test_lost_while_opening(self, net):
        """
        A store whose opening ends after its connection did is closed all the same.
        """
        directory = net.service.offer("inbox")
        opening: Deferred[None] = Deferred()
        store = SlowStore()

        async def open_slowly(below: bytes = b"", **asked: Any) -> Any:
            await opening
            return store

        directory.open_source = open_slowly  # type: ignore[method-assign]
        client = net.client()
        asked = client.begin(client.connection().open_source("inbox"))
        asked.addErrback(lambda _: None)
        client.wires.pump()
        client.wires.cut()
        gone = client.server.when_closed()
        assert not gone.called
        opening.callback(None)
        assert store.closed
        assert gone.called


class TestLimits:
    """
    So many connections and no more.
    """

    def test_per_peer(self, net):
        """
        A peer with too many is told so; its ghosts do not count.
        """
        tokens = [b"%16d" % n for n in range(MAX_CONNECTIONS_PER_PEER)]
        for token in tokens:
            net.client(token=token)
        net.clock.advance(1)
        with capturedLogs() as events:
            refused = net.client(token=b"one more........")
        error = ended(refused)
        assert isinstance(error, PeerGone)
        assert "too many connections" in str(error)
        assert [event["peer"] for event in events] == ["laptop"]
        again = net.client(token=tokens[0])
        assert not again.link.ended

    def test_in_all(self, net):
        """
        And all peers together.
        """
        for n in range(MAX_CONNECTIONS):
            key = b"%32d" % (n // MAX_CONNECTIONS_PER_PEER)
            net.service.peers[key] = f"peer {key!r}"
            assert not net.client(token=b"%16d" % n, key=key).link.ended
        assert "too many" in str(ended(net.client()))

    def test_not_answering(self, net):
        """
        Connections that do not answer the welcome are few.
        """
        for _ in range(MAX_UNGREETED_PER_PEER):
            net.client(pump=False)
        assert "too many" in str(ended(net.client()))
        net.service.peers[b"O" * 32] = "other"
        assert not net.client(key=b"O" * 32).link.ended

    def test_not_answering_in_all(self, net):
        """
        And of all peers together.
        """
        for n in range(MAX_UNGREETED):
            key = b"%32d" % n
            net.service.peers[key] = f"peer {n}"
            net.client(pump=False, key=key)
        assert "too many" in str(ended(net.client()))


class TestClosing:
    """
    The server ends connections, and says why.
    """

    def test_removed_peer(self, net):
        """
        A peer that is none any more is sent away, and need not come back.
        """
        net.service.peers[b"O" * 32] = "other"
        stays = net.client(key=b"O" * 32)
        client = net.client()
        net.factory.recheck()
        client.wires.pump()
        assert not client.link.ended
        del net.service.peers[LAPTOP]
        net.factory.recheck()
        client.wires.pump()
        error = ended(client)
        assert isinstance(error, PeerRefused)
        assert "archive: this key is not known here any more" in str(error)
        assert f'pubkey = "{public_key_text(LAPTOP)}"' in str(error)
        assert not stays.link.ended

    def test_removed_while_shaking_hands(self, net):
        """
        The key is looked up again when the handshake is over.
        """
        net.service.peers.clear()
        assert isinstance(ended(net.client()), PeerRefused)

    def test_stopping(self, net):
        """
        Clients hear that the service stops; it has stopped once stores are closed.
        """
        directory = net.service.offer("inbox")
        store = SlowStore()
        store.close_waits = Deferred()
        store_of(directory, store)
        client = net.client()
        client.run(client.connection().open_source("inbox"))
        stopping = Deferred.fromCoroutine(net.factory.stop())
        client.wires.pump()
        error = ended(client)
        assert isinstance(error, PeerGone)
        assert "the service is stopping" in str(error)
        assert not stopping.called
        store.close_waits.callback(None)
        assert stopping.called
        assert "stopping" in str(ended(net.client()))

    def test_stopping_with_a_deaf_client(self, net):
        """
        A client that does not read does not keep the service from stopping.
        """
        client = net.client()
        client.wires.client_end.reading = False
        stopping = Deferred.fromCoroutine(net.factory.stop())
        client.wires.pump()
        net.clock.advance(5)
        client.wires.pump()
        assert stopping.called

    def test_refused_below(self, net):
        """
        What TLS turns away is one line with the address and the reason.
        """
        with capturedLogs() as events:
            net.factory.refused(Stranger("192.0.2.9"), "unknown key", "unknown key X")
        (event,) = events
        assert (event["peer"], event["reason"]) == ("192.0.2.9", "unknown key X")
