"""
``realize verify``: receipts of an audit log against the files as they are now.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from realize.cli.endpoints import PeerPlace
from realize.cli.exits import Exit
from realize.cli.expected import ExpectedFiles
from realize.cli.options import configured, private_key_path, read_config, telling_where
from realize.cli.report import count
from realize.cli.ssh_options import SshOptions, by_ssh
from realize.cli.terminal import Stream
from realize.errors import ConfigError
from realize.inputs import open_input
from realize.move.verify import Finding, Verification
from realize.observe.receipts import ReceiptReader
from realize.paths import printable


@click.command(short_help="Check files against the receipts of an audit log.")
@click.argument(
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.argument("place", required=False)
@click.option(
    "--directory",
    metavar="ID",
    help="Only receipts of this directory, by its id or its place; needed if the log "
    "has several.",
)
@by_ssh
@configured
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    place: str | None,
    directory: str | None,
    ssh: SshOptions,
    config: str | None,
    privkey: str | None,
) -> int:
    """
    Check files against the receipts of an audit log.

    FILE was written with --audit-log; "-" is standard input, for several logs from the
    oldest on.  PLACE is where the files are: a local directory, HOST:/PATH by ssh, or
    PEER:DIRECTORY where this host may take; one that the receipts name, or a copy.
    Left out, it is where the receipts say.

    Prints each file that is missing, different or unreadable; exit status 1 if there
    is any, and 14 if lines of FILE were no receipts.
    """
    loaded, origin = read_config(config)
    out = Stream(sys.stdout)
    reader, expected = _read(file)
    for line in _troubles(reader, expected.log):
        out.line(line)
    with telling_where(origin):
        chosen = expected.choose(directory, place, loaded)
    if chosen is None:
        if reader.damaged:
            return Exit.DAMAGED
        raise ConfigError(_nothing(expected))
    where = chosen.place
    key = (
        private_key_path(privkey, loaded, origin)
        if isinstance(where, PeerPlace)
        else None
    )

    choice = ssh.choose(loaded)

    def report(path: bytes, finding: Finding, text: str) -> None:
        out.line(f"{finding}: {printable(path)}" + (f" ({text})" if text else ""))

    async def run(reactor: Any) -> int:
        from realize.cli.opening import Opener

        verification = Verification(chosen.files, report)
        opener = Opener(reactor, where, where, key, 0.0, ssh=choice)
        try:
            async with opener.open_source() as source:
                await verification.run(source)
        finally:
            await opener.close()
        wrong = f", {verification.wrong:,} not" if verification.wrong else ""
        verified = count(verification.verified, "file")
        out.line(f"{verified} verified{wrong}, at {where}.")
        if verification.wrong:
            return Exit.FAILED
        return Exit.DAMAGED if reader.damaged else Exit.MOVED

    status: int = ctx.obj.run(run)
    return status


def _read(file: Path) -> tuple[ReceiptReader, ExpectedFiles]:
    """
    :raises ConfigError: the file cannot be read.
    """
    piped = str(file) == "-"
    name = "standard input" if piped else printable(str(file))
    expected = ExpectedFiles(name)
    try:
        with nullcontext(sys.stdin.buffer) if piped else open_input(file) as lines:
            reader = ReceiptReader(lines)
            for receipt in reader:
                expected.add(receipt)
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from None
    return reader, expected


def _troubles(reader: ReceiptReader, log: str) -> list[str]:
    """
    What is wrong with the log, in lines for people.
    """
    said = []
    if reader.torn:
        lines = count(reader.torn, "line")
        said.append(
            f"{log}: {lines} cut short by a crash or a full disk: what was to be told "
            "was not done, or told again"
        )
    if reader.damaged:
        lines, first = count(reader.damaged, "line"), reader.first_damaged
        said.append(
            f"{log}: {lines} could not be read as receipts, the first is line {first}: "
            "what they told of is not checked"
        )
    return said


def _nothing(expected: ExpectedFiles) -> str:
    if not expected.receipts:
        return f"{expected.log} has no receipts"
    return (
        f"{expected.log} tells of no file that should still be there; older receipts "
        "may be in the files that it was rotated to"
    )
