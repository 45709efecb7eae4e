"""
How a file system spells names: which it takes for one, and which it refuses.

Where two names can be one (:attr:`~realize.store.filesystem.FileSystem.folds`) no call
that finds a name says which: ``stat``, ``open``, ``rename`` and ``mkdir`` answer for
``readme`` when the directory has ``README``.  Only a listing of it tells.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from typing import Final

from attrs import define

from realize.errors import NameRefused, NameTaken, NameTooLong, PeerError
from realize.paths import printable

#: What a file system answers to a name that it cannot store.
_REFUSALS: Final = frozenset({errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG})

#: What Windows does not allow in names, nor file systems that are made for it.
_RESERVED: Final = frozenset('"*/:<>?\\|') | {chr(code) for code in range(32)}

_DEVICES: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL"}
    | {f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10)}
)


@define(eq=False)
class Shown:
    """
    The names that a directory shows, listed when they are first asked for.

    :ivar directory: descriptor; it is opened anew, since its place in a listing is
        shared by all who use it.
    """

    directory: int
    _names: frozenset[bytes] | None = None
    _by_fold: dict[str, bytes] | None = None

    def has(self, name: bytes) -> bool:
        """
        Whether the directory shows exactly this name.

        :raises OSError: it cannot be listed.
        """
        if self._names is None or name not in self._names:
            self._list()
        return self._names is not None and name in self._names

    def alike(self, name: bytes) -> bytes | None:
        """
        Another name that the directory shows, or has shown since :meth:`forget`, and
        that may be the same to it; None if it shows the name itself, or nothing like
        it.

        :raises OSError: it cannot be listed.
        """
        if self._names is None:
            self._list()
        names = self._names or frozenset()
        if name in names:
            return None
        if self._by_fold is None:
            self._by_fold = {folded(each): each for each in names}
        return self._by_fold.get(folded(name))

    def check(self, name: bytes, path: bytes) -> None:
        """
        Make sure of it, of a name that leads somewhere.

        :param path: of what has it, for messages.
        :raises NameTaken: it is shown in another spelling.
        :raises OSError: the directory cannot be listed.
        """
        if self.has(name):
            return
        other = self.alike(name)
        if other is not None:
            raise NameTaken(
                f"{printable(path)}: this file system takes {printable(other)} and"
                f" {printable(name)} for one name"
            )
        raise NameTaken(
            f"{printable(path)}: this file system does not show the name as it is, but"
            f" changes it{_ending(name)}"
        )

    def forget(self) -> None:
        """
        Names were changed: list it again when it is asked for one.
        """
        self._names = self._by_fold = None

    def _list(self) -> None:
        self._by_fold = None
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = os.open(b".", flags, dir_fd=self.directory)
        try:
            self._names = frozenset(map(os.fsencode, os.listdir(fd)))
        finally:
            os.close(fd)


def folded(name: bytes) -> str:
    """
    The same for all names that some file system takes for one.
    """
    text = unicodedata.normalize("NFKC", name.decode("utf-8", "surrogateescape"))
    return unicodedata.normalize("NFKC", text.casefold()).rstrip(". ")


def refused(error: OSError, path: bytes, name: bytes) -> PeerError | None:
    """
    What to say if an error means that the file system refuses a name: which character
    of it, or its length.  None if it means something else.

    :param path: of what was to get the name.
    """
    if error.errno not in _REFUSALS:
        return None
    if error.errno == errno.ENAMETOOLONG:
        text = name.decode("utf-8", "replace")
        return NameTooLong(
            f"{printable(path)}: this file system has no room for a name of"
            f" {len(name)} bytes, {len(text)} characters"
        )
    why = _why_refused(name)
    return NameRefused(f"{printable(path)}: this file system refuses the name: {why}")


def _why_refused(name: bytes) -> str:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} of it, {name[error.start]:#04x}, is not UTF-8"
    for number, character in enumerate(text, 1):
        if character in _RESERVED:
            return f'character {number}, "{printable(character)}"'
    if text[-1:] in (".", " "):
        return f'it ends with "{text[-1]}"'
    if text.partition(".")[0].upper() in _DEVICES:
        return f"{text.partition('.')[0]} is the name of a device there"
    for number, character in enumerate(text, 1):
        if not character.isascii():
            return f'character {number}, "{printable(character)}", it seems'
    return "some of its characters"


def _ending(name: bytes) -> str:
    if name.endswith((b".", b" ")):
        return f': it drops the "{name[-1:].decode()}" at the end'
    return ""
