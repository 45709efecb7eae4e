"""
A server with one directory, what is read from it and written into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from realize.model import Piece, Range
from realize.wire.compression import Mode
from tests.support.slow import QuickStore, SlowStore
from tests.support.wire import Client, Net, now


def make_net(client_wants: Mode | None = None, server_can: bool = False) -> Net:
    """
    A server with one directory; as :class:`~tests.support.wire.Net` has it.
    """
    net = Net(server_can, client_wants)
    net.service.offer("inbox")
    return net


def use(net: Net, store: SlowStore) -> SlowStore:
    """
    Open this store whenever the directory is opened.
    """
    directory = net.service.directories["inbox"]
    made: Any = lambda: store  # noqa: E731
    directory.make_source = directory.make_destination = made
    return store


def open_both(client: Client) -> tuple[Any, Any]:
    """
    A source and a destination on the directory.
    """
    connection = client.connection()
    source = client.run(connection.open_source("inbox"))
    return source, client.run(connection.open_destination("inbox"))


def piece(content: bytes | memoryview, path: bytes = b"x", offset: int = 0) -> Any:
    """
    Arguments of a write.
    """
    return [Piece(path, offset, len(content))], content


def check_any_pieces(net: Net, draw: Callable[..., Any]) -> Client:
    """
    Payloads of any size, in pieces of any size, arrive as they were sent, both ways,
    and writes are begun in their order.

    :param draw: of hypothesis's data.
    """
    store = use(net, QuickStore())
    sizes = st.one_of(st.integers(1, 40), st.integers(1, 70_000))
    client = net.client(segment=lambda: draw(sizes, "segment"))
    source, destination = open_both(client)
    lengths = draw(
        st.lists(st.one_of(st.integers(0, 40), st.integers(0, 200_000)), max_size=6)
    )
    asked: list[Deferred[Any]] = []
    for number, length in enumerate(lengths):
        content = (b"%16d" % number + bytes(length))[:length]
        asked.append(client.begin(destination.write(*piece(content))))
        asked.append(client.begin(source.read([Range(b"x", b"i", 0, length)])))
    client.wires.pump()
    assert [each[2] for each in store.begun if each[0] == "write"] == lengths
    for number, each in enumerate(store.begun[::2]):
        assert each[3] == (b"%16d" % number)[: each[2]]
    reads = [now(each) for each in asked[1::2]]
    assert [len(content) for _, content in reads] == lengths
    return client
