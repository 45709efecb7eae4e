"""
What is asked about limits, the status and the log.
"""

from __future__ import annotations

from realize.wire.commands.request import Request
from realize.wire.payload import Payload, Text, Unsigned, Word
from realize.wire.status import Status, Throttle


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
        (b"scope", Word()),
        (b"name", Word(optional=True)),
        (b"connection", Unsigned(optional=True)),
        (b"send", Word(optional=True)),
        (b"receive", Word(optional=True)),
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
        (b"scope", Word()),
        (b"name", Word(optional=True)),
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

    arguments = [(b"level", Text()), (b"seconds", Unsigned(optional=True))]
    response = [(b"before", Text())]
