"""
The commands, their arguments and answers.

One is a request and an answer of AMP.  Each can be answered by any error that crosses
the wire; such an answer means that the command did nothing.  What happened to single
files is in the heads of the payloads, :class:`~realize.model.Failure` included.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from prometheus_client import CollectorRegistry
from twisted.protocols import amp

from realize import __version__
from realize.delta.exchange import Patch, Sign, Signed
from realize.errors import peer_errors
from realize.model import (
    MAX_BATCH,
    Digests,
    Directory,
    Extent,
    Failure,
    Finish,
    Finished,
    Held,
    Natural,
    Offer,
    Page,
    Piece,
    Place,
    Prefix,
    Range,
    Removal,
    Removed,
    Value,
    Written,
)
from realize.observe.metrics import CommandMetrics
from realize.wire.payload import Malformed, Payload, Unsigned
from realize.wire.status import Status, Throttle

#: The version of the protocol.  Both ends must have the same.
VERSION: Final = 1

#: What this program calls itself to the other end.
SOFTWARE: Final = f"realize/{__version__}"

#: Bytes in the token of a session.
TOKEN_SIZE: Final = 16

#: Most directories that come with one batch of offers.
MAX_DIRECTORIES: Final = 8 * MAX_BATCH

#: All errors that can answer a command, by class and name on the wire.  Subclasses
#: come before their bases, because AMP uses the first that matches.
WIRE_ERRORS: Final[dict[type[Exception], bytes]] = {
    kind: kind.code.encode() for kind in peer_errors() if kind.code
}

_Max = msgspec.Meta(max_length=MAX_BATCH)


#: What this program can do beyond what every version can, in the order in which it
#: came to be; the other end uses only what both can.
FEATURES: Final = ("holes", "zstd")


class Granted(Value, frozen=True):
    """
    What the client may do with one directory of the server.

    :ivar directory: its id.
    :ivar take: list, read and remove files.
    :ivar put: add new files.
    :ivar replace: put files onto existing names.
    """

    directory: str
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

    software: str
    granted: list[Granted]
    max_payload: Natural
    max_requests: Natural
    features: list[str] = []


class Offers(Value, frozen=True):
    """
    Files that are offered, and the directories above them.
    """

    files: Annotated[list[Offer], _Max]
    directories: Annotated[list[Directory], msgspec.Meta(max_length=MAX_DIRECTORIES)]


class Request(amp.Command):
    """
    The common form of our commands: arguments that make no sense are malformed.
    """

    errors = WIRE_ERRORS

    @classmethod
    def parseArguments(cls, box: Any, protocol: Any) -> Any:
        return _parsed(super().parseArguments, box, protocol)

    @classmethod
    def parseResponse(cls, box: Any, protocol: Any) -> Any:
        return _parsed(super().parseResponse, box, protocol)


def _parsed(parse: Any, box: Any, protocol: Any) -> Any:
    try:
        return parse(box, protocol)
    except (KeyError, ValueError, TypeError) as error:
        text = f"an argument is missing or none: {type(error).__name__}"
        raise Malformed(text) from None


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
        (b"software", amp.Unicode()),
        (b"token", amp.String()),
        (b"compress", amp.Unicode(optional=True)),
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

    arguments = [(b"text", amp.Unicode()), (b"again", amp.Boolean())]
    requiresAnswer = False


class OpenSource(Request):
    """
    Open a store to take files from.  Right: take.

    :param directory: its id.
    :param below: a path below the directory that becomes the root of the store; empty
        for the directory itself.
    :param settle: nanoseconds for which a file must not have changed; left out, what
        the server finds right.
    :returns: ``store``, the number of the store on this connection; ``payload``, its
        :class:`~realize.model.Place`.
    :raises NotAllowed: no such directory, or no such right; the same for both.
    :raises DirectoryGone: the root does not exist.
    :raises UnsafePath: *below* is not a canonical path.
    :raises BadRequest: too many stores are open on this connection.
    """

    arguments = [
        (b"directory", amp.Unicode()),
        (b"below", amp.String()),
        (b"settle", Unsigned(optional=True)),
    ]
    response = [(b"store", Unsigned()), (b"payload", Payload(Place))]


class OpenDestination(Request):
    """
    Open a store to put files into.  Right: put; replace is used if it is there.

    :param directory: its id.
    :param below: a path below the directory that becomes the root of the store; empty
        for the directory itself.  It need not exist yet.
    :returns: ``store``, the number of the store on this connection; ``payload``, its
        :class:`~realize.model.Place`.
    :raises NotAllowed: no such directory, or no such right; the same for both.
    :raises DirectoryGone: the directory does not exist.
    :raises UnsafePath: *below* is not a canonical path.
    :raises BadRequest: too many stores are open on this connection.
    """

    arguments = [(b"directory", amp.Unicode()), (b"below", amp.String())]
    response = [(b"store", Unsigned()), (b"payload", Payload(Place))]


class CloseStore(Request):
    """
    Give up what a store holds.  Answered when that is done.

    :param store: its number.  One that is not open is closed already.
    """

    arguments = [(b"store", Unsigned())]


class List(Request):
    """
    A page of the listing.  Right: take.

    :param store: number of a source.
    :param cursor: 0 to begin, then the ``next`` of the page before.
    :param restore: False if nothing may be changed by a walk that begins: files that a
        crash left hidden are told of, and not put back.
    :returns: ``payload``, a :class:`~realize.model.Page`.
    :raises BadRequest: *cursor* is not the next of the present walk.
    :raises DirectoryGone: the root has vanished.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"cursor", Unsigned()),
        (b"restore", amp.Boolean()),
    ]
    response = [(b"payload", Payload(Page))]


class Digest(Request):
    """
    Digests of beginnings of files.  Right: take.

    :param store: number of a source.
    :param payload: a list of :class:`~realize.model.Prefix`.
    :returns: ``payload``, as many :class:`~realize.model.Digests` or failures.
    :raises BadRequest: the answer would not fit into a payload.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[Prefix], _Max])),
    ]
    response = [(b"payload", Payload(list[Digests | Failure]))]


class Signing(Request):
    """
    A part of the signature of a file.  Right: take; replace for a destination.
    Changes nothing.

    :param store: number of a source or a destination.
    :param payload: :class:`~realize.delta.exchange.Sign`.
    :returns: ``payload``, a :class:`~realize.delta.exchange.Signed`.
    :raises BadRequest: not the next page, or groups that are none.
    :raises NotAllowed: present files may not be replaced.
    :raises DigestMismatch: the present file is not this version.
    :raises SourceChanged: the source file is not this version.
    """

    commandName = b"Sign"
    arguments = [(b"store", Unsigned()), (b"payload", Payload(Sign))]
    response = [(b"payload", Payload(Signed))]


class Read(Request):
    """
    Parts of files.  Right: take.

    :param store: number of a source.
    :param payload: a list of :class:`~realize.model.Range`.
    :returns: ``payload``, as many :class:`~realize.model.Extent` or failures, and the
        bytes of the extents, joined.
    :raises BadRequest: the ranges are longer than a batch may be.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[Range], _Max])),
    ]
    response = [(b"payload", Payload(list[Extent | Failure], data=True))]


class Remove(Request):
    """
    Delete files that are still the version that was moved.  Right: take.  Safe to
    repeat.

    :param store: number of a source.
    :param prune: delete directories too that this leaves empty.
    :param payload: a list of :class:`~realize.model.Removal`.
    :returns: ``payload``, as many :class:`~realize.model.Removed` or failures.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"prune", amp.Boolean()),
        (b"payload", Payload(Annotated[list[Removal], _Max])),
    ]
    response = [(b"payload", Payload(list[Removed | Failure]))]


class Offering(Request):
    """
    Ask what is there already, and announce what will be written.  Right: put.  Safe to
    repeat.

    :param store: number of a destination.
    :param reserve: False if nothing may be changed or held by asking.
    :param payload: :class:`Offers`.
    :returns: ``payload``, as many :class:`~realize.model.Held` or failures as there
        are files.
    """

    commandName = b"Offer"
    arguments = [
        (b"store", Unsigned()),
        (b"reserve", amp.Boolean()),
        (b"payload", Payload(Offers)),
    ]
    response = [(b"payload", Payload(list[Held | Failure]))]


class Compare(Request):
    """
    Whether present files have the content described.  Right: put.  Changes
    nothing.

    :param store: number of a destination.
    :param payload: a list of :class:`~realize.model.Finish`.
    :returns: ``payload``, as many :class:`~realize.model.Held` or failures.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[Finish], _Max])),
    ]
    response = [(b"payload", Payload(list[Held | Failure]))]


class Write(Request):
    """
    Write into files under construction.  Right: put.

    :param store: number of a destination.
    :param payload: a list of :class:`~realize.model.Piece`, and their bytes, joined.
    :returns: ``payload``, as many :class:`~realize.model.Written` or failures.
    :raises BadRequest: there are not as many bytes as the pieces say.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[Piece], _Max], data=True)),
    ]
    response = [(b"payload", Payload(list[Written | Failure]))]


class Reusing(Request):
    """
    Write the next stretch of a file under construction, in part from the present
    file.  Right: replace.

    :param store: number of a destination.
    :param payload: :class:`~realize.delta.exchange.Patch`, and what it fetches, joined.
    :returns: ``payload``, a :class:`~realize.model.Written` or a failure.
    """

    commandName = b"Reuse"
    arguments = [(b"store", Unsigned()), (b"payload", Payload(Patch, data=True))]
    response = [(b"payload", Payload(Written | Failure))]


class Finishing(Request):
    """
    Verify files, make them durable and give them their names.  Right: put; replace for
    a name that exists.  Safe to repeat.

    :param store: number of a destination.
    :param payload: a list of :class:`~realize.model.Finish`.
    :returns: ``payload``, as many :class:`~realize.model.Finished` or failures.
    """

    commandName = b"Finish"
    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[Finish], _Max])),
    ]
    response = [(b"payload", Payload(list[Finished | Failure]))]


class SetThrottle(Request):
    """
    Set or lift limits on what the answering end sends and receives.

    Anybody may limit their own connection, which never raises a limit that the other
    end has set: the smallest holds.  Anything else takes the right control, and
    replaces what was set before, by the configuration too.  Either end may ask; a
    client is asked about its own connection only.

    What is queued already obeys the new limit.  Safe to repeat.

    :param scope: ``connection``, ``peer`` or ``service``.
    :param name: of the peer, for the scope ``peer``; otherwise left out.
    :param connection: number of the connection, for the scope ``connection``; left
        out for the own one.
    :param send: bytes per second, 128 to 2^50, in decimal digits, or ``off``; left
        out, this limit stays as it is.
    :param receive: the same.
    :param seconds: for which it holds, at least 1, then what held before does; left
        out for good.
    :returns: ``payload``, the :class:`~realize.wire.status.Throttle` that holds now.
    :raises BadRequest: something is not valid, the text says what is, or more than 10
        changes were asked for within a second; no limit has changed.
    :raises NoSuchScope: there is no such peer or connection; no limit has changed.
    :raises NotAllowed: that takes the right control.
    """

    arguments = [
        (b"scope", amp.Unicode()),
        (b"name", amp.Unicode(optional=True)),
        (b"connection", Unsigned(optional=True)),
        (b"send", amp.Unicode(optional=True)),
        (b"receive", amp.Unicode(optional=True)),
        (b"seconds", Unsigned(optional=True)),
    ]
    response = [(b"payload", Payload(Throttle))]


class GetThrottle(Request):
    """
    The limits of one scope.  Anybody may ask about their own connection; anything else
    takes the right control.

    :param scope: as for :class:`SetThrottle`.
    :param name: the same.
    :param connection: the same.
    :returns: ``payload``, a :class:`~realize.wire.status.Throttle`.
    :raises BadRequest: that is no scope.
    :raises NoSuchScope: there is no such peer or connection.
    :raises NotAllowed: that takes the right control.
    """

    arguments = [
        (b"scope", amp.Unicode()),
        (b"name", amp.Unicode(optional=True)),
        (b"connection", Unsigned(optional=True)),
    ]
    response = [(b"payload", Payload(Throttle))]


class GetStatus(Request):
    """
    What the server is doing: limits, connections, directories.  Right: control.

    :returns: ``payload``, a :class:`~realize.wire.status.Status`.
    :raises NotAllowed: no such right.
    """

    response = [(b"payload", Payload(Status))]


class SetLogLevel(Request):
    """
    Change what the server logs.  Right: control.

    :param level: ``error``, ``warn``, ``info`` or ``debug``; also by area, as in
        ``info,wire=debug``.
    :param seconds: for which it holds, at least 1, then what was logged before; left
        out for good.
    :returns: ``before``, what was logged until now, in the same form.
    :raises BadRequest: something is not valid, the text says what is, or there were
        too many changes within a second; nothing has changed.
    :raises NotAllowed: no such right.
    """

    arguments = [(b"level", amp.Unicode()), (b"seconds", Unsigned(optional=True))]
    response = [(b"before", amp.Unicode())]


#: Every command, by its name on the wire.
COMMANDS: Final[dict[bytes, type[Request]]] = {
    kind.commandName: kind for kind in Request.__subclasses__()
}

#: Stands for requests that are not among :data:`COMMANDS`, in metrics.
UNKNOWN: Final = "unknown"

#: The code of a request that will never be answered, in metrics.
LOST: Final = "LOST"


def command_metrics(
    registry: CollectorRegistry, side: Literal["answer", "ask"]
) -> CommandMetrics:
    """
    The instruments of all commands.
    """
    codes = [*(code.decode() for code in WIRE_ERRORS.values()), LOST]
    names = [name.decode() for name in COMMANDS]
    return CommandMetrics.create(
        registry, side, [(name, codes) for name in (*names, UNKNOWN)]
    )
