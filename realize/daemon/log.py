"""
Where the daemon's log and its receipts go.

Under twistd the log has one observer, which twistd takes from the application: that
is how nothing else, of twistd's own, is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from txaio.tx import make_logger

from realize.config import ServiceConfig
from realize.errors import ConfigError
from realize.observe.audit import AuditLog
from realize.observe.events import LOG_NOT_REOPENED
from realize.observe.levels import Levels
from realize.observe.outputs import LogOutput, open_sink
from realize.observe.switch import LevelSwitch


@frozen(eq=False)
class Logs:
    """
    The log and the receipts of the daemon.

    :ivar switch: changes what is logged.
    :ivar path: of the log, if it is a file.
    :ivar audit: where receipts go, if anywhere.
    :ivar replaces_twistd: whether our observer takes the place of twistd's.
    """

    output: LogOutput
    switch: LevelSwitch
    path: str | None
    audit: AuditLog | None
    replaces_twistd: bool = True

    log = make_logger()

    def install(self, application: object) -> None:
        """
        Let twistd, which has made *application*, log by our observer.
        """
        if self.replaces_twistd and isinstance(application, Componentized):
            application.setComponent(ILogObserver, self.output)

    def reopen(self) -> None:
        """
        Go on in new files of the same names, after the old ones were rotated away.
        """
        reopened: list[tuple[str | None, Callable[[], None]]] = [
            (self.path, self.output.reopen)
        ]
        if self.audit is not None:
            reopened.append((self.audit.path, self.audit.reopen))
        for path, reopen in reopened:
            try:
                reopen()
            except OSError as error:
                LOG_NOT_REOPENED.log(self.log, path=path, reason=error.strerror)


def open_logs(
    options: Any,
    environ: Mapping[str, str],
    service: ServiceConfig,
    stream: TextIO,
    clock: IReactorTime,
    counted: Callable[[str], None],
) -> Logs:
    """
    What options, environment and configuration ask for, in this order.

    :param options: of ``realized``; their parent's, if any, are twistd's.
    :param stream: for a program in the foreground.
    :param counted: called with the level of each line.
    :raises ConfigError: something is wrong, or cannot be opened.
    """

    def setting(option: str, variable: str, configured: str | None) -> str | None:
        return options[option] or environ.get(variable) or configured

    level = setting("log-level", "REALIZE_LOG", service.log_level)
    form = setting("log-format", "REALIZE_LOG_FORMAT", service.log_format)
    path = setting("log-file", "REALIZE_LOG_FILE", service.log_file)
    audit_path = setting("audit-log", "REALIZE_AUDIT_LOG", service.audit_log)
    twistd: Mapping[str, Any] = options.parent or {}
    path = path or (None if form == "journal" else _twistd_file(twistd))
    path = path and os.path.abspath(path)
    try:
        levels = Levels.parse(level) if level else Levels()
    except ValueError as error:
        raise ConfigError(f"--log-level: {error}") from None
    try:
        sink = open_sink(form, path, "realized", environ, stream)
    except ValueError as error:
        raise ConfigError(f"--log-format: {error}") from None
    except OSError as error:
        where = path or "the journal"
        raise ConfigError(f"--log-file: {where}: {error.strerror}") from None
    output = LogOutput(sink, levels, counted)
    foreign = bool(twistd.get("logger") or twistd.get("syslog"))
    return Logs(
        output,
        LevelSwitch(output, clock),
        path,
        _open_audit(audit_path),
        replaces_twistd=not foreign,
    )


def _twistd_file(twistd: Mapping[str, Any]) -> str | None:
    """
    The file that twistd would log to.
    """
    named: str | None = twistd.get("logfile")
    if named and named != "-":
        return named
    foreground = twistd.get("nodaemon") or twistd.get("debug") or not twistd
    return None if foreground or named == "-" else "twistd.log"


def _open_audit(path: str | None) -> AuditLog | None:
    if not path:
        return None
    try:
        return AuditLog(os.path.abspath(path))
    except OSError as error:
        raise ConfigError(f"--audit-log: {path}: {error.strerror}") from None
