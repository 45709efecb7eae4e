"""
Asking ahead: several requests on their way, their answers taken in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

T = TypeVar("T")


async def in_order(
    requests: Iterable[Coroutine[Deferred[Any], Any, T]], ahead: int
) -> AsyncGenerator[T, None]:
    """
    The answers to requests, in the order of these.

    To be closed (``contextlib.aclosing``): answers that are not wanted any more are
    given up then.

    :param requests: are begun in order, as far as there is room for them.
    :param ahead: most requests on their way while an answer is being waited for.
    """
    begun: deque[Deferred[T]] = deque()
    try:
        for request in requests:
            begun.append(Deferred.fromCoroutine(request))
            if len(begun) >= ahead:
                yield await begun.popleft()
        while begun:
            yield await begun.popleft()
    finally:
        for each in begun:
            each.addErrback(lambda _: None)
            each.cancel()


async def together(*coroutines: Coroutine[Deferred[Any], Any, None]) -> None:
    """
    Let coroutines run at the same time, and wait for all.

    :raises Exception: what the first of them raises that fails; the others are given
        up.
    """
    begun = [Deferred.fromCoroutine(each) for each in coroutines]
    try:
        await gatherResults(begun, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    finally:
        for each in begun:
            each.cancel()
