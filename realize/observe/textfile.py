"""
Metrics of a finished run in a file, for node_exporter's textfile collector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families


def write_textfile(path: str, registry: CollectorRegistry) -> None:
    """
    Replace *path*, atomically, by what *registry* holds.  Blocks.

    :raises OSError: it cannot be written; an old file stays as it was.
    """
    write_to_textfile(path, registry)


def last_value(path: str, name: str, labels: Mapping[str, str]) -> float | None:
    """
    The value of a series in a file that an earlier run wrote.  Blocks.

    :returns: None if there is no such file or series, or the file is not readable as
        metrics.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            values = list(_values(stream.read(), name, labels))
    except (OSError, ValueError):
        return None
    return values[-1] if values else None


def _values(text: str, name: str, labels: Mapping[str, str]) -> Iterator[float]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                yield sample.value
