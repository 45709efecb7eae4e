"""
``realize pubkey``: print the public half of a private key.
"""

from __future__ import annotations

from pathlib import Path

import click

from realize.cli.options import configured, private_key_path, read_config


@click.command(name="pubkey")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@configured
def command(file: Path | None, config: str | None, privkey: str | None) -> None:
    """
    Print the public key of a private key.

    FILE is a private key, as keygen makes it; without FILE it is the one that the
    configuration names. What is printed goes below [peers.NAME] in the configuration
    of the other host.
    """
    from realize.net.keys import load_private_key, public_bytes
    from realize.peers import public_key_text

    if file is None:
        file = private_key_path(privkey, *read_config(config))
    key = load_private_key(file)
    click.echo(f'pubkey = "{public_key_text(public_bytes(key))}"')
