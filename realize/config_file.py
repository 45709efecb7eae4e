"""
The configuration file: TOML in, the frozen values of :mod:`realize.config` out.

One format serves both programs.  Nothing is guessed: a setting that is unknown,
unclear or of the wrong kind ends the program before anything was started, with a
line that names the setting and says what to write.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from realize.config import (
    Config,
    DirectoryConfig,
    DirectorySettings,
    PeerConfig,
    ServiceConfig,
)
from realize.conflicts import CHOICES, OnConflict
from realize.errors import ConfigError, UnsafePath
from realize.inputs import read_input
from realize.paths import RelativePath
from realize.peers import Address, parse_public_key
from realize.schedule import Schedule
from realize.units import check_rate, parse_size

T = TypeVar("T")

#: Every setting there is, by section.  ``ID`` and ``NAME`` are the user's words.
SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("privkey", "ssh", "directories", "peers", "service"),
    "directories.ID": (
        "path",
        "put",
        "replace",
        "take",
        "file_mode",
        "directory_mode",
        "min_free",
        "marker",
        "on_conflict",
        "backup_directory",
    ),
    "peers.NAME": ("pubkey", "address", "control", "send_limit", "receive_limit"),
    "service": (
        "address",
        "metrics_addr",
        "send_limit",
        "receive_limit",
        "log_level",
        "log_format",
        "log_file",
        "audit_log",
    ),
}

#: Where the configuration is when nobody says otherwise and there is none of the
#: user's own.
SYSTEM_CONFIG: Final = Path("/etc/realize/config.toml")

#: Bytes that it may have.
MAX_CONFIG_FILE: Final = 4 * 1024 * 1024

# Ids and names stand in front of a colon in PEER:DIRECTORY and become metric labels.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.A)

# What logs and metrics call the side that has no peer and no directory id.
_RESERVED: Final = "local"

_MODE = re.compile(r"[0-7]{3,4}\Z", re.A)


def load_config(path: Path) -> Config:
    """
    Read a configuration file.

    :raises ConfigError: it cannot be read, is not TOML, or a setting is wrong.
    """
    try:
        text = read_input(path, MAX_CONFIG_FILE).decode("utf-8-sig")
        return parse_config(text, path.absolute().parent)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(text: str, base: Path) -> Config:
    """
    Read a configuration from text.

    :param base: what a relative ``privkey`` is relative to.
    :raises ConfigError: it is not TOML, or a setting is wrong.
    """
    try:
        top = _Section("", "", tomllib.loads(text))
    except ValueError as error:  # also numbers that are too long for Python
        raise ConfigError(f"not TOML: {error}") from None
    peers = {
        section.word: _peer(section) for section in top.sections("peers", "peers.NAME")
    }
    _unique_keys(peers.values())
    service = top.section("service")
    return Config(
        privkey=top.read("privkey", lambda value: base / _text(value)),
        ssh=top.read("ssh", _text),
        directories={
            section.word: _directory(section, peers)
            for section in top.sections("directories", "directories.ID")
        },
        peers=peers,
        service=ServiceConfig(
            address=service.read("address", _text),
            metrics_addr=service.read("metrics_addr", _text),
            send_limit=service.read("send_limit", _limit),
            receive_limit=service.read("receive_limit", _limit),
            log_level=service.read("log_level", _text),
            log_format=service.read("log_format", _text),
            log_file=service.read("log_file", _file),
            audit_log=service.read("audit_log", _file),
        ),
    )


def find_config(flag: str | None, environ: Mapping[str, str]) -> Path | None:
    """
    The configuration file to use, or None if there is none.

    What was asked for, by ``--config`` or else by ``REALIZE_CONFIG``, is used whether
    it exists or not; otherwise the first of :func:`usual_configs` that exists and can
    be got at.
    """
    if asked := flag or environ.get("REALIZE_CONFIG"):
        return Path(asked)
    # Not Path.exists, to which a directory that may not be entered is an error.
    return next(filter(os.path.exists, usual_configs(environ)), None)


def usual_configs(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """
    Where the configuration is looked for when nobody says: the user's own, the host's.
    """
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".config"
    )
    return Path(home, "realize", "config.toml"), SYSTEM_CONFIG


def nowhere(environ: Mapping[str, str]) -> str:
    """
    What to say when :func:`find_config` has found nothing.
    """
    looked = " and ".join(map(str, usual_configs(environ)))
    return f"no configuration file: looked for {looked}; name one with --config FILE"


def _directory(section: _Section, peers: Collection[str]) -> DirectoryConfig:
    def names(value: object) -> frozenset[str]:
        return _peer_names(value, peers)

    put = section.read("put", names) or frozenset()
    replace = section.read("replace", names) or frozenset()
    for name in sorted(replace - put):
        raise section.error("replace", f'"{name}" must be listed in put as well')
    return DirectoryConfig(
        id=section.word,
        settings=DirectorySettings(
            path=section.need("path", _absolute_path),
            file_mode=section.read("file_mode", _file_mode),
            directory_mode=section.read("directory_mode", _directory_mode),
            min_free=section.read("min_free", _size) or 0,
            marker=section.read("marker", _marker),
            on_conflict=section.read("on_conflict", _on_conflict),
            backup_directory=section.read("backup_directory", _below),
        ),
        put=put,
        replace=replace,
        take=section.read("take", names) or frozenset(),
    )


def _peer(section: _Section) -> PeerConfig:
    return PeerConfig(
        name=section.word,
        public_key=section.need("pubkey", lambda value: parse_public_key(_text(value))),
        address=section.read("address", lambda value: str(Address.parse(_text(value)))),
        control=section.read("control", _truth) or False,
        send_limit=section.read("send_limit", _limit),
        receive_limit=section.read("receive_limit", _limit),
    )


def _unique_keys(peers: Collection[PeerConfig]) -> None:
    """
    A key names a peer, so it cannot name two.
    """
    owners: dict[bytes, str] = {}
    for peer in peers:
        owner = owners.setdefault(peer.public_key, peer.name)
        if owner != peer.name:
            raise ConfigError(f'[peers.{peer.name}] pubkey: "{owner}" has the same key')


class _Section:
    """
    A table of the file that knows how to complain.

    :param title: what the table is called, e.g. ``directories.inbox``.
    :param kind: its entry in :data:`SETTINGS`.
    """

    def __init__(self, title: str, kind: str, values: object) -> None:
        self.title = title
        self._kind = kind
        if not isinstance(values, dict):
            raise ConfigError(
                f"{title}: expected a table [{title}], got {_shown(values)}"
            )
        self._values: dict[str, Any] = values
        for name in values:
            if name not in SETTINGS[kind]:
                raise self.error(name, f"unknown setting{_hint(name, SETTINGS[kind])}")

    @property
    def word(self) -> str:
        """
        The user's part of the title.
        """
        return self.title.partition(".")[2]

    def error(self, name: str, complaint: str) -> ConfigError:
        """
        What to raise when the setting *name* is wrong.
        """
        where = f"[{self.title}] " if self.title else ""
        return ConfigError(f"{where}{name}: {complaint}")

    def read(self, name: str, convert: Callable[[object], T]) -> T | None:
        """
        A setting, converted; None if it is not there.

        :param convert: raises ValueError for what it does not like.
        """
        if name not in SETTINGS[self._kind]:
            raise KeyError(name)
        if name not in self._values:
            return None
        try:
            return convert(self._values[name])
        except ValueError as error:
            raise self.error(name, str(error)) from None

    def need(self, name: str, convert: Callable[[object], T]) -> T:
        """
        A setting that has no default.
        """
        value = self.read(name, convert)
        if value is None:
            raise self.error(name, "missing")
        return value

    def section(self, name: str) -> _Section:
        """
        The table *name*; empty if it is not there.
        """
        return _Section(name, name, self._values.get(name, {}))

    def sections(self, name: str, kind: str) -> Iterator[_Section]:
        """
        The tables below *name*, each called by a word of the user's.
        """
        tables = self._values.get(name, {})
        if not isinstance(tables, dict):
            raise self.error(name, f"expected tables [{kind}], got {_shown(tables)}")
        for word, values in tables.items():
            if not _NAME.match(word):
                raise ConfigError(
                    f"[{name}.{_shown(word)}]: expected a name of 1 to 64 letters, "
                    "digits, and . _ - after the first"
                )
            if word == _RESERVED:
                raise ConfigError(f'[{name}.{word}]: "{word}" means this host itself')
            yield _Section(f"{name}.{word}", kind, values)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hint(name: str, known: Collection[str]) -> str:
    if name == "limit" and "send_limit" in known:
        return '; which way? Write "send_limit", "receive_limit", or both'
    return _did_you_mean(name, known)


def _did_you_mean(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"expected text in quotes, got {_shown(value)}")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {_shown(value)}")  # noqa: TRY004
    return value


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return parse_size(_text(value))


def _limit(value: object) -> Schedule:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    schedule = Schedule.parse(_text(value))
    for rate in (schedule.otherwise, *(span.rate for span in schedule.spans)):
        check_rate(rate)
    return schedule


def _mode(value: object, example: str, most: int) -> int:
    if not isinstance(value, str) or not _MODE.match(value):
        raise ValueError(
            f'expected permissions as text, such as "{example}", got {_shown(value)}'
        )
    mode = int(value, 8)
    if mode & ~most:
        raise ValueError(f'must be "{most:04o}" at most, got {_shown(value)}')
    return mode


def _file_mode(value: object) -> int:
    return _mode(value, "0640", 0o777)


def _directory_mode(value: object) -> int:
    mode = _mode(value, "2750", 0o3777)
    if mode & 0o700 != 0o700:
        raise ValueError(f'must let the owner in, such as "0750", got {_shown(value)}')
    return mode


def _absolute_path(value: object) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError(f"expected an absolute path, got {_shown(value)}")
    return path


def _file(value: object) -> str:
    return str(_absolute_path(value))


def _marker(value: object) -> str:
    name = _text(value)
    if (
        "/" in name
        or "\0" in name
        or name in (".", "..")
        or len(os.fsencode(name)) > 255
    ):
        raise ValueError(f"expected the name of a file, got {_shown(value)}")
    return name


def _on_conflict(value: object) -> OnConflict:
    for choice in CHOICES:
        if value == choice:
            return choice
    raise ValueError(f"expected one of {', '.join(CHOICES)}, got {_shown(value)}")


def _below(value: object) -> str:
    text = _text(value)
    try:
        RelativePath.parse(os.fsencode(text))
    except UnsafePath as error:
        raise ValueError(
            f"expected a directory below this one, such as older: {error}"
        ) from None
    return text


def _peer_names(value: object, peers: Collection[str]) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(
            f'expected a list of peers, such as ["laptop"], got {_shown(value)}'
        )
    for name in value:
        if name not in peers:
            raise ValueError(
                f"no [peers.{name}] in this file{_did_you_mean(name, peers)}"
                if _NAME.match(name)
                else f"{_shown(name)} is not the name of a peer"
            )
    return frozenset(value)
