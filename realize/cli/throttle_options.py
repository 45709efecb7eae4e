"""
The options that limit a move, and how a rate is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from attrs import frozen

from realize.units import check_rate, parse_rate

R = TypeVar("R")


@frozen
class Rate:
    """
    A limit that was given.

    :ivar value: bytes per second; None for ``off``.
    """

    value: int | None


def rate(ctx: click.Context, param: click.Parameter, value: str | None) -> Rate | None:
    """
    A limit, from an option's text such as ``1M`` or ``off``; for ``callback=``.
    """
    if value is None:
        return None
    try:
        limit = parse_rate(value)
        check_rate(limit)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return Rate(limit)


@frozen
class ThrottleChoice:
    """
    What a move may take of the line, as the user asked.

    :ivar both: ``--throttle``; excludes the others.
    :ivar up: ``--throttle-up``.
    :ivar down: ``--throttle-down``.
    """

    both: Rate | None = None
    up: Rate | None = None
    down: Rate | None = None

    @property
    def up_rate(self) -> int | None:
        """
        Bytes per second towards the destination; None for no limit.
        """
        given = self.both or self.up
        return given.value if given else None

    @property
    def down_rate(self) -> int | None:
        """
        Bytes per second from the source; None for no limit.
        """
        given = self.both or self.down
        return given.value if given else None


def throttled(function: Callable[..., R]) -> Callable[..., R]:
    """
    Give a sub-command the ``--throttle*`` options, as an argument ``throttle``.
    """

    @functools.wraps(function)
    def choose(
        *args: Any,
        throttle: Rate | None,
        throttle_up: Rate | None,
        throttle_down: Rate | None,
        **kwargs: Any,
    ) -> R:
        if throttle and (throttle_up or throttle_down):
            raise click.UsageError(
                "--throttle is for both directions: give it alone, or give "
                "--throttle-up and --throttle-down"
            )
        choice = ThrottleChoice(throttle, throttle_up, throttle_down)
        return function(*args, throttle=choice, **kwargs)

    for add in reversed(_OPTIONS):
        choose = add(choose)
    return choose


_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--throttle",
        metavar="RATE",
        callback=rate,
        help="Take no more of the line than this, in bytes per second and in each "
        "direction: 500K, 1M, 2.5MiB; off is no limit.",
    ),
    click.option(
        "--throttle-up",
        metavar="RATE",
        callback=rate,
        help="The same, only for what goes towards the destination.",
    ),
    click.option(
        "--throttle-down",
        metavar="RATE",
        callback=rate,
        help="The same, only for what comes from the source.",
    ),
]
