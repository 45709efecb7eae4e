"""
Boxes, payloads, and what is neither.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.protocols.amp import AmpBox

from realize.errors import BadRequest
from realize.model import Extent, Range
from realize.wire.commands import Read
from realize.wire.payload import (
    MAX_BOX,
    MAX_KEYS,
    MAX_NUMBER,
    MAX_PAYLOAD,
    PAYLOAD,
    Malformed,
    Payload,
    Unsigned,
    pack,
    parse_number,
    payload_length,
    take_box,
)

keys = st.binary(min_size=1, max_size=255)
boxes = st.dictionaries(keys, st.binary(max_size=300), min_size=1, max_size=MAX_KEYS)


def pair(key: bytes, value: bytes) -> bytes:
    """
    A key and a value as they are in a box.
    """
    return struct.pack(">H", len(key)) + key + struct.pack(">H", len(value)) + value


class TestTakeBox:
    """
    The first box of what has arrived.
    """

    @given(box=boxes, rest=st.binary(max_size=50), data=st.data())
    def test_as_amp_writes_it(self, box, rest, data):
        """
        What AMP serialises comes out again, whole, and nothing before it is whole.
        """
        raw = AmpBox(box).serialize()
        cut = data.draw(st.integers(0, len(raw) - 1))
        buffer = bytearray(raw[:cut])
        assert take_box(buffer) is None
        assert buffer == raw[:cut]
        buffer += raw[cut:] + rest
        assert take_box(buffer) == box
        assert buffer == rest

    def test_most_keys(self):
        """
        As many keys as are allowed, and not one more.
        """
        pairs = [pair(b"k%d" % n, b"") for n in range(MAX_KEYS + 1)]
        buffer = bytearray(b"".join(pairs[:-1]) + b"\0\0")
        assert len(take_box(buffer) or ()) == MAX_KEYS
        with pytest.raises(Malformed, match="more than 32 keys"):
            take_box(bytearray(b"".join(pairs) + b"\0\0"))

    def test_too_many_bytes(self):
        """
        A box that would be too large is refused before it has arrived.
        """
        value = bytes(60_000)
        buffer = bytearray(pair(b"a", value) + pair(b"b", value))
        assert take_box(buffer) is None
        buffer += struct.pack(">H", 1) + b"c" + struct.pack(">H", 60_000)
        assert len(buffer) < MAX_BOX
        with pytest.raises(Malformed, match=str(MAX_BOX)):
            take_box(buffer)

    def test_a_long_key(self):
        """
        A length of a key that AMP does not have, as plain text from a stranger has.
        """
        with pytest.raises(Malformed):
            take_box(bytearray(b"GET / HTTP/1.1\r\n"))

    @pytest.mark.parametrize(
        "raw", [b"\0\0", pair(b"a", b"1") + pair(b"a", b"2") + b"\0\0"]
    )
    def test_an_empty_box_and_a_key_twice(self, raw):
        """
        Neither is a request or an answer.
        """
        with pytest.raises(Malformed):
            take_box(bytearray(raw))


class TestNumbers:
    """
    Strictly decimal digits.
    """

    @given(st.integers(0, MAX_NUMBER))
    def test_round_trip(self, number):
        """
        What can be sent arrives.
        """
        unsigned = Unsigned()
        assert unsigned.fromString(unsigned.toString(number)) == number

    @pytest.mark.parametrize(
        "text",
        f"-1|+1| 1|1 |1_000|01|0x1|1.0|1e3||\N{ARABIC-INDIC DIGIT ONE}|{2**63}".split(
            "|"
        ),
    )
    def test_refused(self, text):
        """
        What Python's ``int`` takes beyond that is no number here.
        """
        with pytest.raises(Malformed):
            parse_number(text.encode())

    @pytest.mark.parametrize("number", [-1, MAX_NUMBER + 1])
    def test_not_sent(self, number):
        """
        A number out of bounds is an error where it is made.
        """
        with pytest.raises(BadRequest):
            Unsigned().toString(number)


class TestPayload:
    """
    A head and bytes.
    """

    def round_trip(self, kind, head, content=b"", **settings):
        """
        Send and receive.
        """
        packed = pack(head, content)
        argument = Payload(kind, **settings)
        objects: dict = {}
        raw = packed.head + packed.data
        argument.fromBox(PAYLOAD, {PAYLOAD: raw}, objects, None)
        return objects["payload"]

    def test_round_trip(self):
        """
        The head has its type again, and the bytes are a view of what arrived.
        """
        ranges = [Range(b"a", b"i", 0, 5), Range(b"b\xff", b"j", 7, 2**40)]
        unpacked = self.round_trip(list[Range], ranges, b"12345", data=True)
        assert unpacked.head == ranges
        assert unpacked.data == b"12345"
        assert isinstance(unpacked.data, memoryview)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\0\0\0",
            b"\0\0\0\5\x90",
            b"\0\0\0\1\xc1",
            b"\0\0\0\1\x01",
            b"\0\0\0\2\x91\x90",
            b"\0\0\0\1\x90more",
        ],
    )
    def test_no_head(self, raw):
        """
        Too short, no msgpack, another type, or more bytes than there should be.
        """
        with pytest.raises(Malformed):
            Payload(list[Extent]).fromBox(PAYLOAD, {PAYLOAD: raw}, {}, None)

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (2**63, 1)])
    def test_numbers_in_heads(self, offset, length):
        """
        Sizes and offsets below zero, or that no file can have.
        """
        with pytest.raises(Malformed):
            self.round_trip(list[Range], [[b"a", b"i", offset, length]])

    def test_too_long(self):
        """
        A payload that nobody would accept is an error where it is made.
        """
        with pytest.raises(BadRequest):
            pack([], bytes(MAX_PAYLOAD))
        fits = MAX_PAYLOAD - len(pack([]))
        assert len(pack([], bytes(fits))) == MAX_PAYLOAD

    def test_announced(self):
        """
        The length is looked at before anything is done about it.
        """
        assert payload_length(AmpBox()) is None
        assert payload_length(AmpBox(payload=b"%d" % MAX_PAYLOAD)) == MAX_PAYLOAD
        with pytest.raises(Malformed):
            payload_length(AmpBox(payload=b"%d" % (MAX_PAYLOAD + 1)))

    def test_a_long_list_is_refused_unseen(self):
        """
        A batch that says it is too long is not made into objects first.
        """
        raw = b"\xdd" + struct.pack(">I", 10**6) + b"\x94\xc4\0\xc4\0\0\0" * 10
        argument = dict(Read.arguments)[PAYLOAD]
        head = struct.pack(">I", len(raw)) + raw
        with pytest.raises(Malformed, match="length <= 1024"):
            argument.fromBox(PAYLOAD, {PAYLOAD: head}, {}, None)
