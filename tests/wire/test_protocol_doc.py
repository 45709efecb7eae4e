"""
``docs/protocol.md`` and the code say the same.
"""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.protocols import amp

from realize import digest, errors, model, texts
from realize.delta import chunks, exchange, plan, signature
from realize.net import tls
from realize.paths import MAX_COMPONENTS, MAX_PATH
from realize.peers import DEFAULT_PORT
from realize.wire import (
    commands,
    compression,
    flow,
    link,
    payload,
    responders,
    server,
    status,
    waiting,
    zstd,
)

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
FLAT = " ".join(TEXT.split())

#: How the types of arguments are called.
TYPES = {
    payload.Unsigned: "number",
    amp.Boolean: "boolean",
    payload.Text: "text",
    payload.Word: "word",
    payload.Octets: "bytes",
}


def rows(heading: str) -> dict[str, list[str]]:
    """
    The rows of the first table with this in its heading, by what is in the first cell.
    """
    found: dict[str, list[str]] = {}
    _, _, rest = TEXT.partition(f"\n| {heading}")
    for line in rest.split("\n\n")[0].splitlines()[2:]:
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        found[first.strip("`")] = cells
    return found


def shown(arguments: list[tuple[bytes, Any]]) -> str:
    """
    Arguments as the document has them.
    """
    words = []
    for name, argument in arguments:
        if isinstance(argument, payload.Payload):
            kind = shown_head(argument._decoder.type)
            if argument._data:
                kind += ", and content"
        else:
            kind = TYPES[type(argument)]
        optional = ", optional" if argument.optional else ""
        words.append(f"`{name.decode()}` {kind}{optional}")
    return ", ".join(words)


def shown_head(kind: Any) -> str:
    """
    The type of a head; failures go without saying.
    """
    if kind is msgspec.Raw:
        return "Greeting"
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if isinstance(kind, types.UnionType):
        kind, failure = typing.get_args(kind)
        assert failure is model.Failure
    if typing.get_origin(kind) is list:
        (item,) = typing.get_args(kind)
        if isinstance(item, types.UnionType):
            item, failure = typing.get_args(item)
            assert failure is model.Failure
        return f"list of {item.__name__}"
    return str(kind.__name__)


def test_commands():
    """
    Each command, with its arguments and results in the same order.
    """
    table = rows("command |")
    headings = re.findall(r"^(`.+`)\n: ", TEXT, re.M)
    described = re.findall(r"`(\w+)`", " ".join(headings))
    assert set(table) == {name.decode() for name in commands.COMMANDS}
    for name, command in commands.COMMANDS.items():
        _, _, arguments, results = table[name.decode()]
        assert arguments == shown(command.arguments)
        answered = "" if command.requiresAnswer else "not answered"
        assert results == (shown(command.response) or answered)
        assert name.decode() in described


def test_rights():
    """
    The right that each command needs is the one its docstring names.
    """
    for name, command in commands.COMMANDS.items():
        needs = rows("command |")[name.decode()][1]
        found = re.search(r"Right: (\w+)", command.__doc__ or "")
        assert needs == (found[1] if found else "")


def test_errors():
    """
    Each code, and whether the file is deferred.
    """
    table = rows("code |")
    assert set(table) == {code.decode() for code in commands.WIRE_ERRORS.values()}
    for code, cells in table.items():
        defers = errors.peer_error(code, "").defers
        assert cells[1] == ("deferred" if defers else "failed")


def records() -> dict[str, type[model.Value]]:
    """
    All records that are in heads, by name.
    """
    return {
        kind.__name__: kind
        for module in (model, commands, status, exchange, plan, signature)
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, model.Value)
        and kind not in (model.Value, plan.Compare)
    }


@pytest.mark.parametrize("name", sorted(records()))
def test_records(name):
    """
    Each record's tag and fields, in order.
    """
    begins, fields = rows("record |")[name]
    info = msgspec.inspect.type_info(records()[name])
    assert isinstance(info, msgspec.inspect.StructType)
    assert begins == (f"`{info.tag}`" if info.tag else "")
    assert info.array_like
    names = []
    for part in fields.split(";"):
        if part.strip().startswith("`"):
            names += re.findall(r"`([a-z_]+)`", part.partition(", one of")[0])
    assert names == [field.name for field in info.fields]
    for field in info.fields:
        if isinstance(field.type, msgspec.inspect.LiteralType):
            assert all(f"`{value}`" in fields for value in field.type.values)


def test_no_other_records():
    """
    Nothing is described that does not exist.
    """
    assert set(rows("record |")) == set(records())


@pytest.mark.parametrize(
    "words",
    [
        f"listens on port {DEFAULT_PORT}",
        f"ALPN `{tls.ALPN.decode()}`",
        f"A handshake that takes longer than {tls.HANDSHAKE_DEADLINE} seconds",
        f"at most {payload.MAX_KEYS} keys",
        f"at most {payload.MAX_BOX:,} bytes",
        f"key(1 to {payload.MAX_KEY} bytes)",
        f"as the value of the key says, at most {payload.MAX_PAYLOAD:,}",
        f"A path is 1 to {MAX_PATH:,} bytes: at most {MAX_COMPONENTS} components",
        f"at most {model.MAX_BATCH:,} items and {model.MAX_BATCH_BYTES:,} bytes",
        f"more than {model.MAX_STEPS:,}, each step",
        f"at most {model.MAX_AHEAD:,}, without data",
        f"0 if they are fewer than {model.HOLES_WORTH_TELLING:,}",
        f"blocks of {digest.BLOCK:,} bytes",
        f"it is {digest.SPARSE_DIGEST_SIZE} bytes: {digest.MARK[0]}, and",
        f"the context `{digest.CONTEXT}`",
        f"At most {model.MAX_RUNS:,}; empty means",
        f"a window of at most {zstd.MAX_WINDOW:,} bytes",
        f"the key `{compression.ZSTD.decode()}` beside",
        f"come with offers are at most {commands.MAX_DIRECTORIES:,}",
        f"the first {model.PREFIX_STEP:,} bytes",
        f"BLAKE3, {digest.DIGEST_SIZE} bytes",
        f"a path of more than {model.MAX_RAW_PATH:,} bytes is malformed",
        f"have at most {model.MAX_IDENTITY} bytes, and mean something only",
        f"`chain` has at most {model.MAX_CHAIN:,} tokens",
        f"at most {commands.MAX_FEATURES} features",
        f"text is sent in at most {texts.MAX_LINE} bytes, a word in at most "
        f"{texts.MAX_LABEL}",
        f"2,048 to {chunks.LARGEST_CHUNK:,}",
        f"files over 2^{chunks.LARGEST_FILE.bit_length() - 1} bytes",
        f"the first {signature.SHORT_DIGEST} bytes of the BLAKE3",
        f"at most {exchange.PAGE} groups",
        f"at most {exchange.MAX_SPANS} groups and {exchange.MAX_SIGNED:,} bytes",
        f"from `present` on: at most {exchange.MAX_REUSED:,} bytes",
        f"before the answer, which has {link.WELCOME_DEADLINE} seconds",
        f"At most {responders.MAX_STORES} are open at once",
        f"a token of {commands.TOKEN_SIZE} random bytes",
        f"`version` is {commands.VERSION}.",
        f"sent nothing for {link.ALIVE_AFTER} seconds",
        f"heard nothing for {link.SILENCE} seconds",
        f"no answer for {waiting.ANSWER_DEADLINE} seconds",
        f"while {flow.MAX_REQUESTS} requests, or {flow.MAX_IN_PROGRESS:,} bytes",
        f"or {flow.MAX_UNREAD:,} bytes of answers",
        f"or {flow.MAX_TOTAL:,} bytes on all together",
        f"at most {server.MAX_CONNECTIONS_PER_PEER} connections of one peer and "
        f"{server.MAX_CONNECTIONS} in all",
        f"at most {server.MAX_UNGREETED_PER_PEER} and {server.MAX_UNGREETED}; and of "
        f"those in their handshake at most {tls.MAX_PENDING_PER_ADDRESS} from one "
        f"address and {tls.MAX_PENDING} in all",
    ],
)
def test_limits(words):
    """
    Every number in the document is the one in the code.
    """
    assert words in FLAT


def test_numbers():
    """
    The largest number that crosses, however it crosses.
    """
    assert payload.MAX_NUMBER == 2**63 - 1
    assert FLAT.count("2^63-1") == 2
    assert (model.MIN_TIME, model.MAX_TIME) == (-(2**63), 2**64 - 1)
    assert "-2^63 to 2^64-1" in FLAT


def _bounds(kind: Any) -> list[str]:
    """
    What of a type, and of what it holds, has no bounds or is no printable line.
    """
    inspect = msgspec.inspect
    match kind:
        case inspect.IntType() | inspect.FloatType():
            # The greatest time is the greatest number that msgpack has.
            endless = kind.le is None and kind.ge != model.MIN_TIME
            if kind.ge is None or endless:
                return ["a number without a range"]
        case inspect.BytesType():
            if kind.max_length is None:
                return ["bytes without end"]
        case inspect.StrType():
            return ["a text that is no line"]
        case inspect.CustomType():
            if not issubclass(kind.cls, texts.Line):
                return [f"a {kind.cls.__name__}"]
        case inspect.ListType():
            return _bounds(kind.item_type)
        case inspect.UnionType():
            return [wrong for each in kind.types for wrong in _bounds(each)]
        case inspect.Metadata():
            return _bounds(kind.type)
        case (
            inspect.StructType()
            | inspect.LiteralType()
            | inspect.BoolType()
            | inspect.NoneType()
        ):
            pass
        case _:
            return [f"a {kind}"]
    return []


@pytest.mark.parametrize("name", sorted(records()))
def test_everything_has_bounds(name):
    """
    Each number has a range that is checked on arrival, bytes have a length, and every
    text becomes a line.
    """
    info = msgspec.inspect.type_info(records()[name])
    assert isinstance(info, msgspec.inspect.StructType)
    wrong = {field.name: _bounds(field.type) for field in info.fields}
    # As long as the lengths beside them say.
    allowed = {"digests"} if name == "Signature" else set()
    assert {field for field, found in wrong.items() if found} == allowed


def test_arguments_have_bounds():
    """
    The same for what is in boxes.
    """
    bounded = (payload.Payload, amp.Boolean, *TYPES)
    for command in commands.COMMANDS.values():
        for _name, argument in (*command.arguments, *command.response):
            assert type(argument) in bounded
    assert amp.Unicode not in TYPES
    assert amp.String not in TYPES
