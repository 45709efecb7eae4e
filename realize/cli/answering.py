"""
A disk that does not answer before anything has begun: to go on listening to the user.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

#: Seconds without an answer after which it is said.
SAID: Final = 8


def answered(function: Callable[[], T], say: Callable[[str], object]) -> T:
    """
    Call a function that asks a disk, in a thread, so that the user can interrupt it.

    :param say: told when there is no answer yet.
    :raises Exception: what the function raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(SAID)
    if thread.is_alive():
        say(f"no answer from a disk for {SAID} s")
        thread.join()
    if errors:
        raise errors[0]
    return results[0]
