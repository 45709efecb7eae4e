"""
Nothing comes into the tests from around them.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.requirements import find_program
from tests.support.surroundings import DESCRIPTORS, FIXED, environment

#: What shells, desktops, service managers and users set.
ODD = {
    "BASH_ENV": "/none",
    "COLUMNS": "40",
    "CREDENTIALS_DIRECTORY": "/none",
    "FORCE_COLOR": "1",
    "GIT_DIR": "/none",
    "HOME": "/none",
    "INVOCATION_ID": "0123456789abcdef",
    "JOURNAL_STREAM": "1:2",
    "LANG": "tr_TR.UTF-8",
    "LC_ALL": "C",
    "LISTEN_FDS": "1",
    "NOTIFY_SOCKET": "/none",
    "NO_COLOR": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "RCLONE_CONFIG": "/none",
    "REALIZE_CONFIG": "/none",
    "REALIZE_PRIVKEY": "/none",
    "REALIZE_THROTTLE": "1K",
    "RSYNC_RSH": "false",
    "TERM": "dumb",
    "TZ": "Pacific/Kiritimati",
    "XDG_CONFIG_HOME": "/none",
    "XDG_RUNTIME_DIR": "/none",
    "all_proxy": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}


def test_only_what_was_chosen_is_left() -> None:
    """
    Variables, locale, time zone, umask, signals and limits of this process, which all
    programs have from it.
    """
    assert dict(os.environ) == environment(os.environ)
    assert not set(ODD) - set(FIXED) & set(os.environ)
    assert time.tzname == ("UTC", "UTC")
    before = os.umask(0o022)
    assert before == 0o022
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= DESCRIPTORS


@pytest.mark.parametrize("variables", [ODD, {}], ids=["odd", "none"])
def test_whatever_it_was_begun_in(variables: dict[str, str]) -> None:
    """
    From a shell with settings of all kinds, and from one with none at all.
    """
    here = f"{Path(__file__)}::{test_only_what_was_chosen_is_left.__name__}"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", here]
    begun = subprocess.run(
        [str(find_program("sh")), "-c", 'umask 077; trap "" INT; "$@"', "sh", *words],
        cwd=Path(__file__).parents[1],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert "1 passed" in begun.stdout
