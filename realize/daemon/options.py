"""
The command line of ``twistd realized``.
"""

from __future__ import annotations

import difflib
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar, Final

from twisted.python import usage

#: What twistd calls the file with the number of its process if nobody says.
_PID_FILE: Final = "twistd.pid"


class Options(usage.Options):
    """
    What can be said after ``twistd realized``.
    """

    synopsis = "[options]"
    longdesc = (
        "Offers directories of this host to the peers that the configuration names; "
        "they move files with the realize command. Without --nodaemon (-n) before "
        '"realized", twistd goes into the background.'
    )

    optParameters: ClassVar[list[list[str | None]]] = [
        [
            "config",
            "c",
            None,
            "Configuration file. [default: $REALIZE_CONFIG, else "
            "$XDG_CONFIG_HOME/realize/config.toml, else /etc/realize/config.toml]",
        ],
        [
            "privkey",
            None,
            None,
            "Private key of this host. [default: $REALIZE_PRIVKEY, else privkey in the "
            "configuration]",
        ],
        [
            "address",
            None,
            None,
            "Where to listen: HOST:PORT, * for every address, port 0 for any; or an "
            "endpoint string beginning with tcp:, tcp6: or systemd:. [default: "
            "$REALIZE_ADDRESS, else address in the configuration, else *:9771]",
        ],
        [
            "metrics-addr",
            None,
            None,
            "Serve metrics for Prometheus at http://HOST:PORT/metrics. [default: "
            "$REALIZE_METRICS_ADDR, else metrics_addr in the configuration, else "
            "nowhere]",
        ],
        [
            "log-level",
            None,
            None,
            "What to log: error, warn, info or debug, also by area as in "
            '"info,wire=debug". [default: $REALIZE_LOG, else log_level in the '
            "configuration, else info]",
        ],
        [
            "log-format",
            None,
            None,
            "text, json or journal. [default: $REALIZE_LOG_FORMAT, else log_format in "
            "the configuration, else journal if systemd has connected standard error "
            "to it, else text]",
        ],
        [
            "log-file",
            None,
            None,
            "Append the log to this file. [default: $REALIZE_LOG_FILE, else log_file "
            "in the configuration, else twistd's --logfile, else standard output, or "
            "twistd.log in the background]",
        ],
        [
            "audit-log",
            None,
            None,
            "Append a line of JSON for each file that became final or was removed. "
            "[default: $REALIZE_AUDIT_LOG, else audit_log in the configuration, else "
            "none]",
        ],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        [
            "check",
            None,
            "Check the configuration, the key, the directories and the address, and "
            "exit. A socket of systemd's is taken for granted.",
        ],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        :raises SystemExit: an option is unknown or lacks its value; with one line
            instead of all that could have been said, and a status that is not 0.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"realized: {error}{self._hint(str(error))}") from None

    def postOptions(self) -> None:
        """
        In the foreground, twistd writes no file with the number of its process.

        Whoever started it knows the number; and twistd begins only where it can write
        such a file, and where no old one lies.  One that is asked for by another name
        than twistd's own is written.
        """
        twistd: MutableMapping[str, Any] = self.parent or {}
        foreground = twistd.get("nodaemon") or twistd.get("debug")
        if foreground and twistd.get("pidfile") == _PID_FILE:
            twistd["pidfile"] = ""

    def parseArgs(self, *words: str) -> None:
        """
        There is nothing but options.
        """
        if words:
            raise usage.UsageError(f"nothing is known by the name of {words[0]!r}")

    def _hint(self, complaint: str) -> str:
        known = [f"--{name.rstrip('=')}" for name in self.longOpt]
        word = next((word for word in complaint.split() if word.startswith("--")), "")
        close = difflib.get_close_matches(word, known, n=1)
        if close and close[0] != word:
            return f'; did you mean "{close[0]}"?'
        return "; twistd realized --help lists the options"
