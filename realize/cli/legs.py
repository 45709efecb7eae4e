"""
``realize SRC... DST``: the moves that several sources stand for.

Several files of one directory are one move.  So is each directory, which arrives under
its own name, as with ``mv`` and ``cp``; one alone stands for what is in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence

import attrs
from attrs import frozen

from realize.cli.endpoints import (
    LocalPlace,
    Place,
    SshPlace,
    is_remote,
    parse_place,
)
from realize.config import PeerConfig
from realize.errors import ConfigError
from realize.move.names import Names
from realize.paths import join, parent_of, printable


@frozen(kw_only=True)
class Leg:
    """
    One move of those that a command line asks for.

    :ivar names: what of the source is moved; None for everything.
    :ivar recurse: whether a name of a directory means all that is in it.
    """

    source: Place
    destination: Place
    names: Names | None = None
    recurse: bool = True


def parse_legs(
    sources: Sequence[str], destination: str, peers: Mapping[str, PeerConfig]
) -> list[Leg]:
    """
    :param sources: the words SRC, one or more.
    :param destination: the word DST.
    :raises ConfigError: one of them can't be what it is to be; says what to write.
    """
    to = parse_place(destination, "DST", peers)
    if len(sources) == 1:
        return [Leg(source=parse_place(sources[0], "SRC", peers), destination=to)]
    legs: list[Leg] = []
    groups: dict[Place, list[bytes]] = {}
    seen: dict[bytes, str] = {}
    for word in sources:
        above, name = _split(word, peers)
        if name in seen:
            raise ConfigError(
                f"SRC: {seen[name]} and {word} would both be {printable(name)} at DST; "
                "move them one after the other, to different places"
            )
        seen[name] = word
        if isinstance(above, LocalPlace) and _is_directory(above.path, name):
            path = os.path.join(above.path, name)
            legs.append(Leg(source=LocalPlace(path), destination=_below(to, name)))
        else:
            groups.setdefault(above, []).append(name)
    files = [
        Leg(
            source=above,
            destination=to,
            names=tuple(names),
            recurse=not isinstance(above, LocalPlace),
        )
        for above, names in groups.items()
    ]
    return files + legs


def _split(word: str, peers: Mapping[str, PeerConfig]) -> tuple[Place, bytes]:
    """
    The directory that a source is in, and its name there.
    """
    shown = printable(word)
    if is_remote(word):
        place = parse_place(word, "SRC", peers)
        if isinstance(place, SshPlace) and place.path:
            above = parent_of(place.path)
            return attrs.evolve(place, path=above), os.path.basename(place.path)
        if isinstance(place, LocalPlace | SshPlace) or not place.below:
            raise ConfigError(
                f"SRC: {shown}: a whole directory of another host has no name of its "
                "own; move it alone"
            )
        above = parent_of(place.below)
        return attrs.evolve(place, below=above), place.below[len(above) :].lstrip(b"/")
    place = parse_place(word, "SRC", peers)
    if isinstance(place, LocalPlace) and place.only:
        return LocalPlace(place.path), place.only
    above, name = os.path.split(os.fsencode(word).rstrip(b"/"))
    if name in (b"", b".", b".."):
        raise ConfigError(
            f"SRC: {shown}: has no name to arrive under; move it alone, or write "
            "the directory by its name"
        )
    return LocalPlace(above or (b"/" if word.startswith("/") else b".")), name


def _is_directory(above: bytes, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(os.path.join(above, name)).st_mode)


def _below(place: Place, name: bytes) -> Place:
    return attrs.evolve(place, below=join(place.below, name))
