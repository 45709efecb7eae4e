"""
Private keys on disk: Ed25519, PEM, for their owner's eyes only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from realize.errors import ConfigError
from realize.inputs import open_input

#: Bytes of a file that are read to find a key.
MAX_KEY_FILE: Final = 16 * 1024


def load_private_key(
    path: Path, environ: Mapping[str, str] = os.environ
) -> Ed25519PrivateKey:
    """
    Read a private key, as ``realize keygen`` or ``openssl genpkey`` made it.

    :param environ: where ``CREDENTIALS_DIRECTORY`` is looked up.  Keys below it may
        be readable by their group: systemd gives its service access by an ACL, which
        shows as such a mode.
    :raises ConfigError: it cannot be read, is no unencrypted Ed25519 key, or others
        may read it.
    """
    try:
        with open_input(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            pem = file.read(MAX_KEY_FILE)
    except OSError as error:
        raise ConfigError(f"{path}: private key: {error.strerror}") from None
    forbidden = 0o037 if _is_credential(path, environ) else 0o077
    if mode & forbidden:
        raise ConfigError(
            f"{path}: this private key has mode {mode:04o}, so others can get at it; "
            f"once you trust it again: chmod 600 {path}"
        )
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError(
            f"{path}: this private key is encrypted; it must have no passphrase"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f'{path}: not an Ed25519 private key in PEM; "realize keygen" makes one'
        )
    return key


def generate_key(path: Path) -> Ed25519PrivateKey:
    """
    Make a new private key and write it to *path*, mode 0600, durably.

    :raises ConfigError: the file exists, which is never overwritten, or cannot be
        written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
    except FileExistsError:
        raise ConfigError(
            f"{path}: exists already, and a key is never overwritten"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask left
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"{path}: {error.strerror}") from None
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """
    The 32 bytes of the public key that belongs to *key*.
    """
    return key.public_key().public_bytes_raw()


def _is_credential(path: Path, environ: Mapping[str, str]) -> bool:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and path.resolve().is_relative_to(
        Path(directory or "/").resolve()
    )
