"""
Private keys: what is written, and what is not taken.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from realize.errors import ConfigError
from realize.net.keys import generate_key, load_private_key, public_bytes


def write_key(
    path: Path,
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> None:
    """
    Put a key where only its owner reads it.
    """
    pem = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
    )
    path.write_bytes(pem)
    path.chmod(0o600)


def complaint(path: Path, **environ: str) -> str:
    """
    What is said of the key at *path*, after its name.
    """
    with pytest.raises(ConfigError) as raised:
        load_private_key(path, environ)
    name, _colon, text = str(raised.value).partition(": ")
    assert name == str(path)
    return text


def test_made_and_read(tmp_path: Path) -> None:
    """
    A new key is for its owner alone, whatever the umask, and can be read again.
    """
    path = tmp_path / "host.key"
    before = os.umask(0o777)
    try:
        key = generate_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_bytes(load_private_key(path)) == public_bytes(key)
    assert len(public_bytes(key)) == 32


def test_never_overwritten(tmp_path: Path) -> None:
    """
    A key that exists stays, also where the name is a link to nothing.
    """
    path = tmp_path / "host.key"
    path.write_text("precious")
    with pytest.raises(
        ConfigError, match="exists already, and a key is never overwrit"
    ):
        generate_key(path)
    assert path.read_text() == "precious"

    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="exists already"):
        generate_key(link)
    assert not (tmp_path / "elsewhere").exists()


def test_nowhere_to_write(tmp_path: Path) -> None:
    """
    The operating system's reason is told.
    """
    with pytest.raises(ConfigError, match="No such file or directory"):
        generate_key(tmp_path / "none" / "host.key")


def test_key_made_by_openssl(tmp_path: Path) -> None:
    """
    openssl's keys are as good as ours.
    """
    path = tmp_path / "openssl.key"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", path],
        check=True,
        timeout=30,
    )
    path.chmod(0o600)
    public = subprocess.run(
        ["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"],
        check=True,
        timeout=30,
        stdout=subprocess.PIPE,
    ).stdout
    assert public_bytes(load_private_key(path)) == public[-32:]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o620, 0o602, 0o644])
def test_readable_by_others(tmp_path: Path, mode: int) -> None:
    """
    A key that others can get at is no secret.
    """
    path = tmp_path / "host.key"
    generate_key(path)
    path.chmod(mode)
    assert complaint(path) == (
        f"this private key has mode {mode:04o}, so others can get at it; "
        f"once you trust it again: chmod 600 {path}"
    )


def test_credentials_of_systemd(tmp_path: Path) -> None:
    """
    Below the credentials directory the group may read, because of systemd's ACL;
    nobody else may, and no other place is like it.
    """
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    path = credentials / "host.key"
    key = generate_key(path)
    path.chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert public_bytes(load_private_key(path, environ)) == public_bytes(key)
    assert "mode 0440" in complaint(path)
    assert "mode 0440" in complaint(path, CREDENTIALS_DIRECTORY="")
    assert "mode 0440" in complaint(path, CREDENTIALS_DIRECTORY=f"{credentials}2")

    path.chmod(0o444)
    assert "mode 0444" in complaint(path, **environ)

    outside = tmp_path / "host.key"
    generate_key(outside)
    outside.chmod(0o440)
    (credentials / "link").symlink_to(outside)
    assert "mode 0440" in complaint(credentials / "link", **environ)


def test_not_a_key(tmp_path: Path) -> None:
    """
    Rubbish, other algorithms and encrypted keys are told apart.
    """
    path = tmp_path / "host.key"
    other = 'not an Ed25519 private key in PEM; "realize keygen" makes one'

    write_key(path, ec.generate_private_key(ec.SECP256R1()))
    assert complaint(path) == other
    for content in (b"", b"\xff" * 100, b"-----BEGIN PRIVATE KEY-----\n" * 5000):
        path.write_bytes(content)
        assert complaint(path) == other

    write_key(path, Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret"))
    assert (
        complaint(path) == "this private key is encrypted; it must have no passphrase"
    )


def test_no_file(tmp_path: Path) -> None:
    """
    The operating system's reason is told.
    """
    assert complaint(tmp_path / "none") == "private key: No such file or directory"
    assert complaint(tmp_path) == "private key: Is a directory"
