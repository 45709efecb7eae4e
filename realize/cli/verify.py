"""
``realize verify``: receipts of an audit log against the files as they are now.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from attrs import define, field

from realize.cli.endpoints import LocalPlace, PeerPlace, Place, parse_place
from realize.cli.exits import Exit
from realize.cli.options import configured, private_key_path, read_config
from realize.cli.report import count
from realize.cli.terminal import Stream
from realize.config import Config
from realize.errors import ConfigError
from realize.move.verify import Expected, Finding, Verification
from realize.observe.audit import Receipt, read_receipts
from realize.paths import printable


@click.command(short_help="Check files against the receipts of an audit log.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("place", required=False)
@click.option(
    "--directory",
    metavar="ID",
    help="Only receipts of this directory; needed if the log has several.",
)
@configured
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    place: str | None,
    directory: str | None,
    config: str | None,
    privkey: str | None,
) -> int:
    """
    Check files against the receipts of an audit log.

    FILE was written with --audit-log.  PLACE is where the files are: a local
    directory, or PEER:DIRECTORY where this host may take.  Left out, it is the
    directory of the receipts' id in the configuration, or else the one of that id at
    the peer that the receipts name.

    Prints each file that is missing, different or unreadable; exit status 1 if there
    is any.
    """
    loaded, origin = read_config(config)
    kept = _choose(_read(file), file, directory)
    where = _place(place, kept, loaded)
    key = (
        private_key_path(privkey, loaded, origin)
        if isinstance(where, PeerPlace)
        else None
    )
    out = Stream(sys.stdout)

    def report(path: bytes, finding: Finding, text: str) -> None:
        out.line(f"{finding}: {printable(path)}" + (f" ({text})" if text else ""))

    async def run(reactor: Any) -> int:
        from realize.cli.opening import Opener

        verification = Verification(kept.expected, report)
        opener = Opener(reactor, where, where, key, 0.0)
        try:
            async with opener.open_source() as source:
                await verification.run(source)
        finally:
            await opener.close()
        wrong = f", {verification.wrong:,} not" if verification.wrong else ""
        verified = count(verification.verified, "file")
        out.line(f"{verified} verified{wrong}, at {where}.")
        return Exit.FAILED if verification.wrong else Exit.MOVED

    status: int = ctx.obj.run(run)
    return status


@define
class Kept:
    """
    The receipts of one directory.

    :ivar directory: its id, or ``local``.
    :ivar peers: that they name.
    :ivar expected: what should be there, by path: what was made final and not removed.
    """

    directory: str
    peers: set[str] = field(factory=set)
    expected: dict[bytes, Expected] = field(factory=dict)

    def add(self, receipt: Receipt) -> None:
        """
        The next one in the file.
        """
        if receipt.event == "removed":
            self.expected.pop(receipt.path, None)
        elif receipt.blake3:
            self.peers.add(receipt.peer)
            self.expected[receipt.path] = Expected(receipt.size, receipt.blake3)


def _read(file: Path) -> dict[str, Kept]:
    """
    :returns: what is kept of each directory, by its id.
    """
    found: dict[str, Kept] = {}
    # A move on one host has both its ends in "local", and what it removed from the one
    # is still in the other: only another run can have taken it from there.
    final: dict[tuple[str, bytes], str] = {}
    try:
        with file.open("rb") as lines:
            for receipt in read_receipts(lines):
                kept = found.setdefault(receipt.directory, Kept(receipt.directory))
                file_there = receipt.directory, receipt.path
                if receipt.event == "final":
                    final[file_there] = receipt.session
                elif final.get(file_there) == receipt.session:
                    continue
                kept.add(receipt)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from None
    return found


def _choose(found: dict[str, Kept], file: Path, directory: str | None) -> Kept:
    if directory is None:
        full = [kept for kept in found.values() if kept.expected]
        if len(full) > 1:
            names = ", ".join(sorted(kept.directory for kept in full))
            raise ConfigError(
                f"{file} has receipts of {names}: choose with --directory"
            )
        full = full or list(found.values())
        if not full:
            raise ConfigError(f"{file} has no receipts")
        return full[0]
    if directory not in found:
        raise ConfigError(f"{file} has no receipts of {directory}")
    return found[directory]


def _place(word: str | None, kept: Kept, config: Config) -> Place:
    if word is not None:
        return parse_place(word, "SRC", config.peers)
    own = config.directories.get(kept.directory)
    if own is not None:
        return LocalPlace(bytes(own.settings.path))
    peer = config.peers.get(next(iter(kept.peers), ""))
    if len(kept.peers) == 1 and peer is not None and peer.address is not None:
        return PeerPlace(peer, kept.directory)
    raise ConfigError(
        f"the receipts are of {kept.directory!r}, which is no directory of the "
        "configuration: say where the files are"
    )
