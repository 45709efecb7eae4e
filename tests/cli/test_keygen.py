"""
``realize keygen``.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from realize.cli.main import status_of
from realize.config_file import parse_config
from realize.net.keys import load_private_key, public_bytes


def test_prints_what_the_configuration_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The line can be pasted below ``[peers.NAME]``, and is the public half of the file.
    """
    path = tmp_path / "host.key"
    assert status_of(["keygen", str(path)]) == 0
    out, err = capsys.readouterr()
    config = parse_config(f"[peers.laptop]\n{out}", tmp_path)
    assert config.peers["laptop"].public_key == public_bytes(load_private_key(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert out.count("\n") == 1
    assert err == ""


def test_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A key that is there stays, and nothing is printed that could be taken for its own.
    """
    path = tmp_path / "host.key"
    assert status_of(["keygen", str(path)]) == 0
    before = path.read_bytes()
    capsys.readouterr()
    assert status_of(["keygen", str(path)]) == 2
    assert path.read_bytes() == before
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (f"realize: {path}: exists already, and a key is never overwritten\n")


def test_public_half_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    pubkey prints what keygen printed; of the configuration's key without a file.
    """
    path = tmp_path / "host.key"
    assert status_of(["keygen", str(path)]) == 0
    printed = capsys.readouterr().out
    assert status_of(["pubkey", str(path)]) == 0
    assert capsys.readouterr().out == printed
    (tmp_path / "config.toml").write_text('privkey = "host.key"\n')
    assert status_of(["pubkey", "--config", str(tmp_path / "config.toml")]) == 0
    assert capsys.readouterr().out == printed
    assert status_of(["pubkey", str(tmp_path / "none")]) == 2
