"""
What the tests see of the machine and of the user who runs them: what is said here, and
nothing else.

Whatever a shell, a user's configuration or a service manager has set must not decide
what a test finds, nor may a test change anything of theirs.  :func:`settle` changes
this process, so that all that it starts has the same, without being told.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping
from typing import Final

#: What says how the tests are run, and where programs and room for files are.
_KEPT: Final = (
    "CI",
    "LD_LIBRARY_PATH",
    "PATH",
    "REALIZE_MANY_FILES",
    "REALIZE_NO_SKIPS",
    "TMPDIR",
)
_KEPT_PREFIXES: Final = ("COVERAGE_", "HYPOTHESIS_", "PYTEST_")

#: What everything is started with.
FIXED: Final[Mapping[str, str]] = {
    # Nobody can read, write or make anything below it, not even root.
    "HOME": "/dev/null",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    # A pipe is read as what it is, whatever the locale of whoever began it all.
    "PYTHONUTF8": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    # What the distribution brings, without what the administrator has added.
    "SYSTEMD_UNIT_PATH": "/usr/lib/systemd/system",
}

#: Open files at once, unless there may be fewer: enough for a thousand connections.
DESCRIPTORS: Final = 4096

_SIGNALS: Final = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
}


def environment(kept: Mapping[str, str]) -> dict[str, str]:
    """
    The variables that tests and their programs have.

    :param kept: those that the tests themselves were started with.
    """
    return {name: kept[name] for name in kept if _is_kept(name)} | dict(FIXED)


def _is_kept(name: str) -> bool:
    return name in _KEPT or name.startswith(_KEPT_PREFIXES)


def settle() -> None:
    """
    Make this process one that was started from a plain place.
    """
    changed = environment(os.environ)
    os.environ.clear()
    os.environ.update(changed)
    time.tzset()
    os.umask(0o022)
    # A shell starts what it leaves in the background, and nohup what it guards, with
    # signals ignored that programs would go on ignoring.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, _SIGNALS[number])
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
