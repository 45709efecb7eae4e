"""
The commands, their arguments and answers.

One is a request and an answer of AMP.  Each can be answered by any error that crosses
the wire; such an answer means that the command did nothing.  What happened to single
files is in the heads of the payloads, :class:`~realize.model.Failure` included.
"""

from __future__ import annotations

from typing import Final, Literal

from prometheus_client import CollectorRegistry

from realize.observe.metrics import CommandMetrics
from realize.wire.commands.connection import (
    FEATURES,
    MAX_FEATURES,
    SOFTWARE,
    TOKEN_SIZE,
    VERSION,
    Alive,
    Closing,
    Granted,
    Greeting,
    Welcome,
)
from realize.wire.commands.control import (
    GetStatus,
    GetThrottle,
    SetLogLevel,
    SetThrottle,
)
from realize.wire.commands.request import WIRE_ERRORS, Request
from realize.wire.commands.stores import (
    MAX_DIRECTORIES,
    CloseStore,
    Compare,
    Confirm,
    Digest,
    Finishing,
    List,
    Mark,
    Offering,
    Offers,
    OpenDestination,
    OpenSource,
    Prune,
    Read,
    Remove,
    Reusing,
    See,
    Signing,
    Unmark,
    Write,
)

__all__ = [
    "COMMANDS",
    "FEATURES",
    "LOST",
    "MAX_DIRECTORIES",
    "MAX_FEATURES",
    "SOFTWARE",
    "TOKEN_SIZE",
    "UNKNOWN",
    "VERSION",
    "WIRE_ERRORS",
    "Alive",
    "CloseStore",
    "Closing",
    "Compare",
    "Confirm",
    "Digest",
    "Finishing",
    "GetStatus",
    "GetThrottle",
    "Granted",
    "Greeting",
    "List",
    "Mark",
    "Offering",
    "Offers",
    "OpenDestination",
    "OpenSource",
    "Prune",
    "Read",
    "Remove",
    "Request",
    "Reusing",
    "See",
    "SetLogLevel",
    "SetThrottle",
    "Signing",
    "Unmark",
    "Welcome",
    "Write",
    "command_metrics",
]

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
