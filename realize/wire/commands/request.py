"""
What all commands have in common.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.protocols import amp

from realize.errors import peer_errors
from realize.wire.payload import Malformed

#: All errors that can answer a command, by class and name on the wire.  Subclasses
#: come before their bases, because AMP uses the first that matches.
WIRE_ERRORS: Final[dict[type[Exception], bytes]] = {
    kind: kind.code.encode() for kind in peer_errors() if kind.code
}


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
