"""
Which files should be where, by the receipts of an audit log.

A log may be shared by moves between any places of this host and of peers, so each
receipt counts for the file that it names in full: its place and its path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from attrs import define, field, frozen

from realize.cli.endpoints import LocalPlace, Place, parse_place, place_name
from realize.config import Config
from realize.errors import ConfigError
from realize.move.verify import Expected
from realize.observe.receipts import Receipt
from realize.paths import join, printable


@frozen
class Chosen:
    """
    Files that are to be checked, and where.

    :ivar files: by path below *place*.
    """

    place: Place
    files: dict[bytes, Expected]


@frozen
class _File:
    directory: str
    place: bytes
    path: bytes
    expected: Expected


@define
class ExpectedFiles:
    """
    What was made final and has not been removed since.

    :ivar log: the name of the log, for messages.
    :ivar receipts: how many there were.
    """

    log: str
    receipts: int = 0
    #: By place and path, the newest last.
    _files: dict[bytes, _File] = field(factory=dict)
    #: Places as they were written, without symbolic links.
    _real: dict[bytes, bytes] = field(factory=dict)

    def add(self, receipt: Receipt) -> None:
        """
        The next one in the log.
        """
        self.receipts += 1
        place = self._real.get(receipt.place)
        if place is None:
            place = self._real[receipt.place] = _without_links(receipt.place)
        whole = join(place, receipt.path)
        self._files.pop(whole, None)
        if receipt.event == "final":
            expected = Expected(receipt.size, receipt.blake3)
            self._files[whole] = _File(receipt.directory, place, receipt.path, expected)

    def choose(
        self, directory: str | None, word: str | None, config: Config
    ) -> Chosen | None:
        """
        What to check.

        :param directory: id or place of those that are meant; None for all.
        :param word: where to look: what a receipt names, part of that or more than
            that, or else a copy of what one place had; None for the place itself.
        :returns: None if no file is expected anywhere.
        :raises ConfigError: that leaves nothing, or more than one place.
        """
        files = self._files
        if directory is not None and files:
            named = os.fsencode(directory)
            places = {named, os.path.realpath(named)}
            files = {
                whole: file
                for whole, file in files.items()
                if file.directory == directory or file.place in places
            }
            if not files:
                raise ConfigError(
                    f"{self.log} has no receipts of files in {printable(directory)}"
                )
        if not files:
            return None
        if word is not None:
            place = parse_place(word, "SRC", config.peers)
            return Chosen(place, self._at(place, files, directory))
        self._only_one(files, directory)
        return Chosen(
            _place_of(next(reversed(files.values())), config), _relative(files)
        )

    def _at(
        self, place: Place, files: dict[bytes, _File], directory: str | None
    ) -> dict[bytes, Expected]:
        base = _whole(place)
        there = dict(_below(base, files))
        if there:
            return there
        if any(base.startswith(file.place + b"/") for file in files.values()):
            raise ConfigError(f"{self.log} has no receipts of files in {place}")
        self._only_one(files, directory)
        return _relative(files)

    def _only_one(self, files: dict[bytes, _File], directory: str | None) -> None:
        """
        :raises ConfigError: the files are of several directories.
        """
        places = {file.place for file in files.values()}
        ours = all(place.startswith(b"/") for place in places)
        # The id of a directory of this host means that one, wherever it was.
        if len(places) == 1 or (ours and directory not in (None, "local")):
            return
        names = ", ".join(sorted(map(printable, places)))
        raise ConfigError(
            f"{self.log} has receipts of {names}: choose with --directory"
        )


def _without_links(place: bytes) -> bytes:
    return os.path.realpath(place) if place.startswith(b"/") else place


def _whole(place: Place) -> bytes:
    """
    How receipts would name it.
    """
    if not isinstance(place, LocalPlace):
        return join(place_name(place), place.below)
    return os.path.realpath(os.path.join(place.path, place.only))


def _below(base: bytes, files: dict[bytes, _File]) -> Iterator[tuple[bytes, Expected]]:
    inside = base.rstrip(b"/") + b"/"
    for whole, file in files.items():
        if whole.startswith(inside):
            yield whole[len(inside) :], file.expected
        elif whole == base:  # a single file
            yield os.path.basename(base), file.expected


def _relative(files: dict[bytes, _File]) -> dict[bytes, Expected]:
    return {file.path: file.expected for file in files.values()}


def _place_of(file: _File, config: Config) -> Place:
    own = config.directories.get(file.directory)
    if own is not None and file.place.startswith(b"/"):
        return LocalPlace(bytes(own.settings.path))
    try:
        return parse_place(os.fsdecode(file.place), "SRC", config.peers)
    except ConfigError:
        raise ConfigError(
            f"the receipts are of {printable(file.place)}, which is not to be found "
            "from here: say where the files are"
        ) from None
