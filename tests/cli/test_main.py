"""
The command's frame: what is imported when, what is complained about, and how.
"""

from __future__ import annotations

import importlib
import re
import resource
import subprocess
import sys

import click
import pytest

from realize.cli import main
from realize.cli.exits import Exit
from realize.errors import ConfigError, NoSpace, PeerGone, PeerRefused
from tests.support.programs import PROGRAMS

REALIZE = PROGRAMS / "realize"

#: What ``realize --help`` has no use for.
HEAVY = ("twisted", "rich", "cryptography", "OpenSSL", "blake3", "msgspec", "zope")


def test_help_imports_little() -> None:
    """
    Sub-commands are imported when they are used.
    """
    script = (
        "import sys\n"
        "from realize.cli.main import status_of\n"
        "assert status_of(['--help']) == 0\n"
        "print(sorted(sys.modules), file=sys.stderr)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert "Commands:" in said.stdout
    assert not [name for name in HEAVY if f"'{name}'" in said.stderr]


def test_help_is_quick() -> None:
    """
    It takes 0.15 s of the processor at most, Python's own start included.
    """

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(7):
        before = used()
        subprocess.run([REALIZE, "--help"], check=True, capture_output=True, cwd="/")
        times.append(used() - before)
    assert min(times) < 0.15


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_sub_command_is_there(name: str) -> None:
    """
    The table of sub-commands and the modules agree, also about what they do.
    """
    module, summary = main.COMMANDS[name]
    command = importlib.import_module(module).command
    assert command.name in (name, "command", None)
    words = re.findall(r"\w+", command.get_short_help_str(200))
    assert set(re.findall(r"\w+", summary)) <= set(words)


@pytest.mark.parametrize("name", [*main.COMMANDS, ""])
def test_help_of(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    ``--help`` and ``-h`` work everywhere, on standard output.
    """
    words = [name] if name else []
    assert main.status_of([*words, "--help"]) == 0
    long = capsys.readouterr()
    assert long.err == ""
    assert main.status_of([*words, "-h"]) == 0
    assert capsys.readouterr() == long


@pytest.mark.parametrize("name", ["move", "demo"])
def test_sub_commands_that_connect_take_configuration_and_key(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    After its name.
    """
    main.status_of([name, "--help"])
    out = capsys.readouterr().out
    assert "--config FILE" in out
    assert "--privkey FILE" in out


def test_without_words_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """
    On standard error, as something is missing.
    """
    assert main.status_of([]) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "Usage: realize [move] SRC... DST" in said.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Name and number.
    """
    assert main.status_of(["--version"]) == 0
    assert capsys.readouterr().out.startswith("realize 0.")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("c"), Exit.USAGE),
        (PeerGone("g"), Exit.UNREACHABLE),
        (PeerRefused("r"), Exit.UNREACHABLE),
        (NoSpace("s"), Exit.FAILED),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException,
    status: Exit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    Whatever ends the program on purpose has no traceback.
    """

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(main.command, "main", fail)
    assert main.status_of(["x"]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"realize: {error if str(error) else 'interrupted'}\n"


def test_a_bug_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    With a traceback to report, and status 1.
    """

    def fail(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main.command, "main", fail)
    assert main.status_of(["x"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("realize: unexpected error")


def test_complaints_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    """
    No control character of a word reaches the terminal.
    """
    assert main.status_of(["\x1b[2J/nope", "b", "c\x07"]) == Exit.USAGE
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\x07" not in said


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--config F status nas", "status --config F nas"),
        ("--local status", "status --local"),
        ("--config=F -- status", "move --config=F -- status"),
        ("--config F -n move a b", "move --config F -n a b"),
        ("-n move b", "move -n b"),
        ("--config status a b", "move --config status a b"),
        ("-n status b", "move -n status b"),
        ("--output log a status", "move --output log a status"),
        ("-- status b", "move -- status b"),
        ("a status", "move a status"),
    ],
)
def test_options_before_a_sub_command(words: str, meant: str) -> None:
    """
    Are its options, if it has them; its name may be their value, or a file's.
    """
    context = click.Context(main.command, info_name="realize")
    found: list[list[str]] = []

    class Seen(main.Commands):
        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            found.append(args)
            return super().resolve_command(ctx, args)

    group = Seen(name="realize", callback=lambda: None)
    group.parse_args(context, words.split())
    args = [*context._protected_args, *context.args]
    assert " ".join(args) == meant
