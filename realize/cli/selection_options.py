"""
The options that say what of a source is moved.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import click

from realize.cli.endpoints import is_remote
from realize.cli.options import duration
from realize.cli.other_programs import saying
from realize.inputs import read_input
from realize.move.globs import Globs
from realize.move.selection import (
    SYSTEM_GLOBS,
    Selection,
    rule_lists,
    takes_rest,
)
from realize.units import parse_size

R = TypeVar("R")

#: Bytes that a file of rules may have.
_MOST_RULES: Final = 16 * 1024 * 1024

#: Options that hold rules, whose order among each other counts.
_ORDERED: Final = {"include": "include", "exclude": "exclude", "filter_from": "filter"}

_ORDER: Final = "realize.selection.order"


class SelectingCommand(click.Command):
    """A command that remembers in which order the rules were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the order of the options, which click gives up."""
        try:
            _values, _rest, order = self.make_parser(ctx).parse_args(list(args))
        except click.NoSuchOption as error:
            if says := saying(error.option_name):
                raise click.UsageError(f"{error.option_name} {says}", ctx) from None
            raise
        ctx.meta[_ORDER] = [each.name for each in order if each.name in _ORDERED]
        return super().parse_args(ctx, args)


def selecting(function: Callable[..., R]) -> Callable[..., R]:
    """Give a :class:`SelectingCommand` an argument ``selection``."""

    @functools.wraps(function)
    def choose(
        *args: Any,
        system_directories: bool,
        min_size: int | None,
        max_size: int | None,
        min_age: float | None,
        max_age: float | None,
        **kwargs: Any,
    ) -> R:
        given = {name: kwargs.pop(name) for name in _ORDERED}
        order = click.get_current_context().meta[_ORDER]
        for word in kwargs["words"][:-1]:
            _refuse_absolute([*given["include"], *given["exclude"]], word)
        try:
            lists = rule_lists(_in_order(given, order))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if max_size is not None and max_size < (min_size or 0):
            raise click.UsageError("--max-size is less than --min-size: takes nothing")
        if max_age is not None and max_age < (min_age or 0):
            raise click.UsageError("--max-age is less than --min-age: takes nothing")
        selection = Selection(
            lists=lists,
            rest=takes_rest(lists),
            system=None if system_directories else Globs.parse(SYSTEM_GLOBS),
            min_size=min_size or 0,
            max_size=max_size,
            min_age=min_age or 0.0,
            max_age=max_age,
        )
        return function(*args, selection=selection, **kwargs)

    for add in reversed(_OPTIONS):
        choose = add(choose)
    return choose


def _refuse_absolute(globs: Sequence[str], src: str) -> None:
    """
    :raises click.UsageError: a glob begins with the path of SRC, as if globs began
        at the root of this host.
    """
    if is_remote(src):
        return
    above = os.path.abspath(src).rstrip("/") + "/"
    for glob in globs:
        if glob.removeprefix("!").startswith(above):
            better = "/" + glob.removeprefix("!").removeprefix(above)
            raise click.UsageError(
                f'"{glob}": globs begin at SRC, so that never matches; write "{better}"'
            )


def _in_order(
    given: dict[str, Sequence[str]], order: Sequence[str]
) -> Iterator[tuple[str, str]]:
    values = {name: iter(texts) for name, texts in given.items()}
    for name in order:
        text = next(values[name])
        yield _ORDERED[name], _read_rules(text) if name == "filter_from" else text


def _read_rules(name: str) -> str:
    """
    The text of a file of rules.

    :raises click.BadParameter: it cannot be read, or holds a null byte.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else read_input(name, _MOST_RULES)
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read"
        raise click.UsageError(f"--filter-from {name}: {reason}") from None
    if b"\0" in data:
        raise click.UsageError(
            f"--filter-from {name}: not a file of rules: it holds null bytes"
        )
    return data.decode("utf-8", "surrogateescape")


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--include",
        metavar="GLOB",
        multiple=True,
        help="Move these files, whatever rules that follow say.  With nothing but "
        "includes, only these are moved.",
    ),
    click.option(
        "--exclude",
        metavar="GLOB",
        multiple=True,
        help="Leave these files out, as in .gitignore: '*.tmp', 'cache/', '/a/**/b'; "
        "'!GLOB' takes back what the ones before it leave out.",
    ),
    click.option(
        "--filter-from",
        metavar="FILE",
        multiple=True,
        help="Leave out what a file in the syntax of .gitignore says; - is standard "
        "input.",
    ),
    click.option(
        "--min-size",
        metavar="SIZE",
        callback=_size,
        help="Leave out files smaller than this: 10k, 1.5M.",
    ),
    click.option(
        "--max-size",
        metavar="SIZE",
        callback=_size,
        help="Leave out files larger than this.",
    ),
    click.option(
        "--min-age",
        metavar="DURATION",
        callback=duration,
        help="Leave out files that were modified more recently than this ago.",
    ),
    click.option(
        "--max-age",
        metavar="DURATION",
        callback=duration,
        help="Leave out files that were modified longer ago than this.",
    ),
    click.option(
        "--system-directories",
        is_flag=True,
        help="Move what is in lost+found, in snapshots and in trash folders too.",
    ),
]
