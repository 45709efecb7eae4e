"""
What the administrator and the service manager ask of a running daemon: signals, and
signs of life.

========  ====================================================================
SIGHUP    Reopen the log and the audit log, and read the configuration again.
SIGUSR2   Log everything; the second time, log as before.
========  ====================================================================
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from realize.daemon.log import Logs
from realize.daemon.reloading import Reloading
from realize.observe.notify import Notifier, start_watchdog, watchdog_interval

#: Seconds from one status to the next, while there is anything to tell.
STATUS_INTERVAL: Final = 5.0


class Upkeep:
    """
    Runs beside the service, from its start to its end.

    :param status: what goes on, in one line for people.
    :param environ: says where the service manager is, if there is one.
    """

    def __init__(
        self,
        reactor: Any,
        logs: Logs,
        reloading: Reloading,
        status: Callable[[], str],
        environ: Mapping[str, str],
    ) -> None:
        self.logs = logs
        self._reactor = reactor
        self._reloading = reloading
        self._status = status
        self._notifier = Notifier.from_environment(environ)
        self._interval = watchdog_interval(environ)
        self._end_watchdog: Callable[[], None] | None = None
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor
        self._stopping = self._busy = False
        self._reload_asked = self._reload_runs = False

    def listen(self) -> None:
        """
        Take signals; they are acted on once the reactor runs.
        """
        signal.signal(signal.SIGHUP, self._signalled)
        signal.signal(signal.SIGUSR2, self._signalled)

    def start(self) -> None:
        """
        Say that we are ready once the reactor runs.
        """
        self._reactor.callWhenRunning(self._ready)

    def stopping(self) -> None:
        """
        The end begins.  Signs of life go on until :meth:`stop`.
        """
        self._stopping = True
        self._notifier.stopping()
        if self._ticks.running:
            self._ticks.stop()

    async def stop(self) -> None:
        """
        The end.
        """
        self.logs.switch.stop()
        if self._end_watchdog is not None:
            self._end_watchdog()
        await self._reloading.close()

    def busy_changed(self, busy: bool) -> None:
        """
        There are connections now, or none any more.
        """
        self._busy = busy
        if not self._stopping:
            self._notifier.status(self._status())
            self._tick_if_needed()

    def reload(self) -> None:
        """
        Reopen the logs, and read the configuration again.
        """
        self._reload_asked = True
        if not self._reload_runs:
            Deferred.fromCoroutine(self._reload())

    def _ready(self) -> None:
        if self._interval is not None:
            self._end_watchdog = start_watchdog(
                self._notifier, self._interval, self._reactor
            )
        self._notifier.ready(self._status())

    async def _tick(self) -> None:
        self._notifier.status(self._status())
        await self._reloading.tidy()
        if self._ticks.running and not self._has_to_tick:
            self._ticks.stop()

    @property
    def _has_to_tick(self) -> bool:
        return not self._stopping and (self._busy or self._reloading.is_untidy)

    def _tick_if_needed(self) -> None:
        if self._has_to_tick and not self._ticks.running:
            self._ticks.start(STATUS_INTERVAL, now=False)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        # Not from inside a signal handler, which may be anywhere in the program.
        self._reactor.callFromThread(self._act_on, number)

    def _act_on(self, number: int) -> None:
        if number == signal.SIGUSR2:
            self.logs.switch.toggle_debug("SIGUSR2")
        elif not self._stopping:
            self.reload()

    async def _reload(self) -> None:
        self._reload_runs = True
        try:
            while self._reload_asked:
                self._reload_asked = False
                self._notifier.reloading()
                try:
                    self.logs.reopen()
                    await self._reloading.reload()
                finally:
                    # Or systemd would take it to be reloading for ever.
                    self._notifier.ready(self._status())
                    self._tick_if_needed()
        finally:
            self._reload_runs = False
