"""
What arrives is within its bounds, or is not taken: every number of every record, and
every text of every message, by the types that they are declared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect
from twisted.protocols import amp

from realize.errors import InternalError, peer_errors
from realize.model import MAX_BATCH, MAX_BATCH_BYTES, Failure, Value, decode_hook
from realize.texts import Label, Line
from realize.wire import commands
from realize.wire.link import _tidy_error
from realize.wire.payload import Malformed, Payload, Text, pack
from realize.wire.stores import MAX_HEAD
from tests.wire.test_protocol_doc import records

#: All that a terminal, a journal or a reader of lines would act on, and one letter.
HARMFUL = (
    "".join(map(chr, [*range(32), 0x7F, *range(0x80, 0xA0)]))
    + "\u2028\u2029\u202e\u2066\u200b\u200d\ufeff\u00ad"
    + "\x1b]0;title\x07\x1b[2J\x9b31m"
    + "x"
)


def example(kind: inspect.Type, text: str = "x") -> Any:
    """
    A value of a type, as it is on the wire, with *text* for every text.
    """
    match kind:
        case inspect.IntType() | inspect.FloatType():
            least = kind.ge if kind.ge is not None else 0
            return type(least)(max(least, 1))
        case inspect.BytesType():
            return bytes(kind.min_length or 0)
        case inspect.CustomType() | inspect.StrType():
            return text
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.BoolType():
            return True
        case inspect.ListType():
            return [example(kind.item_type, text)]
        case inspect.UnionType():
            return example(kind.types[0], text)
        case inspect.Metadata():
            return example(kind.type, text)
        case inspect.StructType():
            found = [kind.tag] if kind.tag else []
            values = [example(field.type, text) for field in kind.fields]
            if kind.cls.__name__ == "Signature":
                values = [0, [1], bytes(16)]
            return found + values
        case _:
            return None


def decoded(kind: type[Value], wire: Any) -> Any:
    """
    What a decoder makes of it, as :class:`~realize.wire.payload.Payload` has them.
    """
    decoder = msgspec.msgpack.Decoder(kind, dec_hook=decode_hook)
    return decoder.decode(msgspec.msgpack.encode(wire))


def texts_in(value: Any) -> Iterator[str]:
    """
    Every text in a value.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from texts_in(each)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from texts_in(getattr(value, name))


def struct_of(name: str) -> inspect.StructType:
    """
    A record of the protocol.
    """
    info = inspect.type_info(records()[name])
    assert isinstance(info, inspect.StructType)
    return info


def number_of(kind: inspect.Type) -> inspect.IntType | inspect.FloatType | None:
    """
    The number that a field holds, if it does.
    """
    if isinstance(kind, inspect.Metadata):
        return number_of(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next(filter(None, map(number_of, kind.types)), None)
    return kind if isinstance(kind, inspect.IntType | inspect.FloatType) else None


NUMBERS = [
    (name, at, field.name)
    for name in sorted(records())
    for at, field in enumerate(struct_of(name).fields)
    if number_of(field.type) is not None
]


@pytest.mark.parametrize("name", sorted(records()))
def test_texts_of_records(name: str) -> None:
    """
    Become lines, whatever is in them and however long they are.
    """
    for text in (HARMFUL, HARMFUL * 500, "x" * 100_000):
        value = decoded(records()[name], example(struct_of(name), text))
        for each in texts_in(value):
            assert each.isprintable()
            assert len(each.encode()) <= Line.most


@pytest.mark.parametrize(("name", "at", "field"), NUMBERS)
def test_numbers_of_records(name: str, at: int, field: str) -> None:
    """
    At their bounds they are taken, and past them, or as something else, they are not.
    """
    info = struct_of(name)
    kind = number_of(info.fields[at].type)
    assert kind is not None
    assert kind.ge is not None
    greatest = kind.le if kind.le is not None else 2**64 - 1
    wire = example(info)
    place = at + bool(info.tag)

    def with_number(number: Any) -> Any:
        return decoded(records()[name], [*wire[:place], number, *wire[place + 1 :]])

    for number in (kind.ge, greatest):
        assert getattr(with_number(number), field) == number
    wrong: list[Any] = ["1", b"1", [], True]
    if kind.ge > -(2**63):
        wrong.append(kind.ge - 1)
    if greatest < 2**64 - 1:
        wrong.append(2**64 - 1)
    if isinstance(kind, inspect.FloatType):
        wrong += [2.0 * greatest, float("nan"), float("inf"), -1.0]
    elif greatest < 2**64 - 1:
        wrong.append(greatest + 1)
    for number in wrong:
        with pytest.raises(msgspec.ValidationError):
            with_number(number)


TEXTS = [
    (command, name, argument, side)
    for command in commands.COMMANDS.values()
    for side in ("arguments", "response")
    for name, argument in getattr(command, side)
    if isinstance(argument, Text)
]


@pytest.mark.parametrize(
    ("command", "name", "argument", "side"),
    TEXTS,
    ids=[f"{each[0].__name__}-{each[3]}-{each[1].decode()}" for each in TEXTS],
)
def test_texts_in_boxes(
    command: type[commands.Request], name: bytes, argument: Text, side: str
) -> None:
    """
    The same, on their way in and on their way out.
    """
    for text in (HARMFUL, HARMFUL * 500, "x" * 60_000):
        found: dict[str, Any] = {}
        argument.fromBox(name, amp.AmpBox({name: text.encode()}), found, None)
        (line,) = found.values()
        assert isinstance(line, Line)
        assert line.isprintable()
        assert len(line.encode()) <= Line.most
        box = amp.AmpBox()
        argument.toBox(name, box, {name.decode(): text}, None)
        assert box[name].decode() == line
    with pytest.raises((ValueError, Malformed)):
        argument.fromBox(name, amp.AmpBox({name: b"\xff"}), {}, None)


@pytest.mark.parametrize("code", ["BUSY", "FROM_THE_FUTURE", "\x1b[31m" * 1000, ""])
def test_errors(code: str) -> None:
    """
    A code is one that there is, as an answer and in a batch; the text is a line.
    """
    known = {kind.code for kind in peer_errors()}
    box = amp.AmpBox(
        {
            amp.ERROR: b"1",
            amp.ERROR_CODE: code.encode(),
            amp.ERROR_DESCRIPTION: (HARMFUL * 500).encode() + b"\xff",
        }
    )
    _tidy_error(box)
    assert box[amp.ERROR_CODE].decode() in known
    assert Line.read(box[amp.ERROR_DESCRIPTION]) == box[amp.ERROR_DESCRIPTION].decode()
    failure = decoded(Failure, ["!", code, HARMFUL])
    assert failure.code in known
    assert str(failure.error).isprintable()
    if code != "BUSY":
        assert isinstance(failure.error, InternalError)
        assert failure.text.startswith(str(Label(code)))


def test_what_breaks_the_rules_is_told_in_a_line() -> None:
    """
    The value that was wrong may be in the text.
    """
    (argument,) = (
        each for _, each in commands.Remove.arguments if isinstance(each, Payload)
    )
    head = msgspec.msgpack.encode([[b"x", b"", bytes(32), HARMFUL * 100]])
    raw = len(head).to_bytes(4, "big") + head
    with pytest.raises(Malformed) as caught:
        argument.fromBox(b"payload", {b"payload": raw}, {}, None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= Line.most


def test_a_batch_of_failures_fits() -> None:
    """
    Beside all the bytes of files that an answer may have, however long the texts.
    """
    codes = sorted((kind.code for kind in peer_errors()), key=len)
    failure = Failure(Label(codes[-1]), Line("\u20ac" * 10_000))
    assert len(failure.text.encode()) > Line.most - 8
    packed = pack([failure] * MAX_BATCH, bytes(MAX_BATCH_BYTES))
    assert len(packed.head) <= MAX_HEAD
