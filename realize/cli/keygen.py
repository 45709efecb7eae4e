"""
``realize keygen``: make a private key and print its public one.
"""

from __future__ import annotations

from pathlib import Path

import click

from realize.cli.options import configured


@click.command(name="keygen")
@click.argument("file", type=click.Path(path_type=Path))
@configured
def command(file: Path, config: str | None, privkey: str | None) -> None:
    """
    Make a private key, write it to FILE, and print the public key.

    FILE must not exist; it gets mode 0600. The other host needs the public key: what
    is printed goes below [peers.NAME] in its configuration, with NAME being what it
    calls this host. Keys made by "openssl genpkey -algorithm ed25519" are as good.
    --config and --privkey are not used.
    """
    from realize.net.keys import generate_key, public_bytes
    from realize.peers import public_key_text

    key = generate_key(file)
    click.echo(f'pubkey = "{public_key_text(public_bytes(key))}"')
