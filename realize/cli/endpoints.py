"""
The words SRC and DST: what the user wrote, and the stores it stands for.

- A word with a colon before its first slash is on another host: ``HOST:/PATH`` and
  ``HOST:~/PATH``, which ssh reaches, or ``PEER:DIRECTORY[/SUBDIR]``, where a daemon
  listens.  The id of a directory never begins with a slash or a tilde.
- Anything else is a path on this host, so ``./a:b`` is one too.
- A local SRC is a directory or a single file; a local DST a directory that exists: one
  that is missing may be an unmounted disk.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import stat
from collections.abc import Collection, Mapping
from typing import ClassVar, Final, Literal

import attrs
from attrs import frozen

from realize.config import PeerConfig
from realize.errors import ConfigError, UnsafePath
from realize.net.ssh_command import SshHost
from realize.paths import RelativePath, join, printable
from realize.store.hidden import find_hidden

#: What messages call the side that is this host.
LOCAL: Final = "local"

_URL: Final = "ssh://"

# The id of a peer's directory begins with neither.
_SSH: Final = re.compile(r"((?:[^:/\[\]]*@)?(?:\[[^\]]*\]|[^:/]*)):([/~].*)\Z", re.S)

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

    #: Who has it.
    party: ClassVar[str] = LOCAL

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

    @property
    def party(self) -> str:
        """
        Who has it.
        """
        return self.peer.name


@frozen
class SshPlace:
    """
    A directory, or a single file, of a host that ssh reaches.

    :ivar path: canonical, below the root of its file system, or the home of who logs
        in; empty for that itself.  What is a directory is there.
    :ivar at_home: whether it is the home.
    :ivar below: canonical path of a part of a DST, which need not exist yet; empty
        for all.
    """

    host: SshHost
    path: bytes
    at_home: bool = False
    below: bytes = b""

    def __str__(self) -> str:
        whole = join(self.path, self.below) if self.below else self.path
        return self.beginning + printable(whole)

    @property
    def beginning(self) -> str:
        """
        What is written before the path.
        """
        slash = "/" if self.path or self.below else ""
        if self.host.port is not None:
            return f"{self.host.url}/{f'~{slash}' if self.at_home else ''}"
        return f"{self.host}:{f'~{slash}' if self.at_home else '/'}"

    @property
    def party(self) -> str:
        """
        Who has it; never the name of a peer.
        """
        return self.host.url

    @property
    def directory(self) -> str:
        """
        The id of what *path* begins at.
        """
        return "~" if self.at_home else "/"

    @property
    def asked(self) -> bytes:
        """
        The path as the other end takes it: what need not exist is behind ``/./``.
        """
        return self.path + b"/./" + self.below if self.below else self.path


RemotePlace = PeerPlace | SshPlace
Place = LocalPlace | RemotePlace


#: How paths of Windows begin; a peer or host with one letter is written small.
_DRIVE: Final = re.compile(r"[A-Za-z]:\\|[A-Z]:/")


class UnknownPeer(ConfigError):
    """
    The configuration says nothing of a peer.
    """


def other_party(*places: Place) -> str:
    """
    Who has the first of these that is not on this host, or ``local``.
    """
    return next((each.party for each in places if each.party != LOCAL), LOCAL)


def place_name(place: Place) -> bytes:
    """
    How receipts name a place: an absolute path without symbolic links,
    ``PEER:DIRECTORY``, or ``HOST:/PATH``.
    """
    if isinstance(place, PeerPlace):
        return f"{place.peer.name}:{place.directory}".encode()
    if isinstance(place, SshPlace):
        return attrs.evolve(place, below=b"").beginning.encode() + place.path
    return os.path.realpath(place.path)


def is_remote(word: str) -> bool:
    """
    Whether a word is to be read as a place on another host.
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
    if (meant := _meant(word)) and not os.path.lexists(word):
        raise ConfigError(f"{role}: {printable(word)}: {meant}")
    if is_remote(word):
        return _ssh_place(word, role) or _peer_place(word, role, peers)
    path = os.fsencode(word)
    return _local_source(path) if role == "SRC" else _local_destination(path)


def _ssh_place(word: str, role: Role) -> SshPlace | None:
    """
    The place of a word, if it is one that ssh reaches.
    """
    shown = printable(word)
    if word.startswith(_URL):
        name, slash, path = word.removeprefix(_URL).partition("/")
        if not slash:
            raise ConfigError(f"{role}: {shown}: which directory? Write {shown}/PATH")
        path = path if path == "~" or path.startswith("~/") else f"/{path}"
    else:
        found = _SSH.match(word)
        if found is None:
            return None
        name, path = found[1], found[2]
    try:
        host = SshHost.parse(name, with_port=word.startswith(_URL))
    except ConfigError as error:
        raise ConfigError(f"{role}: {shown}: {error}") from None
    first, _, rest = path.partition("/")
    if first not in ("", "~"):
        raise ConfigError(
            f"{role}: {shown}: {printable(first)} is the home of another user; write "
            f"{host}:/PATH from the root, or {host}:~/PATH"
        )
    raw = b"/".join(
        part for part in os.fsencode(rest).split(b"/") if part not in (b"", b".")
    )
    if raw:
        try:
            RelativePath.parse(raw)
        except UnsafePath as error:
            raise ConfigError(f"{role}: {shown}: {error}") from None
    return SshPlace(host, raw, at_home=first == "~")


def _peer_place(word: str, role: Role, peers: Mapping[str, PeerConfig]) -> PeerPlace:
    name, colon, rest = word.partition(":")
    if word.startswith("["):  # somebody's IPv6 address
        address, bracket, rest = word.partition("]:")
        name, colon = address + bracket[:1], bracket[1:]
    shown = printable(word)
    peer = peers.get(name)
    if not colon or peer is None:
        raise UnknownPeer(
            f"{role}: {shown}: {_no_peer(name, peers)}; "
            f"for a directory of a host that ssh reaches write {_by_ssh(name, rest)}; "
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
            plain = posixpath.normpath(rest)
            write = "" if plain.startswith("..") else f"; write {name}:{plain}"
            raise ConfigError(f"{role}: {shown}: {error}{write}") from None
    return PeerPlace(peer, directory, raw)


def _by_ssh(name: str, path: str) -> str:
    """
    How a place would be written that ssh reaches.
    """
    try:
        host = str(SshHost.parse(name))
    except ConfigError:
        host = "HOST"
    return f"{host}:/{printable(path) or 'PATH'}"


def _meant(word: str) -> str:
    """
    What to write for a word of a kind that is not known here; empty for others.
    """
    if _DRIVE.match(word):
        return (
            "a path of Windows; write it as this host does, which may be "
            f"'/mnt/{word[0].lower()}/{printable(word[3:].replace(chr(92), '/'))}'"
        )
    if word.startswith("~"):
        home = os.path.expanduser(word)
        what = f"write it without quotes, or write '{printable(home)}'"
        if home == word:
            what = "and there is no user of that name"
        return f"~ is the shell's word for a home; {what}"
    return ""


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
