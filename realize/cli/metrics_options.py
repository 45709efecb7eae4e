"""
The options that say where the metrics of a run go.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click
from attrs import frozen

from realize.cli.options import duration
from realize.errors import ConfigError

R = TypeVar("R")


@frozen(kw_only=True)
class MetricsChoice:
    """
    What the user asked for, as written; nothing is opened yet.

    :ivar address: where to serve metrics, ``HOST:PORT``.
    :ivar pushgateway: URL of a gateway to push them to; it may hold a password.
    :ivar interval: seconds from one push to the next.
    :ivar textfile: where to write them at the end.
    """

    address: str | None
    pushgateway: str | None
    job: str
    instance: str | None
    interval: float
    textfile: str | None

    @property
    def any(self) -> bool:
        """
        Whether anything was asked for.
        """
        return bool(self.address or self.pushgateway or self.textfile)

    @property
    def instance_name(self) -> str:
        """
        The instance: by default, this host's name.
        """
        return self.instance or socket.gethostname()


def metered(function: Callable[..., R]) -> Callable[..., R]:
    """
    Give a sub-command the ``--metrics-*`` options, as an argument ``metrics``.
    """

    @functools.wraps(function)
    def choose(
        *args: Any,
        metrics_addr: str | None,
        metrics_pushgateway: str | None,
        metrics_job: str,
        metrics_instance: str | None,
        metrics_interval: float,
        metrics_textfile: str | None,
        **kwargs: Any,
    ) -> R:
        if not metrics_interval:
            raise ConfigError("--metrics-interval: must be more than zero")
        choice = MetricsChoice(
            address=metrics_addr,
            pushgateway=metrics_pushgateway,
            job=metrics_job,
            instance=metrics_instance,
            interval=metrics_interval,
            textfile=metrics_textfile,
        )
        return function(*args, metrics=choice, **kwargs)

    for add in reversed(_OPTIONS):
        choose = add(choose)
    return choose


_OPTIONS: list[Callable[..., Any]] = [
    click.option(
        "--metrics-addr",
        metavar="HOST:PORT",
        envvar="REALIZE_METRICS_ADDR",
        help="Serve metrics for Prometheus at http://HOST:PORT/metrics while running.",
    ),
    click.option(
        "--metrics-pushgateway",
        metavar="URL",
        envvar="REALIZE_METRICS_PUSHGATEWAY",
        help="Push metrics to a Pushgateway, on the way and at the end.  A failed run "
        "never erases the last success there.",
    ),
    click.option(
        "--metrics-job",
        metavar="NAME",
        default="realize",
        show_default=True,
        help="Job to push as.",
    ),
    click.option(
        "--metrics-instance",
        metavar="NAME",
        help="Instance to push as.  [default: this host's name]",
    ),
    click.option(
        "--metrics-interval",
        metavar="DURATION",
        default="15s",
        show_default=True,
        callback=duration,
        help="Time from one push to the next.",
    ),
    click.option(
        "--metrics-textfile",
        metavar="FILE",
        help="Write metrics to FILE at the end, for node_exporter's textfile "
        "collector; its name ends in .prom.",
    ),
]
