"""
What being scraped costs a move, and how long a scrape takes meanwhile.

    python -m benchmarks.scrapes [--rounds 5] [--size 512] [--files 5000]

Moves the same files to a daemon in turns, with nobody looking and with its metrics
read twenty times a second, after one unmeasured round of each.  A minute or two.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

import click

from benchmarks.data import write_files, write_noise
from benchmarks.processes import free_port
from tests.support.programs import World

#: Seconds between two scrapes.
PAUSE = 0.05


def move(world: World, size: int, files: int, scrape: str) -> tuple[float, list[float]]:
    """
    Move *size* MiB in one file and many small ones.

    :param scrape: URL of the metrics to be read meanwhile; empty for none.
    :returns: seconds of the move, and of each scrape.
    """
    source = world.folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    write_noise(source / "large", size * 1024 * 1024, "large")
    write_files(source / "small", files, 4096, 200)
    scrapes = []
    began = time.monotonic()
    process = world.begin(source, "nas:inbox", "--output", "quiet")
    while process.poll() is None:
        if scrape:
            asked = time.monotonic()
            with urllib.request.urlopen(scrape) as page:  # noqa: S310  # our own
                page.read()
            scrapes.append(time.monotonic() - asked)
        time.sleep(PAUSE)
    seconds = time.monotonic() - began
    _out, complaints = process.communicate()
    if process.returncode:
        raise SystemExit(complaints.decode())
    return seconds, scrapes


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--size", default=512, show_default=True, help="MiB of the large file.")
@click.option("--files", default=5000, show_default=True, help="Small files.")
def main(rounds: int, size: int, files: int) -> None:
    """
    Measure and print.
    """
    plain, watched, scrapes = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        world = World.create(Path(folder) / "world")
        port = free_port()
        world.nas.start(f"--metrics-addr=127.0.0.1:{port}")
        url = f"http://127.0.0.1:{port}/metrics"
        try:
            for number in range(rounds + 1):
                first, _none = move(world, size, files, "")
                second, pages = move(world, size, files, url)
                if number:
                    plain.append(first)
                    watched.append(second)
                    scrapes += pages
        finally:
            world.stop()
    scrapes.sort()
    click.echo(f"alone    {min(plain):6.2f} s  ({min(plain):.2f} to {max(plain):.2f})")
    click.echo(
        f"scraped  {min(watched):6.2f} s  ({min(watched):.2f} to {max(watched):.2f}),"
        f" {min(watched) / min(plain):.2f} of alone"
    )
    places = [(0.5, "median"), (0.9, "90%"), (0.99, "99%"), (1, "slowest")]
    shown = (
        f"{name} {scrapes[min(len(scrapes) - 1, int(len(scrapes) * part))] * 1000:.0f}"
        for part, name in places
    )
    click.echo(f"{len(scrapes)} scrapes, ms: {', '.join(shown)}")


if __name__ == "__main__":
    main()
