"""
Options that several sub-commands take, and the kinds of values they have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from realize.cli.endpoints import UnknownPeer
from realize.cli.log import log_options
from realize.config import Config
from realize.config_file import find_config, load_config, nowhere
from realize.errors import ConfigError
from realize.units import parse_duration

P = ParamSpec("P")
R = TypeVar("R")


def duration(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | None:
    """
    Seconds, from an option's text such as ``1h30m``; for ``callback=``.
    """
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def configured(function: Callable[P, R]) -> Callable[P, R]:
    """
    Give a sub-command the options ``--config`` and ``--privkey``, and those of the log.
    """
    function = log_options(function)
    function = click.option(
        "--privkey",
        metavar="FILE",
        envvar="REALIZE_PRIVKEY",
        help="This host's private key; wins over the configuration's.",
    )(function)
    return click.option(
        "--config",
        metavar="FILE",
        envvar="REALIZE_CONFIG",
        help="Configuration.  [default: $XDG_CONFIG_HOME/realize/config.toml, "
        "else /etc/realize/config.toml]",
    )(function)


def read_config(
    flag: str | None, environ: Mapping[str, str] = os.environ
) -> tuple[Config, Path | None]:
    """
    The configuration and the file it came from; an empty one if there is no file.

    :param flag: what ``--config`` says.
    :raises ConfigError: the file that was asked for can't be read, or is wrong.
    """
    path = find_config(flag, environ)
    return (load_config(path), path) if path else (Config(), None)


@contextmanager
def telling_where(
    file: Path | None, environ: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """
    Let the error about an unknown peer say where a configuration was looked for.

    :param file: the configuration; None if there was none to be found.
    """
    try:
        yield
    except UnknownPeer as error:
        if file is not None:
            raise
        raise UnknownPeer(f"{error} ({nowhere(environ)})") from None


def private_key_path(flag: str | None, config: Config, file: Path | None) -> Path:
    """
    Where the private key is.

    :param flag: what ``--privkey`` says.
    :raises ConfigError: nobody says.
    """
    if flag:
        return Path(flag)
    if config.privkey is None:
        where = f"privkey in {file}" if file else "a configuration (--config)"
        raise ConfigError(
            f"a peer asks for this host's private key: give --privkey or {where}; "
            "'realize keygen FILE' makes one"
        )
    return config.privkey
