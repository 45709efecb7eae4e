"""
Addresses and public keys as people write them.
"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from realize.peers import Address, parse_public_key, public_key_text


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("archive.example:1234", "archive.example", 1234),
        ("archive.example", "archive.example", 9771),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ("[::1]", "::1", 9771),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("my_archive:1", "my_archive", 1),
        ("-x.test:1", "-x.test", 1),
        ("b\u00fccher.test:1", "b\u00fccher.test", 1),
        (f"{'a' * 63}.test.:1", f"{'a' * 63}.test.", 1),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """
    A name, an IPv4 or a bracketed IPv6 address; the port may be left out.
    """
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":9771",
        "a:",
        "a b:1",
        "[::1",
        "[::1]9771",
        "[::1]:",
        "[a]:1",
        "u@h:1",
        "h/x:1",
    ],
)
def test_no_addresses(text: str) -> None:
    """
    What has no host, or something else in it, is refused with the form to use.
    """
    with pytest.raises(ValueError, match="expected HOST:PORT") as raised:
        Address.parse(text)
    assert str(raised.value) == (
        f'expected HOST:PORT, such as "archive.example:9771", got {text!r}'
    )


@pytest.mark.parametrize("host", ["a" * 64, "a..b", ".a", "\u00fc" * 63])
def test_no_names(host: str) -> None:
    """
    No resolver takes a word that is empty or too long.
    """
    with pytest.raises(ValueError, match="1 to 63 letters"):
        Address.parse(f"{host}:1")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "1_0", "x", "1:2", "\u0663"])
def test_no_ports(port: str) -> None:
    """
    A port is a decimal number from 1 to 65535.
    """
    with pytest.raises(ValueError, match="expected a port from 1 to 65535"):
        Address.parse(f"host:{port}")


def test_bare_ipv6() -> None:
    """
    Without brackets nobody can tell where an IPv6 address ends.
    """
    with pytest.raises(ValueError, match="brackets") as raised:
        Address.parse("2001:db8::1")
    assert str(raised.value) == 'write IPv6 addresses in brackets: "[2001:db8::1]"'


def test_listening_anywhere() -> None:
    """
    Only who listens may leave the port to the system, or take every address.
    """
    assert Address.parse("*:0", listening=True) == Address("*", 0)
    with pytest.raises(ValueError, match="one host"):
        Address.parse("*:1")


def test_public_keys() -> None:
    """
    PEM, as openssl prints it, and bare base64 are the same key.
    """
    key = Ed25519PrivateKey.generate().public_key()
    raw = key.public_bytes_raw()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert parse_public_key(pem) == raw
    assert parse_public_key(f"\n {pem}\n") == raw
    assert parse_public_key(public_key_text(raw)) == raw


@given(st.binary(max_size=64).map(lambda raw: base64.b64encode(raw).decode()))
def test_only_32_bytes_are_a_key(text: str) -> None:
    """
    Any other length is refused, and what is accepted is what was written.
    """
    try:
        key = parse_public_key(text)
    except ValueError:
        return
    assert len(key) == 32
    assert public_key_text(key) == text


def test_other_keys() -> None:
    """
    Another algorithm's key, a private key and rubbish are told from a public key.
    """
    other = X25519PrivateKey.generate().public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (pem, "", "laptop", "\u00e9" * 44, "=" * 44):
        with pytest.raises(ValueError, match="expected an Ed25519 public key"):
            parse_public_key(text)
    with pytest.raises(ValueError, match="this is a private key"):
        parse_public_key("-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----")


SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    # the same points in encodings that are not canonical
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
    "00" * 31 + "80",
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_keys_that_anybody_can_sign_for(point: str) -> None:
    """
    Zeros, as in a placeholder, and the other points of small order are refused.
    """
    with pytest.raises(ValueError, match="protects nothing"):
        parse_public_key(public_key_text(bytes.fromhex(point)))
