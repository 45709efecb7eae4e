"""
What stores are asked: the operations of :mod:`realize.store.interface`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from twisted.protocols import amp

from realize.delta.exchange import Patch, Sign, Signed
from realize.model import (
    MAX_BATCH,
    MAX_RAW_PATH,
    Claim,
    Confirmed,
    Digests,
    Directory,
    Extent,
    Failure,
    Finish,
    Finished,
    Held,
    Offer,
    Page,
    Piece,
    Place,
    Prefix,
    Range,
    Removal,
    Removed,
    Subset,
    Value,
    Written,
)
from realize.paths import MAX_NAME
from realize.wire.commands.request import Request
from realize.wire.payload import Octets, Payload, Unsigned, Word

#: Most directories that come with one batch of offers.
MAX_DIRECTORIES: Final = 8 * MAX_BATCH

_Max = msgspec.Meta(max_length=MAX_BATCH)


class Offers(Value, frozen=True):
    """
    Files that are offered, and the directories above them.
    """

    files: Annotated[list[Offer], _Max]
    directories: Annotated[list[Directory], msgspec.Meta(max_length=MAX_DIRECTORIES)]


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
        (b"directory", Word()),
        (b"below", Octets(MAX_RAW_PATH)),
        (b"settle", Unsigned(optional=True)),
    ]
    response = [(b"store", Unsigned()), (b"payload", Payload(Place))]


class OpenDestination(Request):
    """
    Open a store to put files into.  Right: put; replace is used if it is there.

    Without *on_conflict* a file replaces another one of its name where the right was
    granted, and fails elsewhere, if the directory has no choice of its own.

    :param directory: its id.
    :param below: a path below the directory that becomes the root of the store; empty
        for the directory itself.  It need not exist yet.
    :param on_conflict: one of :data:`realize.conflicts.CHOICES`.
    :param backup: a path below *below* where older files go with ``backup``; what the
        directory has as its own comes first.
    :returns: ``store``, the number of the store on this connection; ``payload``, its
        :class:`~realize.model.Place`.
    :raises NotAllowed: no such directory, or no such right; the same for both.  Or what
        is to be done about conflicts is not allowed there.
    :raises DirectoryGone: the directory does not exist.
    :raises UnsafePath: *below*, or *backup*, is not a canonical path.
    :raises BadRequest: too many stores are open on this connection, or *on_conflict* is
        not known.
    """

    arguments = [
        (b"directory", Word()),
        (b"below", Octets(MAX_RAW_PATH)),
        (b"on_conflict", Word(optional=True)),
        (b"backup", Octets(MAX_RAW_PATH, optional=True)),
    ]
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
    :param payload: what a walk that begins looks for, a
        :class:`~realize.model.Subset`.
    :returns: ``payload``, a :class:`~realize.model.Page`.
    :raises BadRequest: *cursor* is not the next of the present walk.
    :raises UnsafePath: a path is not canonical.
    :raises DirectoryGone: the root has vanished.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"cursor", Unsigned()),
        (b"restore", amp.Boolean()),
        (b"payload", Payload(Subset)),
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
    Hide files that are still the version that was moved, and then unlink them or put
    them back.  Right: take.  Safe to repeat.

    :param store: number of a source.
    :param payload: a list of :class:`~realize.model.Removal`.
    :returns: ``payload``, as many :class:`~realize.model.Removed` or failures.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[Removal], _Max])),
    ]
    response = [(b"payload", Payload(list[Removed | Failure]))]


class Mark(Request):
    """
    Make a directory in the root of a store, for a moment, with a name that was never
    there.

    :param store: its number.
    :returns: ``mark``, the name; empty if there can be none.
    """

    arguments = [(b"store", Unsigned())]
    response = [(b"mark", Octets(MAX_NAME))]


class Unmark(Request):
    """
    Remove the mark of a store.  Closing the store does that too.

    :param store: its number.
    """

    arguments = [(b"store", Unsigned())]


class See(Request):
    """
    Whether the mark of another store can be seen here.

    :param store: number of a store.
    :param mark: as ``Mark`` answers it.
    :param above: whether to look in the directories above the root too.
    :returns: ``seen``, whether it is there.
    :raises BadRequest: *mark* is none.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"mark", Octets(MAX_NAME)),
        (b"above", amp.Boolean()),
    ]
    response = [(b"seen", amp.Boolean())]


class Prune(Request):
    """
    Remove directories that are empty, and their parents if that leaves those empty,
    but never the root.  Right: take.  Safe to repeat: there is nothing else that it
    could remove.

    :param store: number of a source.
    :param payload: a list of paths of directories.
    :raises UnsafePath: one of them is not a canonical path.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[bytes], _Max])),
    ]


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


class Confirm(Request):
    """
    Whether files that were finished are still there, while the source has its own
    hidden.  Right: put.  Safe to repeat.

    :param store: number of a destination.
    :param payload: a list of :class:`~realize.model.Claim`.
    :returns: ``payload``, as many :class:`~realize.model.Confirmed` or failures.
    """

    arguments = [
        (b"store", Unsigned()),
        (b"payload", Payload(Annotated[list[Claim], _Max])),
    ]
    response = [(b"payload", Payload(list[Confirmed | Failure]))]
