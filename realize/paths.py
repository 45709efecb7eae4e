"""
Names: how bytes from the other side become a path, and how a path is shown.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import msgspec

from realize.errors import UnsafePath

#: Longest path, in bytes, and most components below a directory.
MAX_PATH: Final = 4095
MAX_COMPONENTS: Final = 64

#: Longest single name on the file systems we know, in bytes (``NAME_MAX``).
MAX_NAME: Final = 255

#: The same where it is shortest, of those that we know: eCryptfs.
SHORT_NAME: Final = 143

#: What surrounds the name of a file under construction: ``.NAME.realize-part``.
PARTIAL_PREFIX: Final = b"."
PARTIAL_SUFFIX: Final = b".realize-part"

#: What every name has that means something to this program.
RESERVED_INFIX: Final = b".realize-"

#: Hidden directories in which files wait to be unlinked: prefix and 16 hex digits.
#: A file that is hidden without one has ``~`` and its own name after them.
HIDDEN_PREFIX: Final = b".realize-moved-"

_HIDDEN = re.compile(re.escape(HIDDEN_PREFIX) + rb"[0-9a-f]{16}\Z")
_HIDDEN_FILE = re.compile(re.escape(HIDDEN_PREFIX) + rb"[0-9a-f]{16}~(.+)\Z", re.DOTALL)


class RelativePath(msgspec.Struct, frozen=True, gc=False):
    """
    A canonical path below a directory; the only way from a received name to a file.

    Nothing is cleaned up: what is not already canonical is refused.

    :ivar raw: the whole path, components joined by ``/``.
    :ivar parts: the components, at least one; the last is the file's own name.
    """

    raw: bytes
    parts: tuple[bytes, ...]

    @classmethod
    def parse(cls, raw: bytes) -> RelativePath:
        """
        :param raw: path as it arrived, 1 to :data:`MAX_PATH` bytes.
        :raises UnsafePath: absolute, ``.`` or ``..`` or an empty component, a NUL,
            over-long, or more than :data:`MAX_COMPONENTS` deep.
        """
        parts = tuple(raw.split(b"/"))
        if b"" in parts or b"." in parts or b".." in parts or b"\0" in raw:
            raise UnsafePath(f"{printable(raw[:256])}: not a canonical relative path")
        if len(raw) > MAX_PATH or len(parts) > MAX_COMPONENTS:
            raise UnsafePath(f"{printable(raw[:64])}...: path too long or too deep")
        return cls(raw, parts)

    @property
    def name(self) -> bytes:
        """
        The last component.
        """
        return self.parts[-1]

    @property
    def parent(self) -> tuple[bytes, ...]:
        """
        All components but the last; empty for a file directly in the root.
        """
        return self.parts[:-1]


def join(parent: bytes, name: bytes) -> bytes:
    """
    The path of *name* in the directory *parent*, which is ``b""`` for the root.
    """
    return parent + b"/" + name if parent else name


def parent_of(path: bytes) -> bytes:
    """
    The path of the directory that holds *path*; ``b""`` for the root.
    """
    return path.rpartition(b"/")[0]


def cut(name: bytes, most: int) -> bytes:
    """
    The beginning of a name, of at most so many bytes.  A name in UTF-8 is not cut
    inside a character: some file systems take nothing else.
    """
    end = most
    if len(name) > most:
        with suppress(UnicodeDecodeError):
            name.decode("utf-8")
            while end and name[end] & 0xC0 == 0x80:
                end -= 1
    return name[:end]


def is_partial(name: bytes) -> bool:
    """
    Whether a single name looks like a file under construction.
    """
    return name.startswith(PARTIAL_PREFIX) and name.endswith(PARTIAL_SUFFIX)


def is_hidden_directory(name: bytes) -> bool:
    """
    Whether a single name is that of a directory of files waiting to be unlinked.
    """
    return _HIDDEN.match(name) is not None


def is_reserved(name: bytes) -> bool:
    """
    Whether a single name means something to this program.
    """
    return is_partial(name) or is_hidden(name)


def name_of_hidden(name: bytes) -> bytes:
    """
    The own name of a file that is hidden in its directory; ``b""`` if a single name is
    not that of such a file.
    """
    found = _HIDDEN_FILE.match(name)
    return found[1] if found else b""


def is_hidden(name: bytes) -> bool:
    """
    Whether a single name is one of those that files wait to be unlinked under, or in.
    """
    return name.startswith(HIDDEN_PREFIX) and (
        is_hidden_directory(name) or bool(name_of_hidden(name))
    )


def printable(name: bytes | str) -> str:
    r"""
    Text of a name for people: one line, without control characters.

    Printable characters stay as they are; everything else, and what is not UTF-8,
    becomes ``\xNN`` byte by byte, and a backslash is doubled, so that two names
    never look alike and :func:`unprintable` gets the bytes back.

    >>> printable(b"caf\xc3\xa9\n\xff")
    'café\\x0a\\xff'
    """
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    # Others than these are in no name, but a text of JSON can have them.
    how = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    encoded = character.encode("utf-8", how)
    return "".join(f"\\x{byte:02x}" for byte in encoded)


def unprintable(text: str) -> bytes:
    r"""
    The bytes that :func:`printable` showed as *text*.

    :raises ValueError: a backslash begins neither ``\\`` nor ``\xNN``.
    """
    pieces = re.split(r"\\(\\|x[0-9a-f]{2})", text)
    if any("\\" in piece for piece in pieces[::2]):
        raise ValueError(f"not a name as realize prints it: {text!r}")
    out = bytearray()
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            out += piece.encode("utf-8", "surrogateescape")
        elif piece == "\\":
            out += b"\\"
        else:
            out.append(int(piece[1:], 16))
    return bytes(out)
