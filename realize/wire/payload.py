"""
Boxes, and the payloads that follow them.

A box is AMP's: pairs of a key and a value, each with its length in 16 bits before it,
and an empty key at the end.  No value is longer than 65,535 bytes, so bulk bytes are
not put into boxes.  A box with the key ``payload`` has the decimal length of a payload
as that key's value, and exactly that many raw bytes come right after the box.

A payload begins with a head: its length in 32 bits, and that many bytes of msgpack.
What comes after the head are bytes of files.

What breaks these rules is :class:`Malformed`, and ends the connection.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
from attrs import frozen
from twisted.protocols import amp

from realize.errors import BadRequest, RealizeError
from realize.model import decode_hook, encode_hook
from realize.texts import Label, Line

#: Most bytes in one payload, head included.
MAX_PAYLOAD: Final = 4 * 1024 * 1024

#: Most keys in one box, and most bytes that it takes on the wire.
MAX_KEYS: Final = 32
MAX_BOX: Final = 128 * 1024

#: Longest key, in bytes.
MAX_KEY: Final = 255

#: Largest number that crosses the wire.
MAX_NUMBER: Final = 2**63 - 1

#: The key whose value is the length of the payload that follows the box.
PAYLOAD: Final = b"payload"

_SIZE = struct.Struct(">H")
_HEAD = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode


class Malformed(RealizeError):
    """
    What arrived is not this protocol.  Never sent; the connection is closed.

    The text is a :class:`~realize.texts.Line`: what broke the rules may be in it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(Line(text))


def take_box(buffer: bytearray) -> amp.AmpBox | None:
    """
    Cut the first box off *buffer*; None if it has not arrived whole.

    A box that arrives in pieces is looked at again with each; that costs at most
    :data:`MAX_KEYS` steps, and nothing is copied before the box is whole.

    :raises Malformed: it is not a box, or larger than boxes may be.
    """
    pairs: list[tuple[int, int, int]] = []
    at = 0
    while True:
        if at + 2 > len(buffer):
            return None
        key_size: int = _SIZE.unpack_from(buffer, at)[0]
        if key_size == 0:
            break
        if key_size > MAX_KEY or len(pairs) == MAX_KEYS:
            raise Malformed(f"more than {MAX_KEYS} keys, or one over {MAX_KEY} bytes")
        middle = at + 2 + key_size
        if middle + 2 > len(buffer):
            return None
        end = middle + 2 + _SIZE.unpack_from(buffer, middle)[0]
        if end > MAX_BOX:
            raise Malformed(f"a box of more than {MAX_BOX} bytes")
        if end > len(buffer):
            return None
        pairs.append((at + 2, middle, end))
        at = end
    box = amp.AmpBox()
    for start, middle, end in pairs:
        box[bytes(buffer[start:middle])] = bytes(buffer[middle + 2 : end])
    if not box or len(box) < len(pairs):
        raise Malformed("an empty box, or a key that is there twice")
    del buffer[: at + 2]
    return box


def parse_number(text: bytes) -> int:
    """
    A number from a box: decimal digits and nothing else.

    :raises Malformed: a sign, a blank, a leading zero, or above :data:`MAX_NUMBER`.
    """
    if len(text) <= 19 and text.isdigit() and (text[0] != 0x30 or len(text) == 1):
        number = int(text)
        if number <= MAX_NUMBER:
            return number
    raise Malformed("a number that is none")


def payload_length(box: amp.AmpBox) -> int | None:
    """
    How long a payload follows *box*, in bytes; None if none does.

    :raises Malformed: longer than :data:`MAX_PAYLOAD`.
    """
    text = box.get(PAYLOAD)
    if text is None:
        return None
    length = parse_number(text)
    if length > MAX_PAYLOAD:
        raise Malformed(f"a payload of {length} bytes")
    return length


@frozen
class Packed:
    """
    A payload about to be sent.

    :ivar head: what comes first, encoded, with its length.
    :ivar data: bytes of files.
    """

    head: bytes
    data: bytes | memoryview

    def __len__(self) -> int:
        return len(self.head) + len(self.data)


@frozen
class Unpacked:
    """
    A payload that arrived.

    :ivar head: of the type that its command declares.
    :ivar data: bytes of files; a view, so as not to copy them.
    """

    head: Any
    data: memoryview


def pack(head: object, data: bytes | memoryview = b"") -> Packed:
    """
    Make a payload.

    :raises BadRequest: it would be longer than :data:`MAX_PAYLOAD`.
    """
    encoded = _encode(head)
    packed = Packed(_HEAD.pack(len(encoded)) + encoded, data)
    if len(packed) > MAX_PAYLOAD:
        raise BadRequest(f"{len(packed)} bytes are too much for one batch or page")
    return packed


def decode(decoder: msgspec.msgpack.Decoder[Any], raw: Any) -> Any:
    """
    The value in a head, or in a part of one.

    :raises Malformed: it is none, or one of its parts is out of its bounds.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"a head that is not what it should be: {error}") from None


class Payload(amp.Argument):
    """
    The argument that stands for the payload.  Its name is always :data:`PAYLOAD`.

    To be sent it is a :class:`Packed`, when it has arrived an :class:`Unpacked`.

    :param head: the type of the head.
    :param data: whether bytes of files may follow the head.
    """

    def __init__(self, head: Any, data: bool = False) -> None:
        super().__init__()
        self._decoder = msgspec.msgpack.Decoder(head, dec_hook=decode_hook)
        self._data = data

    def fromBox(
        self, name: bytes, strings: Any, objects: dict[str, Any], proto: object
    ) -> None:
        raw = memoryview(strings.pop(name))
        if len(raw) < _HEAD.size:
            raise Malformed("a payload without a head")
        end = _HEAD.size + _HEAD.unpack_from(raw)[0]
        if end > len(raw) or (end < len(raw) and not self._data):
            raise Malformed("a payload that is not as long as its head says")
        head = decode(self._decoder, raw[_HEAD.size : end])
        objects[name.decode()] = Unpacked(head, raw[end:])

    def toBox(
        self, name: bytes, strings: Any, objects: dict[str, Any], proto: object
    ) -> None:
        # The protocol takes it out again when the box is sent.
        strings[name] = objects.pop(name.decode())


class Unsigned(amp.Argument):
    """
    A number from 0 to :data:`MAX_NUMBER`.
    """

    def fromString(self, inString: bytes) -> int:  # noqa: N803  # Twisted's name
        return parse_number(inString)

    def toString(self, inObject: int) -> bytes:  # noqa: N803  # Twisted's name
        if not 0 <= inObject <= MAX_NUMBER:
            raise BadRequest(f"{inObject} cannot be sent")
        return b"%d" % inObject


class Text(amp.Argument):
    """
    A text: whatever arrives becomes a line, and whatever is sent fits.

    :param kind: :class:`~realize.texts.Line`, or a shorter one.
    """

    def __init__(self, kind: type[Line] = Line, optional: bool = False) -> None:
        super().__init__(optional)
        self._kind = kind

    def fromString(self, inString: bytes) -> Line:  # noqa: N803  # Twisted's name
        return self._kind(inString.decode())

    def toString(self, inObject: str) -> bytes:  # noqa: N803  # Twisted's name
        return self._kind(inObject).encode()


class Word(Text):
    """
    A short one: a name, or one of a few words.
    """

    def __init__(self, optional: bool = False) -> None:
        super().__init__(Label, optional)


class Octets(amp.String):
    """
    Bytes, of which there are not too many.

    :param most: how many.
    """

    def __init__(self, most: int, optional: bool = False) -> None:
        super().__init__(optional)
        self._most = most

    def fromString(self, inString: bytes) -> bytes:  # noqa: N803  # Twisted's name
        if len(inString) > self._most:
            raise Malformed(f"{len(inString)} bytes where at most {self._most} may be")
        return inString

    def toString(self, inObject: bytes) -> bytes:  # noqa: N803  # Twisted's name
        if len(inObject) > self._most:
            raise BadRequest(f"{len(inObject)} bytes; at most {self._most} can be sent")
        return inObject
