"""
The words that start ssh.
"""

from __future__ import annotations

import random
import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realize.errors import ConfigError
from realize.net.ssh_command import SshChoice, SshHost
from tests.support.requirements import find_program, needs

#: What a shell or ssh would act on.
ACTIVE = "$(`'\"\\ \n;&|<>*?{}=\0~/"

HOSTILE = st.text(st.sampled_from(f"ab1-@:[]%.\udce9{ACTIVE}"), max_size=12) | st.text(
    st.sampled_from("ab1-@."), max_size=8
)


def test_the_words() -> None:
    """
    The user's own come first, and win; the host after ``--``; one word for the other
    host's shell.
    """
    choice = SshChoice.parse("ssh -F 'my config'", "/opt/my realize")
    words = choice.command(SshHost("nas", "me", 2222), asks=False, ciphers=True)
    assert words[:4] == ["ssh", "-F", "my config", "-T"]
    assert words[-7:] == [
        "-p",
        "2222",
        "-l",
        "me",
        "--",
        "nas",
        "'/opt/my realize' serve",
    ]
    assert "BatchMode=yes" in words
    assert "Ciphers=^aes256-gcm@openssh.com,aes128-gcm@openssh.com" in words
    asking = choice.command(SshHost("nas"), asks=True)
    assert "BatchMode=yes" not in asking
    assert not any(word.startswith("Ciphers") for word in asking)
    assert asking[-3:-1] == ["--", "nas"]


@settings(max_examples=1000)
@given(HOSTILE, HOSTILE, st.booleans())
def test_no_name_is_an_option_or_a_command(
    place: str, program: str, with_port: bool
) -> None:
    """
    What is taken for a host stands behind ``--`` and has nothing in it that a shell,
    or ssh's own expansions, would act on; the program is one word over there.
    """
    try:
        host = SshHost.parse(place, with_port)
        choice = SshChoice.parse("ssh", program)
    except ConfigError:
        return
    words = choice.command(host, asks=False)
    at = words.index("--")
    assert words[at + 1] == host.name
    assert len(words) == at + 3
    for name in (host.name, host.user):
        assert not name.startswith("-")
        assert not set(name) & set(ACTIVE)
    assert shlex.split(words[-1]) == [program, "serve"]


@needs("bash", "dash")
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_shell_over_there_takes_the_program_for_one_word(shell: str) -> None:
    """
    Whatever it is called: ten thousand names, and nothing that is in them is run.
    """
    chance = random.Random(0)  # noqa: S311 - the same each time
    letters = f"ab1-.é{ACTIVE}".replace("\0", "").replace("\n", "")
    names = [
        "".join(chance.choices(letters, k=chance.randint(1, 30))) for _ in range(20_000)
    ]
    lines = []
    asked = []
    for name in names:
        try:
            choice = SshChoice.parse("ssh", name)
        except ConfigError:
            continue
        if not name.startswith("~/"):
            asked.append(name)
            lines.append(f"printf '%s\\0' {choice.remote_command}")
    assert len(asked) > 10_000
    program = find_program(shell)
    assert program
    done = subprocess.run(
        [program],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=True,
        env={"PATH": "/nowhere"},
    )
    assert not done.stderr
    words = [word for name in asked for word in (name, "serve")]
    assert done.stdout.decode().split("\0")[:-1] == words


@pytest.mark.parametrize(
    ("command", "remote"),
    [
        ("", "realize"),
        ("ssh 'x", "realize"),
        ("ssh", ""),
        ("ssh", "-x"),
        ("ssh", "a\n"),
    ],
)
def test_what_is_refused(command: str, remote: str) -> None:
    """
    Before anything is started.
    """
    with pytest.raises(ConfigError):
        SshChoice.parse(command, remote)


def test_the_home_of_the_other_host() -> None:
    """
    Is for its shell to find; the rest of the path is not.
    """
    choice = SshChoice.parse("ssh", "~/my bin/$(x)")
    assert choice.remote_command == "~/'my bin/$(x)' serve"
