"""
The words SRC and DST: what the user wrote, and the stores it stands for.

- A word with a colon before its first slash is ``PEER:DIRECTORY[/SUBDIR]``; anything
  else is a path on this host, so ``./a:b`` is one too.
- A local SRC is a directory or a single file; a local DST a directory that exists: one
  that is missing may be an unmounted disk.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Collection, Mapping
from typing import Literal

from attrs import frozen

from realize.config import PeerConfig
from realize.errors import ConfigError, UnsafePath
from realize.paths import RelativePath, printable
from realize.store.hidden import find_hidden

#: Which of the two words is meant.
Role = Literal["SRC", "DST"]


@frozen
class LocalPlace:
    """
    A directory of this host, or one file in it.

    :ivar path: the directory, as it was written.
    :ivar only: the name of the single file that is meant; empty for all.
    :ivar below: canonical path of a part of a DST, which need not exist yet; empty
        for all.
    """

    path: bytes
    only: bytes = b""
    below: bytes = b""

    def __str__(self) -> str:
        part = self.only or self.below
        return printable(os.path.join(self.path, part) if part else self.path)


@frozen
class PeerPlace:
    """
    A directory that a peer offers, or part of it.

    :ivar below: canonical path of the part, which may be a single file; empty for all.
    """

    peer: PeerConfig
    directory: str
    below: bytes = b""

    def __str__(self) -> str:
        below = f"/{printable(self.below)}" if self.below else ""
        return f"{self.peer.name}:{self.directory}{below}"


Place = LocalPlace | PeerPlace


def other_party(*places: Place) -> str:
    """
    The peer that has the first of these that is a peer's, or ``local``.
    """
    return next(
        (place.peer.name for place in places if isinstance(place, PeerPlace)), "local"
    )


def place_name(place: Place) -> bytes:
    """
    How receipts name a place: an absolute path without symbolic links, or
    ``PEER:DIRECTORY``.
    """
    if isinstance(place, PeerPlace):
        return f"{place.peer.name}:{place.directory}".encode()
    return os.path.realpath(place.path)


def is_remote(word: str) -> bool:
    """
    Whether a word is to be read as ``PEER:DIRECTORY[/SUBDIR]``.
    """
    return ":" in word.partition("/")[0]


def parse_place(word: str, role: Role, peers: Mapping[str, PeerConfig]) -> Place:
    """
    :param word: as the command line gives it; bytes that are not UTF-8 as surrogates.
    :param peers: those of the configuration, by name.
    :raises ConfigError: it can't be what its role asks for; says what to write.
    """
    if not word:
        raise ConfigError(f"{role}: empty; for the current directory write '.'")
    if is_remote(word):
        return _peer_place(word, role, peers)
    path = os.fsencode(word)
    return _local_source(path) if role == "SRC" else _local_destination(path)


def _peer_place(word: str, role: Role, peers: Mapping[str, PeerConfig]) -> PeerPlace:
    name, colon, rest = word.partition(":")
    if word.startswith("["):  # somebody's IPv6 address
        address, bracket, rest = word.partition("]:")
        name, colon = address + bracket[:1], bracket[1:]
    shown = printable(word)
    peer = peers.get(name)
    if not colon or peer is None:
        raise ConfigError(
            f"{role}: {shown}: {_no_peer(name, peers)}; "
            f"for a file of that name on this host write './{shown}'"
        )
    if peer.address is None:
        raise ConfigError(
            f"{role}: {shown}: [peers.{name}] has no address in the configuration, "
            "so it can connect to this host, but not be connected to"
        )
    directory, _, below = rest.partition("/")
    if not directory:
        raise ConfigError(
            f"{role}: {shown}: which of its directories? Write {name}:DIRECTORY"
        )
    if not directory.isprintable() or not directory.isascii():
        raise ConfigError(f"{role}: {shown}: not the id of a directory")
    raw = os.fsencode(below.removesuffix("/"))
    if raw:
        try:
            RelativePath.parse(raw)
        except UnsafePath as error:
            raise ConfigError(f"{role}: {shown}: {error}") from None
    return PeerPlace(peer, directory, raw)


def _no_peer(name: str, peers: Collection[str]) -> str:
    close = difflib.get_close_matches(name, peers, n=1)
    meant = f" (did you mean '{close[0]}'?)" if close else ""
    return f"there is no peer '{printable(name)}' in the configuration{meant}"


def _local_source(path: bytes) -> LocalPlace:
    shown = printable(path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _is_hidden(path):
            return LocalPlace(*_split(path))
        raise ConfigError(f"SRC: {shown}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        return LocalPlace(path)
    if not stat.S_ISREG(mode):
        raise ConfigError(f"SRC: {shown}: neither a directory nor a regular file")
    if os.path.islink(path):
        target = printable(os.path.realpath(path))
        raise ConfigError(f"SRC: {shown}: a symbolic link; write the file: {target}")
    return LocalPlace(*_split(path))


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, name = os.path.split(path)
    return parent or b".", name


def _is_hidden(path: bytes) -> bool:
    """
    Whether a crash has left a file hidden that is to be found again.
    """
    parent, name = _split(path)
    try:
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(name) and find_hidden(fd, name)
    except OSError:
        return False
    finally:
        os.close(fd)


def _local_destination(path: bytes) -> LocalPlace:
    shown = printable(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise ConfigError(
            f"DST: {shown}: no such directory; create it first if it is missing "
            "(it might be a disk that is not mounted)"
        ) from None
    except OSError as error:
        raise ConfigError(f"DST: {shown}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"DST: {shown}: not a directory")
    return LocalPlace(path)
