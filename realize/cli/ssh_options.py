"""
Options that say how hosts are reached by ssh.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from attrs import frozen

from realize.cli.endpoints import Place, SshPlace
from realize.config import Config
from realize.errors import PeerRefused
from realize.net.ssh_command import REMOTE_REALIZE, SshChoice, SshHost

if TYPE_CHECKING:
    from realize.net.ssh_start import StartedSsh

R = TypeVar("R")


@frozen
class SshOptions:
    """
    What the command line, or the environment, says.

    :ivar command: None for what the configuration says, or else ``ssh``.
    """

    command: str | None
    remote: str

    def choose(self, config: Config) -> SshChoice:
        """
        What holds, by the configuration too.

        :raises ConfigError: it is not to be understood.
        """
        return SshChoice.parse(self.command or config.ssh or "ssh", self.remote)


def start_early(choice: SshChoice, *places: Place) -> dict[SshHost, StartedSsh]:
    """
    Have ssh log in while this program imports what it needs.

    What cannot be started is left out: it will be said when it is needed.
    """
    started: dict[SshHost, StartedSsh] = {}
    for place in places:
        if isinstance(place, SshPlace) and place.host not in started:
            from realize.net.ssh_start import start_ssh

            with suppress(PeerRefused):
                started[place.host] = start_ssh(choice, place.host)
    return started


def by_ssh(function: Callable[..., R]) -> Callable[..., R]:
    """
    Give a sub-command the options, as one argument ``ssh``.
    """

    @functools.wraps(function)
    def choose(
        *args: Any, ssh_command: str | None, remote_realize: str, **others: Any
    ) -> R:
        return function(*args, ssh=SshOptions(ssh_command, remote_realize), **others)

    for add in reversed(_OPTIONS):
        choose = add(choose)
    return choose


_OPTIONS: Final[tuple[Callable[..., Any], ...]] = (
    click.option(
        "--ssh",
        "ssh_command",
        metavar="COMMAND",
        envvar="REALIZE_SSH",
        help="What reaches HOST:/PATH, with its options.  [default: ssh of the "
        "configuration, else ssh]",
    ),
    click.option(
        "--remote-realize",
        metavar="PATH",
        default=REMOTE_REALIZE,
        show_default=True,
        help="The program on a host that ssh reaches; ~/ is the home there.",
    ),
)
