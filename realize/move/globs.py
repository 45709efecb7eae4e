"""
Globs that name files and directories of a tree, as in ``.gitignore``.

- ``*`` is any part of one name, ``?`` one character of it, ``[a-z]`` or ``[!a-z]`` one
  of (or outside) a set, ``\\`` quotes the character that follows.
- ``**`` between slashes, at the start or at the end, is any number of directories.
- Without a slash, other than one at its end, a glob is compared with every single
  name of a path: ``*.tmp`` matches at any depth.  With one, it is compared with the
  whole path from the root on: ``/cache``, ``a/b``.
- A glob that matches a directory stands for everything below it; one that ends in a
  slash matches directories only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import field, frozen


@frozen
class Glob:
    """
    One glob.

    :ivar text: as it was given.
    :ivar expression: a regular expression, to be matched from the start of a path, in
        which a directory ends in a slash; it ends where the glob ends.
    """

    text: str
    expression: str

    @classmethod
    def parse(cls, text: str) -> Glob:
        """
        :param text: a byte that is not UTF-8 stands in it as Python's command line
            gives it (``surrogateescape``).
        :raises ValueError: it can never match, or is not closed; says what to write.
        """
        body = text.removesuffix("/")
        names = body.removeprefix("/").split("/")
        if not all(names):
            raise ValueError(f'"{text}": matches nothing: a name is missing')
        _refuse_what_never_matches(text, names)
        start = "" if "/" in body else "(?:.*/)?"
        end = "/" if text.endswith("/") else r"(?:/|\Z)"
        pieces = []
        for index, name in enumerate(names):
            last = index == len(names) - 1
            if name == "**":
                pieces.append(".+" if last else "(?:.*/)?")
            else:
                pieces.append(_name(name, text) + ("" if last else "/"))
        return cls(text, start + "".join(pieces) + end)


@frozen
class Globs:
    """Several globs, any of which may match."""

    texts: tuple[str, ...]
    _pattern: re.Pattern[str] = field(repr=False, eq=False)

    @classmethod
    def of(cls, globs: Iterable[Glob]) -> Globs:
        """Put *globs* together."""
        each = tuple(globs)
        pattern = "|".join(glob.expression for glob in each) if each else "(?!)"
        return cls(tuple(glob.text for glob in each), re.compile(pattern, re.DOTALL))

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Globs:
        """
        :raises ValueError: as :meth:`Glob.parse`.
        """
        return cls.of(map(Glob.parse, texts))

    def match(self, path: bytes) -> bool:
        """Whether one of them matches a path, or a directory above it."""
        text = path.decode("utf-8", "surrogateescape")
        return self._pattern.match(text) is not None


def _refuse_what_never_matches(text: str, names: list[str]) -> None:
    for name in names:
        if name in (".", ".."):
            better = "/".join(each for each in names if each != ".")
            hint = f'; write "/{better}"' if better and ".." not in names else ""
            raise ValueError(
                f'"{text}": never matches: no path of SRC has a "{name}" in it{hint}'
            )


_TOKEN = re.compile(
    r"""
      (?P<any>\*+)
    | (?P<one>\?)
    | \\(?P<quoted>.)
    | \[(?P<not>[!^]?)(?P<set>\]?(?:\\.|[^\]\\])*)\]
    | (?P<bad>[\[\\])
    | (?P<plain>.)
    """,
    re.DOTALL | re.VERBOSE,
)


def _name(name: str, glob: str) -> str:
    """
    A regular expression for one component of a glob.
    """
    pieces = []
    for token in _TOKEN.finditer(name):
        match token.lastgroup:
            case "any":
                pieces.append("[^/]*")
            case "one":
                pieces.append("[^/]")
            case "set":
                pieces.append(_set(token["not"], token["set"], glob))
            case "bad":
                raise ValueError(
                    f'"{glob}": "{token[0]}" is not closed; '
                    f'for the character itself write "\\{token[0]}"'
                )
            case _:
                pieces.append(re.escape(token["quoted"] or token["plain"]))
    return "".join(pieces)


def _set(negated: str, members: str, glob: str) -> str:
    """
    A regular expression for ``[...]``; it never matches a slash.
    """
    listed = re.sub(
        r"\\(.)|([\[\]^&|~\\])|(?<=-)(-)", r"\\\1\2\3", members, flags=re.DOTALL
    )
    expression = f"(?!/)[{'^' if negated else ''}{listed}]"
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f'"{glob}": [{negated}{members}]: {error.msg}') from error
    return expression
