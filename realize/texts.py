"""
Texts of the other side, and of this one: one printable line of bounded length.

What a peer says is data, wherever it is shown: on a terminal, in the journal, in JSON.
So where a text comes off the wire it becomes a :class:`Line`, once, and the type says
that it is one.  What this side says becomes one before it is sent: an answer always
fits into its frame.
"""

from __future__ import annotations

import json
from typing import ClassVar, Final

from realize.paths import printable

#: Most bytes of UTF-8 in a :class:`Line`.  As many failures as a batch may have items
#: fit into a payload that is full of data.
MAX_LINE: Final = 900

#: Most bytes of UTF-8 in a :class:`Label`.
MAX_LABEL: Final = 128

#: Stands in the middle of a text for what was left out.
CUT: Final = " ... "


def printable_line(text: str) -> str:
    r"""
    *text* on one line, without control characters, invisible ones, and those that
    change the direction of others; they become ``\xNN``, byte by byte.

    Backslashes stay: names in the text are as :func:`~realize.paths.printable` has
    them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else printable(c) for c in text)


def cut(text: str, most: int) -> str:
    """
    *text* in at most so many bytes of UTF-8, without its middle if it has more.

    A message mostly begins with a name, which may be long, and ends with the reason.

    :param most: bytes; more than :data:`CUT` has.
    """
    if len(text) * 4 <= most or len(text.encode("utf-8", "surrogatepass")) <= most:
        return text
    half = (most - len(CUT)) // 2
    return _first(text, half) + CUT + _first(text[::-1], half)[::-1]


def _first(text: str, most: int) -> str:
    raw = text[:most].encode("utf-8", "surrogatepass")
    return raw[:most].decode("utf-8", "ignore")


class Line(str):
    """
    One printable line of at most :data:`MAX_LINE` bytes of UTF-8.

    Making one is what makes a text that; making one of a line changes nothing.

    :cvar most: bytes of UTF-8.
    """

    __slots__ = ()
    most: ClassVar[int] = MAX_LINE

    def __new__(cls, text: str) -> Line:
        """
        The line that *text* becomes.
        """
        if type(text) is cls:
            return text
        # What is far too long is not looked at whole.
        return super().__new__(
            cls, cut(printable_line(cut(text, 4 * cls.most)), cls.most)
        )

    @classmethod
    def read(cls, raw: bytes) -> Line:
        """
        The line that bytes of a text become, whatever they are.
        """
        return cls(raw.decode("utf-8", "replace"))


class Label(Line):
    """
    A short one, of at most :data:`MAX_LABEL` bytes: a name, or one of a few words.
    """

    __slots__ = ()
    most: ClassVar[int] = MAX_LABEL


def json_text(document: object) -> str:
    r"""
    JSON on one line, in which nothing is that a terminal would act on.

    What is printable stays as it is; the rest is written as ``\uNNNN``.

    :raises ValueError: there is a number in it that JSON does not have.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    # Outside of strings, which is where this cannot be written so, JSON is ASCII.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
