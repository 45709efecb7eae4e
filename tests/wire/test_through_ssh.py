"""
What is said when a session by ssh does not begin.
"""

from __future__ import annotations

import pytest

from realize.errors import PeerGone, PeerRefused
from realize.net.ssh_command import SshChoice, SshHost
from realize.wire.through_ssh import trouble

NAS = SshHost("nas", "me", 2222)


@pytest.mark.parametrize(
    ("status", "out", "err", "again", "said"),
    [
        (127, b"", b"sh: 1: realize: not found\n", False, "--remote-realize PATH"),
        (126, b"", b"sh: realize: Permission denied\n", False, "cannot be run"),
        (
            2,
            b"",
            b"realize: no command 'serve'; a move needs both SRC and DST\n",
            False,
            "update it, or mend the forced command of this key (it said: realize: no",
        ),
        (0, b"hello\x1b[2J\n\xff\n", b"", False, "hello\\x1b[2J \ufffd; what starts"),
        (255, b"y\n" * 32_768, b"", False, "this: y y y y"),
        (1, b"", b"", False, "ended with status 1 before the session began"),
        (-15, b"", b"", True, "ended by signal 15"),
        (255, b"", b"", True, "without a word"),
        (
            255,
            b"",
            b"me@nas: Permission denied (publickey).\n",
            False,
            "let it: ssh-copy-id -p 2222 me@nas",
        ),
        (255, b"", b"x\nHost key verification failed.\n", False, "ssh -p 2222 me@nas"),
        (
            255,
            b"",
            b"ssh: Could not resolve hostname nas: Name or service not known\n",
            True,
            "is the name right",
        ),
        (255, b"", b"connect to host nas port 22: Connection refused\n", True, "sshd"),
        (255, b"", b"a\x1b]0;x\x07b", True, "a\\x1b]0;x\\x07b"),
        (255, b"", b"x" * 9000, True, "xxx"),
    ],
)
def test_each_in_one_line(
    status: int, out: bytes, err: bytes, again: bool, said: str
) -> None:
    """
    What it is, what to do, whether trying again can help; nothing in it that a
    terminal would act on.
    """
    error = trouble(NAS, SshChoice(), status, out, err)
    assert type(error) is (PeerGone if again else PeerRefused)
    assert said in str(error)
    assert str(error).startswith("me@nas:2222: ")
    assert str(error).isprintable()
    assert len(str(error)) < 700
