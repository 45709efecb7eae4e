"""
Which files of a source are moved: ordered rules, sizes and ages.

Rules come in lists, and the first list that says something about a file decides:

- each ``--include`` and each run of ``--exclude`` is a list, in the order of the
  command line, so that what is named first wins, as it does with rsync and rclone;
- so is a file in the syntax of ``.gitignore``.  Within it the last rule that matches
  decides, ``!`` takes back what rules before it leave out, and what is below a
  directory that is left out stays out;
- the last list leaves out what systems put onto disks for themselves.

If no list says anything the file is moved, unless files were only included: then
nothing else is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from attrs import field, frozen

from realize.model import File
from realize.move.globs import Glob, Globs

#: What file systems, NAS systems and desktops keep on a disk for themselves.
SYSTEM_GLOBS: Final = (
    "/lost+found/",
    ".snapshot/",
    ".snapshots/",
    ".zfs/",
    "@eaDir/",
    "@Recycle/",
    "#recycle/",
    "#snapshot/",
    ".Trash-[0-9]*/",
    ".Trashes/",
    ".Spotlight-V100/",
    ".fseventsd/",
    "/System Volume Information/",
    "/$RECYCLE.BIN/",
)

_BYTE_ORDER_MARK: Final = "\ufeff"


class RuleList(Protocol):
    """Rules that belong together."""

    def leaves_out(self, path: bytes) -> bool | None:
        """Whether a file is left out; None if these rules say nothing about it."""


@frozen
class Included:
    """What an ``--include`` names, with all below it."""

    globs: Globs

    def leaves_out(self, path: bytes) -> bool | None:
        """See :class:`RuleList`."""
        return False if self.globs.match(path) else None


@frozen
class Excluded:
    """What an ``--exclude`` without ``!`` names, with all below it."""

    globs: Globs

    def leaves_out(self, path: bytes) -> bool | None:
        """See :class:`RuleList`."""
        return True if self.globs.match(path) else None


@frozen
class Ignored:
    """
    Rules as of a ``.gitignore`` in the root of the source: the last match decides.

    :ivar rules: whether a match takes a path back, and what matches, in order.
    """

    rules: tuple[tuple[bool, re.Pattern[str]], ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Ignored:
        """
        :param texts: rules; those that begin with ``!`` take back.
        :raises ValueError: as :meth:`~realize.move.globs.Glob.parse`.
        """
        rules = []
        for text in texts:
            glob = Glob.parse(text.removeprefix("!"))
            exact = re.compile(rf"(?:{glob.expression})\Z", re.DOTALL)
            rules.append((text.startswith("!"), exact))
        return cls(tuple(rules))

    @classmethod
    def read(cls, text: str) -> Ignored:
        """
        :param text: of a file: empty lines and those that begin with ``#`` say
            nothing, and spaces at the end of a line do not count unless quoted.
        :raises ValueError: a line is no rule; says which.
        """
        rules = []
        for number, line in enumerate(
            text.removeprefix(_BYTE_ORDER_MARK).splitlines(), 1
        ):
            rule = re.sub(r"(?<!\\) +\Z", "", line)
            if not rule or rule.startswith("#"):
                continue
            try:
                cls.parse([rule])
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            rules.append(rule)
        return cls.parse(rules)

    def leaves_out(self, path: bytes) -> bool | None:
        """See :class:`RuleList`."""
        text = path.decode("utf-8", "surrogateescape")
        end = text.find("/")
        while end >= 0:
            if self._last_match(text[: end + 1]):
                return True
            end = text.find("/", end + 1)
        return self._last_match(text)

    def _last_match(self, text: str) -> bool | None:
        for takes_back, pattern in reversed(self.rules):
            if pattern.match(text):
                return not takes_back
        return None


@frozen(kw_only=True)
class Selection:
    """
    What is chosen of a source.

    :ivar lists: of rules, in the order in which they are asked.
    :ivar rest: whether files are moved that no list says anything about.
    :ivar system: what systems keep for themselves and is left out without being
        named; None if it is moved too.
    :ivar min_size: bytes that a file has at least.
    :ivar max_size: bytes that it has at most; None for any number.
    :ivar min_age: seconds since it was modified, at least.
    :ivar max_age: the same, at most; None for any number.
    """

    lists: tuple[RuleList, ...] = ()
    rest: bool = True
    system: Globs | None = field(factory=lambda: Globs.parse(SYSTEM_GLOBS))
    min_size: int = 0
    max_size: int | None = None
    min_age: float = 0.0
    max_age: float | None = None

    def takes(self, file: File, now_ns: int) -> bool:
        """
        Whether a file is moved.

        :param now_ns: the source's time, in nanoseconds since 1970.
        """
        if file.size < self.min_size:
            return False
        if self.max_size is not None and file.size > self.max_size:
            return False
        age = (now_ns - file.mtime_ns) / 1e9
        if self.min_age and age < self.min_age:
            return False
        if self.max_age is not None and age > self.max_age:
            return False
        return not self.leaves_out(file.path)

    def leaves_out(self, path: bytes) -> bool:
        """Whether the rules leave a path out, and all below it."""
        for rules in self.lists:
            answer = rules.leaves_out(path)
            if answer is not None:
                return answer
        return not self.rest or self._is_system(path)

    def leaves_out_as_system(self, path: bytes) -> bool:
        """Whether a path is left out only because a system keeps it for itself."""
        return (
            self.rest
            and self._is_system(path)
            and all(rules.leaves_out(path) is None for rules in self.lists)
        )

    def _is_system(self, path: bytes) -> bool:
        return self.system is not None and self.system.match(path)


def rule_lists(given: Iterable[tuple[str, str]]) -> tuple[RuleList, ...]:
    """
    The lists that options stand for.

    :param given: ``include`` or ``exclude`` with a glob, or ``filter`` with the text
        of a file, in the order of the command line.
    :raises ValueError: as :meth:`~realize.move.globs.Glob.parse`.
    """
    lists: list[RuleList] = []
    excluded: list[str] = []

    def end_excluded() -> None:
        if any(text.startswith("!") for text in excluded):
            lists.append(Ignored.parse(excluded))
        elif excluded:
            lists.append(Excluded(Globs.parse(excluded)))
        excluded.clear()

    for kind, text in given:
        if kind == "exclude":
            excluded.append(_typed(text))
            continue
        end_excluded()
        if kind == "include":
            if text.startswith("!"):
                raise ValueError(f'"{text}": write --exclude "{text[1:]}"')
            lists.append(Included(Globs.parse([_typed(text)])))
        else:
            lists.append(Ignored.read(text))
    end_excluded()
    return tuple(lists)


def takes_rest(lists: Sequence[RuleList]) -> bool:
    """Whether files are meant that no list names: not if files were only included."""
    return not lists or any(not isinstance(each, Included) for each in lists)


def _typed(glob: str) -> str:
    """
    A glob of the command line, where nothing is stripped.

    :raises ValueError: it ends in a space, which is hardly meant.
    """
    if glob.endswith((" ", "\t")) and not glob.endswith(("\\ ", "\\\t")):
        raise ValueError(
            f'"{glob}": ends in a space; write "{glob.rstrip()}", '
            f'or quote the space if it is meant: "{glob[:-1]}\\{glob[-1]}"'
        )
    return glob
