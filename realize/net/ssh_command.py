"""
The words by which the system's ``ssh`` is started, and what it is to run.

No shell of this host sees them, and that of the other host sees nothing that a place
was named by: paths go over the protocol.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Final

from attrs import frozen

from realize.errors import ConfigError
from realize.paths import printable

#: Preferred where the user's configuration chooses none: the processor has
#: instructions for AES.
CIPHERS: Final = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"

#: ssh asks after this many silent seconds whether the other host is there, and gives up
#: after as many questions without an answer.
ALIVE_INTERVAL: Final = 30
ALIVE_COUNT: Final = 4

#: What the other host calls the program.
REMOTE_REALIZE: Final = "realize"

# What ssh, its configuration and the commands in that can take for nothing else.
_USER: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,127}\Z", re.A)
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z", re.A)
_SCOPE: Final = re.compile(r"[A-Za-z0-9_.-]{0,15}\Z", re.A)

#: The session carries our bytes and nothing else.
_PLAIN: Final = (
    "RequestTTY=no",
    "RemoteCommand=none",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    f"ServerAliveInterval={ALIVE_INTERVAL}",
    f"ServerAliveCountMax={ALIVE_COUNT}",
)


@frozen
class SshHost:
    """
    Whom ssh is to reach.

    :ivar name: a name, maybe of the user's ssh configuration, or an address.
    :ivar user: empty for whom ssh chooses.
    :ivar port: None for the one that ssh chooses.
    """

    name: str
    user: str = ""
    port: int | None = None

    @classmethod
    def parse(cls, text: str, with_port: bool = False) -> SshHost:
        """
        :param text: ``[USER@]HOST``, an IPv6 address in brackets.
        :param with_port: ``:PORT`` may come after it.
        :raises ConfigError: it is not that; says why.
        """
        user, at, rest = text.rpartition("@")
        if at and not _USER.match(user):
            raise ConfigError(f"'{printable(user)}' cannot be a user's name")
        port: int | None = None
        if with_port and (found := re.match(r"(.*[^:]):([0-9]{1,5})\Z", rest, re.S)):
            rest, port = found[1], int(found[2])
            if not 0 < port < 65536:
                raise ConfigError(f"{port} is not a port")
        return cls(_host(rest), user, port)

    def __str__(self) -> str:
        host = f"[{self.name}]" if ":" in self.name else self.name
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{user}{host}{port}"

    @property
    def url(self) -> str:
        """
        What tells it from a peer of the same name.
        """
        return f"ssh://{self}"

    @property
    def words(self) -> list[str]:
        """
        The last words of ssh before the command.
        """
        port = ["-p", str(self.port)] if self.port else []
        user = ["-l", self.user] if self.user else []
        return [*port, *user, "--", self.name]


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        address, _, scope = text[1:-1].partition("%")
        try:
            IPv6Address(address)
        except ValueError:
            address = ""
        if address and _SCOPE.match(scope):
            return text[1:-1]
    elif _HOST.match(text):
        return text
    raise ConfigError(f"'{printable(text)}' cannot be the name of a host")


@frozen
class SshChoice:
    """
    How other hosts are reached.

    :ivar words: of the command, with options of its own.
    :ivar remote: what the other host calls ``realize``: a name or a path.
    """

    words: Sequence[str] = ("ssh",)
    remote: str = REMOTE_REALIZE

    @classmethod
    def parse(cls, command: str, remote: str = REMOTE_REALIZE) -> SshChoice:
        """
        :param command: as a shell would split it.
        :raises ConfigError: there is nothing to run.
        """
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"--ssh: {error}") from None
        if not words:
            raise ConfigError("--ssh: empty; write --ssh ssh for the usual one")
        if not remote.isprintable() or not remote.strip() or remote.startswith("-"):
            raise ConfigError("--remote-realize: not the path of a program")
        return cls(tuple(words), remote)

    def command(self, host: SshHost, *, asks: bool, ciphers: bool = False) -> list[str]:
        """
        The words that start the other end.

        :param asks: whether a person is there whom ssh may ask for a password.
        :param ciphers: whether ours are preferred.
        """
        options = list(_PLAIN)
        if not asks:
            options.append("BatchMode=yes")
        if ciphers:
            options.append(f"Ciphers={CIPHERS}")
        flags = [word for option in options for word in ("-o", option)]
        return [*self.words, "-T", *flags, *host.words, self.remote_command]

    @property
    def remote_command(self) -> str:
        """
        The line that the other host's shell gets.
        """
        home = self.remote.startswith("~/")
        program = self.remote.removeprefix("~/") if home else self.remote
        return f"{'~/' if home else ''}{shlex.quote(program)} serve"

    def asking(self, host: SshHost) -> list[str]:
        """
        The words by which ssh says what it would use for a host.
        """
        return [*self.words, "-G", *host.words]

    @property
    def asking_defaults(self) -> list[str]:
        """
        The words by which ssh says what it would use without any configuration.
        """
        return [self.words[0], "-G", "-F", "none", "--", "localhost"]
