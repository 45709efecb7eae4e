"""
The ``realize`` command: sub-commands, complaints, exit statuses, the reactor.

A sub-command's module is imported when it is used, so that ``realize --help`` needs
little more than click.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import click
from attrs import frozen

from realize import __version__
from realize.cli.exits import Exit, exit_for
from realize.cli.log import LogChoice
from realize.cli.terminal import occupy_standard_streams
from realize.errors import RealizeError
from realize.memory import collect_no_more, collect_rarely, keep_freed_memory

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore, IReactorTime

    class Reactor(IReactorCore, IReactorTime):
        """
        As much of the reactor as sub-commands use.
        """


#: Sub-commands: where each is and what it does, in the order of ``--help``.
COMMANDS: Final = {
    "move": ("realize.cli.move", "Move files: verified, durable, resumable."),
    "throttle": (
        "realize.cli.throttle",
        "Show and change limits while files are moved.",
    ),
    "status": (
        "realize.cli.status",
        "Show what a daemon, or moves on this host, are doing.",
    ),
    "loglevel": ("realize.cli.loglevel", "Change what a daemon logs."),
    "verify": (
        "realize.cli.verify",
        "Check files against the receipts of an audit log.",
    ),
    "serve": ("realize.cli.serve", "Be the other end of a move, as ssh starts it."),
    "demo": ("realize.cli.demo", "Show a whole move on this machine."),
    "keygen": ("realize.cli.keygen", "Make a private key, and print the public key."),
    "pubkey": ("realize.cli.pubkey", "Print the public key of a private key."),
}

#: The sub-command that is meant when none is named.
DEFAULT: Final = "move"


@frozen
class Program:
    """
    What the program lends to its sub-commands, as ``click.Context.obj``.

    :ivar run: runs a coroutine function that gets the reactor, until it returns.
    """

    run: Callable[[Callable[[Any], Coroutine[Any, Any, int]]], int]


class Commands(click.Group):
    """
    The sub-commands, each imported when it is needed; two bare words are a move.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """
        All names, in the order of ``--help``.
        """
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """
        Import a sub-command; None if there is none of this name.
        """
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        return cast("click.Command", module.command)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """
        Put ``move`` in front of words that do not begin with a sub-command.
        """
        own = {"--version", *self.get_help_option_names(ctx)}
        args = self._command_first(ctx, args)
        if args and args[0] not in COMMANDS and args[0] not in own:
            _refuse_misspelt(ctx, args)
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def _command_first(self, ctx: click.Context, args: list[str]) -> list[str]:
        """
        Words that begin with options, with the sub-command that follows these in front.

        Which of them take a value is for the sub-command to say, so what looks like one
        is it only where its own options lead to it and no further.
        """
        for position, word in enumerate(args):
            if not args[0].startswith("-") or word == "--":
                break
            if word in COMMANDS and self._are_options(ctx, word, args[:position]):
                return [word, *args[:position], *args[position + 1 :]]
        return args

    def _are_options(self, ctx: click.Context, name: str, words: Sequence[str]) -> bool:
        """
        Whether *words* are options of a sub-command with their values, and no more.
        """
        command = self.get_command(ctx, name)
        if command is None:
            return False
        try:
            parser = command.make_parser(click.Context(command, parent=ctx))
            _, left, _ = parser.parse_args(list(words))
        except click.UsageError:
            return False
        return not left

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """
        The two ways to call it.
        """
        formatter.write_usage(ctx.command_path, "[move] SRC... DST [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]", prefix=" " * 7)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """
        The sub-commands, without importing them.
        """
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _refuse_misspelt(ctx: click.Context, args: Sequence[str]) -> None:
    """
    Complain about a first word that looks like a sub-command and is nothing else.
    """
    word = args[0]
    if word.startswith("-"):
        return
    close = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.7)
    if "/" in word or ":" in word or os.path.lexists(word):
        return
    if close:
        raise click.UsageError(
            f"no command {word!r}, and no such file; did you mean {close[0]!r}?", ctx
        )
    if len(args) == 1:
        raise click.UsageError(
            f"no command {word!r}; a move needs both SRC and DST", ctx
        )


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
    epilog="`realize COMMAND --help` says more; the daemon is `twistd realized`.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def command() -> None:
    """
    Move files from one host to another so that none is ever lost.

    SRC and DST are local paths, HOST:/PATH of a host that ssh reaches, or
    PEER:DIRECTORY[/SUBDIR] with PEER from the configuration file.
    """


def run_reactor(start: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """
    Run the reactor until *start*, called with it, has returned, and return the same.
    """
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    keep_freed_memory()
    collect_rarely()
    LogChoice.of(click.get_current_context()).begin()
    running = cast("Reactor", reactor)
    results: list[int | Failure] = []

    def finished(result: int | Failure) -> None:
        results.append(result)
        running.stop()

    def begin() -> None:
        Deferred.fromCoroutine(start(running)).addBoth(finished)

    running.callWhenRunning(begin)
    running.run()
    if not results:
        return Exit.INTERRUPTED
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def complain(text: str, hint: str = "") -> None:
    """
    Tell the user what is wrong, on standard error, in one line.

    :param hint: where to read more; a line of its own.
    """
    from realize.texts import printable_line

    try:
        click.echo(f"realize: {printable_line(text)}", err=True)
        if hint:
            click.echo(hint, err=True)
    except OSError:
        return


def _nameless(error: OSError) -> str:
    """
    What an error is about that says no name.
    """
    here = isinstance(error, FileNotFoundError)
    return "working directory" if here else "standard output"


def status_of(words: Sequence[str] | None = None) -> int:
    """
    Run the command and return its exit status.

    :param words: the command line without the program's name; None is the one this
        process was started with.
    """
    occupy_standard_streams()
    try:
        result = command.main(
            args=None if words is None else list(words),
            prog_name="realize",
            standalone_mode=False,
            obj=Program(run=run_reactor),
        )
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        path = where.command_path if where else "realize"
        text = error.format_message().rstrip(".").replace("\n", " ")
        complain(text, f"Try '{path} --help'.")
        return Exit.USAGE
    except RealizeError as error:
        complain(str(error))
        return exit_for(error)
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return Exit.FAILED
    except OSError as error:
        complain(f"{error.filename or _nameless(error)}: {error.strerror or error}")
        return Exit.FAILED
    except Exception as error:  # noqa: BLE001 - nothing is awaited here
        traceback.print_exc()
        complain(f"unexpected error, please report it: {error!r}")
        return Exit.FAILED
    return result if isinstance(result, int) else Exit.MOVED


def main() -> NoReturn:
    """
    The entry point.
    """
    collect_rarely()
    status = status_of()
    collect_no_more()
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            complain(f"standard output: {error.strerror}")
        status = status or Exit.FAILED
        # Python would complain about it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)
