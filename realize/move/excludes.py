"""
Which files are left out of a move: ``--exclude GLOB``.

The globs are those of ``.gitignore`` and, in all but details, of rsync:

- ``*`` is any part of one name, ``?`` one character of it, ``[a-z]`` or ``[!a-z]`` one
  of (or outside) a set, ``\\`` quotes the character that follows.
- ``**`` between slashes, at the start or at the end, is any number of directories.
- Without a slash, other than one at its end, a glob is compared with every single
  name of a path: ``*.tmp`` is left out at any depth.  With one, it is compared with
  the whole path from the root on: ``/cache``, ``a/b``.
- A glob that matches a directory leaves out everything below it; one that ends in a
  slash matches directories only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import field, frozen


@frozen
class Excludes:
    """
    Several globs, any of which leaves a file out.

    :ivar globs: as they were given.
    """

    globs: tuple[str, ...]
    _pattern: re.Pattern[str] = field(repr=False, eq=False)

    @classmethod
    def parse(cls, globs: Iterable[str]) -> Excludes:
        """
        :param globs: text in which a byte that is not UTF-8 stands as Python's
            command line gives it (``surrogateescape``).
        :raises ValueError: a glob matches nothing, or is not closed; the text says
            which and what to write.
        """
        kept = tuple(globs)
        expression = "|".join(map(_expression, kept)) if kept else "(?!)"
        return cls(kept, re.compile(expression, re.DOTALL))

    def match(self, path: bytes) -> bool:
        """
        Whether a file of this path is left out.
        """
        text = path.decode("utf-8", "surrogateescape")
        return self._pattern.match(text) is not None


def _expression(glob: str) -> str:
    """
    A regular expression, to be matched from a path's start, for one glob.
    """
    if glob.startswith("!"):
        raise ValueError(
            f'"{glob}": leaving in what another glob leaves out is not possible; '
            'for a name that begins with "!" write "\\!"'
        )
    body = glob.removesuffix("/")
    anchored = "/" in body
    names = body.removeprefix("/").split("/")
    if not all(names):
        raise ValueError(f'"{glob}": matches nothing: a name is missing')
    start = "" if anchored else "(?:.*/)?"
    end = "/" if glob.endswith("/") else r"(?:/|\Z)"
    pieces = []
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name == "**":
            pieces.append(".+" if last else "(?:.*/)?")
        else:
            pieces.append(_name(name, glob) + ("" if last else "/"))
    return start + "".join(pieces) + end


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
