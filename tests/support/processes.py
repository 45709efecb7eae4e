"""
Real processes, stopped or failed at a chosen system call, or run by another user.

    call = Call("renameat2", inbox)
    world.begin("move", source, inbox, wrapper=call.killing())

The program under test is the one that users run; strace stands beside it and lets
one of its system calls go wrong.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.support.requirements import find_program

#: A user who owns nothing.
NOBODY: Final = "nobody"


@frozen
class Call:
    """
    System calls of a process, in any of its threads.

    :ivar name: of the system call.
    :ivar path: only calls for this path, for something open that has it, or for names
        in this open directory; None for all.  Need not exist yet.
    :ivar when: which of them: ``1+`` all, ``2`` the second, ``2+`` all from the second
        on.  Counted for each thread on its own.
    """

    name: str
    path: Path | None = None
    when: str = "1+"

    def killing(self) -> list[str | Path]:
        """
        Kill the process instead of doing the call.
        """
        return self._wrapper("signal=KILL")

    def failing(self, error: str) -> list[str | Path]:
        """
        Fail with this error instead of doing the call.

        :param error: such as ``EIO``.
        """
        return self._wrapper(f"error={error}")

    def delaying(self, seconds: float) -> list[str | Path]:
        """
        Do the call later.
        """
        return self._wrapper(f"delay_enter={round(seconds * 1_000_000)}")

    def _wrapper(self, effect: str) -> list[str | Path]:
        strace = find_program("strace")
        assert strace, "strace is not installed"
        # -D: strace stands aside, and what is started is the program itself.
        words = [strace, "-D", "-f", "-qq", "-o", os.devnull]
        words += ["-e", f"trace={self.name}"]
        words += ["-e", f"inject={self.name}:{effect}:when={self.when}"]
        if self.path is None:
            words.append("--seccomp-bpf")  # is quicker, but loses calls with a path
        else:
            words += ["-P", str(self.path)]
        return [*words, "--"]


def as_user(name: str = NOBODY) -> list[str | Path]:
    """
    What to put in front of a command so that another user runs it, without any
    capabilities.  Needs root.
    """
    setpriv = find_program("setpriv")
    assert setpriv, "setpriv is not installed"
    user = pwd.getpwnam(name)
    return [
        setpriv,
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--",
    ]
