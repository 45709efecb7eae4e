"""
Start a program, wait for it, and write down what it took.

    python -I -S launcher.py RESULT WORD...

The kernel counts towards a program's peak memory what the process that started it had
at that moment, so this one is as small as Python can be: some 9 MiB, below which no
peak can be seen.  RESULT becomes JSON: first ``{"pid": ...}``, then, once the program
has ended, also its status, seconds, seconds of processor time and peak memory in
bytes, the last two with the children it waited for.  SIGTERM is passed on.
"""

import json
import os
import signal
import sys
import time


def main(result: str, words: list[str]) -> None:
    """
    Run *words*.
    """

    def note(**what: float) -> None:
        with open(f"{result}.new", "w") as file:
            json.dump(what, file)
        os.replace(f"{result}.new", result)

    began = time.monotonic()
    pid = os.posix_spawnp(words[0], words, os.environ)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    note(pid=pid)
    _, status, usage = os.wait4(pid, 0)
    note(
        pid=pid,
        status=os.waitstatus_to_exitcode(status),
        seconds=time.monotonic() - began,
        cpu=usage.ru_utime + usage.ru_stime,
        memory=usage.ru_maxrss * 1024,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
