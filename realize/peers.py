"""
How a peer is written down: the address where it listens and its public key.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Final

from attrs import frozen

#: Where ``realized`` listens unless told otherwise.
DEFAULT_PORT: Final = 9771

#: Where its metrics are unless told otherwise.
METRICS_PORT: Final = 9772

#: Bytes of an Ed25519 public key.
PUBLIC_KEY_SIZE: Final = 32

#: The host that stands for every address of this machine, for listening.
ANY_HOST: Final = "*"

_HOST = re.compile(r"[^\s\[\]:/@,\0]{1,255}\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z", re.A)

# What stands before the 32 bytes of the key in a SubjectPublicKeyInfo (RFC 8410).
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")

_PEM = re.compile(
    r"\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]*)-----END PUBLIC KEY-----\s*\Z",
    re.A,
)

# The y coordinates of the points of small order.  A signature "by" such a key can be
# made by anybody, and zeros are what a placeholder decodes to.
_PRIME: Final = 2**255 - 19
_EIGHTH: Final = int(
    "05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16
)
_WEAK: Final = frozenset({0, 1, _PRIME - 1, _EIGHTH, _PRIME - _EIGHTH})


@frozen
class Address:
    """
    A host and a TCP port.

    :ivar host: a name, an IPv4 or IPv6 address without brackets, or
        :data:`ANY_HOST`.
    :ivar port: 1 to 65535; 0, for listening only, lets the system choose.
    """

    host: str
    port: int

    @classmethod
    def parse(
        cls, text: str, *, listening: bool = False, default_port: int = DEFAULT_PORT
    ) -> Address:
        """
        :param text: ``HOST:PORT``, ``[V6]:PORT``, or either without the port, which
            is then *default_port*.
        :param listening: port 0 and host ``*`` are allowed.
        :raises ValueError: anything else; says what to write.
        """
        host, port = cls._split(text)
        if not port:
            number = default_port
        elif not _PORT.match(port) or int(port) > 65535:
            raise ValueError(f"expected a port from 1 to 65535, got {port!r}")
        else:
            number = int(port)
        if not listening and number == 0:
            raise ValueError("expected a port from 1 to 65535, got '0'")
        if not listening and host == ANY_HOST:
            raise ValueError(f"expected the name or address of one host, got {host!r}")
        return cls(host, number)

    @staticmethod
    def _split(text: str) -> tuple[str, str]:
        """
        The host and the port, which may be empty.
        """
        expected = f'expected HOST:PORT, such as "archive.example:9771", got {text!r}'
        if text.startswith("["):
            host, bracket, port = text[1:].partition("]")
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                raise ValueError(expected) from None
            if not bracket or (port and not port.startswith(":")) or port == ":":
                raise ValueError(expected)
            return host, port[1:]
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            pass
        else:
            raise ValueError(f'write IPv6 addresses in brackets: "[{text}]"')
        host, colon, port = text.partition(":")
        if not _HOST.match(host) or (colon and not port):
            raise ValueError(expected)
        try:
            host.encode("idna")
        except UnicodeError:
            raise ValueError(
                "no name of a host: the words between its dots have 1 to 63 letters "
                f"each, got {host!r}"
            ) from None
        return host, port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_public_key(text: str) -> bytes:
    """
    The 32 bytes of an Ed25519 public key.

    :param text: PEM, or the base64 of the bytes alone.
    :raises ValueError: neither, another kind of key, or a key that protects nothing;
        says what to write.
    """
    text = text.removeprefix("\ufeff")  # of a file that was copied whole
    if "PRIVATE KEY" in text:
        raise ValueError("this is a private key; write the public one")
    found = _PEM.match(text)
    try:
        raw = base64.b64decode(
            "".join((found[1] if found else text).split()), validate=True
        )
    except (binascii.Error, ValueError):
        raw = b""
    if found and raw.startswith(_SPKI_PREFIX):
        raw = raw[len(_SPKI_PREFIX) :]
    if len(raw) != PUBLIC_KEY_SIZE:
        raise ValueError(
            "expected an Ed25519 public key, in PEM or as the base64 of its 32 bytes "
            '("realize keygen" prints it)'
        )
    if (int.from_bytes(raw, "little") & (2**255 - 1)) % _PRIME in _WEAK:
        raise ValueError("this key protects nothing; write one that keygen made")
    return raw


def public_key_text(key: bytes) -> str:
    """
    A public key as configuration files take it: the base64 of its 32 bytes.
    """
    return base64.b64encode(key).decode("ascii")
