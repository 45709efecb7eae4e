"""
The configuration file: what it means, and each complaint word for word.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from realize.config import (
    Config,
    DirectoryConfig,
    DirectorySettings,
    PeerConfig,
    ServiceConfig,
)
from realize.config_file import (
    SETTINGS,
    SYSTEM_CONFIG,
    find_config,
    load_config,
    nowhere,
    parse_config,
)
from realize.errors import ConfigError

BASE = Path("/etc/realize")

LAPTOP = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
ARCHIVE = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="
ARCHIVE_PEM = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n"
    "-----END PUBLIC KEY-----\n"
)

FULL = f"""
privkey = "host.key"

[directories.inbox]
path = "/store/inbox"
put = ["laptop", "archive"]
replace = ["laptop"]
take = ["archive"]
file_mode = "0640"
directory_mode = "2750"
min_free = "1G"
marker = ".mounted"

[peers.laptop]
pubkey = "{LAPTOP}"
control = true

[peers.archive]
address = "archive.example"
pubkey = '''{ARCHIVE_PEM}'''

[service]
address = "[::1]:0"
"""

PEERS = f"""
[peers.laptop]
pubkey = "{LAPTOP}"
[peers.archive]
pubkey = "{ARCHIVE}"
"""


def complaint(text: str) -> str:
    """
    What the operator is told about *text*.
    """
    with pytest.raises(ConfigError) as raised:
        parse_config(text, BASE)
    return str(raised.value)


def test_everything() -> None:
    """
    Every setting there is, in one file.
    """
    config = parse_config(FULL, BASE)
    assert config == Config(
        privkey=Path("/etc/realize/host.key"),
        directories={
            "inbox": DirectoryConfig(
                id="inbox",
                settings=DirectorySettings(
                    path=Path("/store/inbox"),
                    file_mode=0o640,
                    directory_mode=0o2750,
                    min_free=1024**3,
                    marker=".mounted",
                ),
                put=frozenset({"laptop", "archive"}),
                replace=frozenset({"laptop"}),
                take=frozenset({"archive"}),
            )
        },
        peers={
            "laptop": PeerConfig(
                "laptop", config.peers["laptop"].public_key, control=True
            ),
            "archive": PeerConfig(
                "archive", config.peers["archive"].public_key, "archive.example:9771"
            ),
        },
        service=ServiceConfig(address="[::1]:0"),
    )
    assert config.peers["laptop"].public_key.hex().startswith("d75a980182b10ab7")
    assert config.peers["archive"].public_key.hex().startswith("3d4017c3e843895a")


def test_nothing() -> None:
    """
    Everything is optional in an empty file, and nothing is granted.
    """
    assert parse_config("", BASE) == Config()
    directory = parse_config('[directories.a]\npath = "/a"', BASE).directories["a"]
    assert directory == DirectoryConfig("a", DirectorySettings(Path("/a")))


def test_absolute_key() -> None:
    """
    Only a relative key is relative to the file.
    """
    assert parse_config('privkey = "/k"', BASE).privkey == Path("/k")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("privkye = 'x'", 'privkye: unknown setting; did you mean "privkey"?'),
        ("[peer.a]", 'peer: unknown setting; did you mean "peers"?'),
        ("zzz = 1", "zzz: unknown setting"),
        ("privkey = 5", "privkey: expected text in quotes, got 5"),
        ("privkey = ''", "privkey: expected text in quotes, got ''"),
        ('privkey = "a\\u0000"', "privkey: expected text in quotes, got 'a\\x00'"),
        ("peers = 5", "peers: expected tables [peers.NAME], got 5"),
        ("service = 5", "service: expected a table [service], got 5"),
        ("[peers]\na = 5", "peers.a: expected a table [peers.a], got 5"),
        (
            "[service]\nadress = 'x'",
            '[service] adress: unknown setting; did you mean "address"?',
        ),
        ("[peers.a]", "[peers.a] pubkey: missing"),
        (
            "[peers.a]\npubkey = 'x'",
            "[peers.a] pubkey: expected an Ed25519 public key, in PEM or as the base64 "
            'of its 32 bytes ("realize keygen" prints it)',
        ),
        (
            "[peers.a]\npubkey = '" + "A" * 43 + "='",
            "[peers.a] pubkey: this key protects nothing; write one that keygen made",
        ),
        (
            f"[peers.a]\npubkey = '{LAPTOP}'\ncontrol = 'yes'",
            "[peers.a] control: expected true or false, got 'yes'",
        ),
        (
            f"[peers.a]\npubkey = '{LAPTOP}'\naddress = '::1'",
            '[peers.a] address: write IPv6 addresses in brackets: "[::1]"',
        ),
        (
            f"[peers.a]\npubkey = '{LAPTOP}'\naddress = 'h:0'",
            "[peers.a] address: expected a port from 1 to 65535, got '0'",
        ),
        (
            f"[peers.a]\npubkey = '{LAPTOP}'\n[peers.b]\npubkey = '{LAPTOP}'",
            '[peers.b] pubkey: "a" has the same key',
        ),
        (
            "[peers.local]",
            '[peers.local]: "local" means this host itself',
        ),
        (
            "[peers.'a:b']",
            "[peers.'a:b']: expected a name of 1 to 64 letters, digits, and . _ - "
            "after the first",
        ),
        (
            "[directories.'-x']",
            "[directories.'-x']: expected a name of 1 to 64 letters, digits, and . _ - "
            "after the first",
        ),
        ("[directories.a]", "[directories.a] path: missing"),
        (
            "[directories.a]\npath = 'store'",
            "[directories.a] path: expected an absolute path, got 'store'",
        ),
        (
            "[directories.a]\npath = '/a'\npaht = '/b'",
            '[directories.a] paht: unknown setting; did you mean "path"?',
        ),
    ],
)
def test_complaints(text: str, said: str) -> None:
    """
    Each names its setting and says what to write.
    """
    assert complaint(text) == said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "put = 'laptop'",
            "put: expected a list of peers, such as [\"laptop\"], got 'laptop'",
        ),
        ("put = [1]", 'put: expected a list of peers, such as ["laptop"], got [1]'),
        (
            "put = ['labtop']",
            'put: no [peers.labtop] in this file; did you mean "laptop"?',
        ),
        ("take = ['nobody']", "take: no [peers.nobody] in this file"),
        ("take = ['a b']", "take: 'a b' is not the name of a peer"),
        (
            "put = ['archive']\nreplace = ['laptop', 'archive']",
            'replace: "laptop" must be listed in put as well',
        ),
        (
            "file_mode = 0o640",
            'file_mode: expected permissions as text, such as "0640", got 416',
        ),
        (
            "file_mode = '648'",
            "file_mode: expected permissions as text, such as \"0640\", got '648'",
        ),
        ("file_mode = '4755'", "file_mode: must be \"0777\" at most, got '4755'"),
        (
            "directory_mode = '0o2750'",
            'directory_mode: expected permissions as text, such as "2750", '
            "got '0o2750'",
        ),
        (
            "directory_mode = '4755'",
            "directory_mode: must be \"3777\" at most, got '4755'",
        ),
        (
            "directory_mode = '0550'",
            "directory_mode: must let the owner in, such as \"0750\", got '0550'",
        ),
        (
            "min_free = '8 potatoes'",
            'min_free: expected a size such as "8M" or "8 MiB", got \'8 potatoes\'',
        ),
        ("min_free = -1", "min_free: must not be negative, got -1"),
        ("min_free = true", "min_free: expected text in quotes, got True"),
        ("marker = 'a/b'", "marker: expected the name of a file, got 'a/b'"),
        ("marker = '..'", "marker: expected the name of a file, got '..'"),
    ],
)
def test_complaints_about_directories(setting: str, said: str) -> None:
    """
    Rights name peers of the file, and permissions are text because TOML's 0640 is not
    octal.
    """
    text = f"{PEERS}[directories.inbox]\npath = '/store'\n{setting}"
    assert complaint(text) == f"[directories.inbox] {said}"


def test_a_bare_number_is_bytes() -> None:
    """
    ``min_free`` needs no quotes for plain bytes.
    """
    config = parse_config("[directories.a]\npath = '/a'\nmin_free = 5", BASE)
    assert config.directories["a"].settings.min_free == 5


def test_bad_toml() -> None:
    """
    The place of a syntax error is told.
    """
    assert re.match(r"not TOML: .*\(at line 2, column 1\)", complaint("a = 1\n&"))
    assert complaint("a = " + "9" * 5000).startswith("not TOML: ")


def test_files(tmp_path: Path) -> None:
    """
    Complaints from a file begin with its name.
    """
    path = tmp_path / "config.toml"
    path.write_text("privkey = 'k'")
    assert load_config(path).privkey == tmp_path / "k"

    path.write_text("x = 1")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: x: unknown setting")):
        load_config(path)
    path.write_bytes(b"x = '\xff'")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: not UTF-8 text")):
        load_config(path)
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="No such file or directory"):
        load_config(tmp_path / "none")


def test_where_the_file_is(tmp_path: Path) -> None:
    """
    The flag wins over the environment, which wins over the usual places.
    """
    mine = tmp_path / "realize" / "config.toml"
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "REALIZE_CONFIG": "/env.toml"}
    assert find_config("/flag.toml", environ) == Path("/flag.toml")
    assert find_config(None, environ) == Path("/env.toml")

    del environ["REALIZE_CONFIG"]
    usual = SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None
    assert find_config(None, environ) == usual
    mine.parent.mkdir()
    mine.touch()
    assert find_config(None, environ) == mine

    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    (tmp_path / "realize").rename(home / ".config" / "realize")
    assert (
        find_config(None, {"HOME": str(home)}) == home / ".config/realize/config.toml"
    )


@pytest.mark.parametrize("home", ["/dev/null", f"/{'x' * 300}", "/none"])
def test_where_nothing_can_be_looked_for(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The next place is tried; in the end both are told.
    """
    usual = tmp_path / "usual.toml"
    monkeypatch.setattr("realize.config_file.SYSTEM_CONFIG", usual)
    assert find_config(None, {"HOME": home}) is None
    assert f"{home}/.config/realize/config.toml and {usual}" in nowhere({"HOME": home})
    usual.touch()
    assert find_config(None, {"HOME": home}) == usual


def test_documentation_lists_every_setting() -> None:
    """
    The tables of ``docs/configuration.md`` have a row for each setting, and no other.
    """
    page = Path(__file__).parents[1] / "docs" / "configuration.md"
    documented: dict[str, list[str]] = {}
    section = ""
    for line in page.read_text().splitlines():
        if heading := re.match(r"#+ .*`\[([a-zA-Z.]+)\]`", line):
            section = heading[1]
        elif row := re.match(r"\| `([a-z_]+)` \|", line):
            documented.setdefault(section, []).append(row[1])
    assert {name: sorted(rows) for name, rows in documented.items()} == {
        name: sorted(set(settings) - {"directories", "peers", "service"})
        for name, settings in SETTINGS.items()
    }


def test_documented_example() -> None:
    """
    The example of ``docs/configuration.md`` is a valid file.
    """
    page = Path(__file__).parents[1] / "docs" / "configuration.md"
    example = re.search(r"```toml\n(.*?)```", page.read_text(), re.S)
    assert example
    assert parse_config(example[1], BASE).directories["inbox"].put == {"laptop"}


def test_limits(tmp_path: Path) -> None:
    """
    Plain rates and schedules, of the service and of peers; none by default.
    """
    config = parse_config(
        '[peers.laptop]\npubkey = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="\n'
        'send_limit = "1M"\nreceive_limit = "Mon-Fri 08:00-18:00 1M, else off"\n'
        "[service]\nsend_limit = 5000\n",
        tmp_path,
    )
    laptop = config.peers["laptop"]
    assert laptop.send_limit is not None
    assert laptop.send_limit.otherwise == 1 << 20
    assert laptop.receive_limit is not None
    assert laptop.receive_limit.spans[0].rate == 1 << 20
    assert config.service.send_limit is not None
    assert config.service.send_limit.otherwise == 5000
    assert config.service.receive_limit is None


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('limit = "1M"', 'which way? Write "send_limit", "receive_limit", or both'),
        ('send_limit = "0"', 'to lift the limit: "off"'),
        ("send_limit = 0", 'to lift the limit: "off"'),
        ("send_limit = 100", "128 to"),
        ("send_limit = true", "expected text"),
        ('send_limit = "8Mbit"', "bits"),
        ('send_limit = ""', "expected text"),
        ('receive_limit = "Mon-Fri 1M"', "no limit given for other times"),
        ('receive_limit = "Mon 5, else off"', "128 to"),
    ],
)
def test_limits_that_are_refused(tmp_path: Path, setting: str, says: str) -> None:
    """
    With what to write instead.
    """
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[service]\n{setting}\n", tmp_path)
    assert says in str(caught.value)
    assert "[service] " in str(caught.value)
