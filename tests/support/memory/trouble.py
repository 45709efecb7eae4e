"""
Faults: single operations fail, or something happens just before they take place.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from realize.errors import PeerError
from realize.model import Failure


@define
class Event:
    """
    What :class:`Trouble` does to one operation on one path, or to a whole call.
    """

    operation: str
    path: bytes | None
    times: int
    action: Callable[[], PeerError | None]


class Trouble:
    """
    A schedule of faults.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []

    def fail(
        self,
        operation: str,
        error: PeerError,
        path: bytes | None = None,
        times: int = 1,
    ) -> None:
        """
        Let an operation fail.

        :param path: for this file of a batch; None for the whole call.
        """
        self._events.append(Event(operation, path, times, lambda: error))

    def before(
        self, operation: str, path: bytes | None, action: Callable[[], None]
    ) -> None:
        """
        Do something just before an operation takes place, once.
        """

        def act() -> None:
            action()

        self._events.append(Event(operation, path, 1, act))

    def strike(self, operation: str, path: bytes | None) -> Failure | None:
        """
        Do what is due.

        :returns: what the operation is to answer instead.
        :raises PeerError: for a whole call.
        """
        for event in self._events:
            if event.times and (event.operation, event.path) == (operation, path):
                event.times -= 1
                error = event.action()
                if error is not None and path is None:
                    raise error
                if error is not None:
                    return Failure.of(error)
        return None
