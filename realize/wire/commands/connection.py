"""
How a connection begins, stays alive and ends.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from twisted.protocols import amp

from realize import __version__
from realize.model import Natural, Value
from realize.texts import Label
from realize.wire.commands.request import Request
from realize.wire.payload import Octets, Payload, Text, Unsigned, Word

#: The version of the protocol.  Both ends must have the same.
VERSION: Final = 2

#: What this program calls itself to the other end.
SOFTWARE: Final = Label(f"realize/{__version__}")

#: Bytes in the token of a session.
TOKEN_SIZE: Final = 16

#: What this program can do beyond what every version can, in the order in which it
#: came to be; the other end uses only what both can.
FEATURES: Final = (Label("zstd"),)

#: Most features that an end may say it has.
MAX_FEATURES: Final = 64


class Granted(Value, frozen=True):
    """
    What the client may do with one directory of the server.

    :ivar directory: its id.
    :ivar take: list, read and remove files.
    :ivar put: add new files.
    :ivar replace: put files onto existing names.
    """

    directory: Label
    take: bool = False
    put: bool = False
    replace: bool = False


class Greeting(Value, frozen=True):
    """
    What the server says of itself.

    :ivar software: name and version, for people.
    :ivar granted: the directories that the client may use, in some way.
    :ivar max_payload: the longest payload that the server accepts, in bytes.
    :ivar max_requests: how many requests it works on at once; it reads no more of them
        while it has as many.
    :ivar features: as :data:`FEATURES`; those that are not known mean nothing.
    """

    software: Label
    granted: list[Granted]
    max_payload: Natural
    max_requests: Natural
    features: Annotated[list[Label], msgspec.Meta(max_length=MAX_FEATURES)] = []


class Welcome(Request):
    """
    The first command of a connection, from the server to the client.

    TLS lets a client believe that it is connected before the server has looked at its
    key; that this command arrives means that the client was let in.  The client has
    10 seconds to answer, and nothing else is accepted before.

    :param version: :data:`VERSION` of the server.  A client of another version answers
        and then closes the connection.
    :param payload: a :class:`Greeting`; what another version has there need not be one.
    :returns: ``version`` of the client; ``software``, its name and version, for
        people; ``token``, :data:`TOKEN_SIZE` random bytes, the same for each
        connection of one session.  A connection takes the place of an older one with
        the same key and token.  ``compress``: ``auto``, ``always`` or ``never``,
        whether the server is to compress content; left out, the client cannot
        decompress it.
    """

    arguments = [(b"version", Unsigned()), (b"payload", Payload(msgspec.Raw))]
    response = [
        (b"version", Unsigned()),
        (b"software", Word()),
        (b"token", Octets(TOKEN_SIZE)),
        (b"compress", Word(optional=True)),
    ]


class Alive(Request):
    """
    Says that this side is there.  Either sends it after 30 seconds in which it has
    sent nothing.  Not answered.
    """

    requiresAnswer = False


class Closing(Request):
    """
    Says why the server is about to close the connection.  Not answered.

    :param text: the reason, for people.
    :param again: whether connecting again later can help.
    """

    arguments = [(b"text", Text()), (b"again", amp.Boolean())]
    requiresAnswer = False
