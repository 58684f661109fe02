"""How much the service bears, by real processes on this machine.

    python -m benchmarks.service            # what `make bench-service` runs; on an idle machine
    python -m benchmarks.service --quick    # the same with small numbers, to see that it works

The API, Celery workers, the ticker and an embedded Valkey are started as `touchstone up` starts them; models have two
narrow layers, so the figures are the service's own costs and say nothing of models that one would deploy. The exit
status is 1 if a scan was lost.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service import measures
from benchmarks.service.models import make_models
from benchmarks.service.serving import Service, served

WORKERS = (1, 2)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        scans: in the queue that is drained.
        running: scans that keep workers busy while statuses are read.
        seconds: of reading.
        posts: scans that are timed to their first chunk.
        rows: of the table of scans.
    """

    scans: int
    running: int
    seconds: float
    posts: int
    rows: tuple[int, ...]


WHOLE = Size(scans=100, running=20, seconds=20, posts=10, rows=(100, 1_000, 10_000, 100_000))
QUICK = Size(scans=2, running=2, seconds=3, posts=1, rows=(100, 1_000))


def main() -> int:
    """Prints every figure; the exit status."""
    size, postgres = _asked()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    kind = "SQLite" if postgres is None else "PostgreSQL"
    print(f"{os.cpu_count()} cores, {platform.machine()}; {kind}; clients on the same machine, over the loopback")
    lost = 0
    with tempfile.TemporaryDirectory(prefix="touchstone-benchmark-") as folder:
        models = Path(folder) / "models"
        make_models(models, len(WORKERS) * (size.posts + size.running + 1 + size.scans))
        for workers in WORKERS:
            directory = Path(folder) / f"workers-{workers}"
            directory.mkdir()
            print(f"\nworkers: {workers}", flush=True)
            with served(directory, models, workers, postgres) as service:
                lost += measured(service, size)
                if workers == WORKERS[0]:
                    say(measures.growth(service, size.rows))
    return 1 if lost else 0


def measured(service: Service, size: Size) -> int:
    """Prints what depends on the number of workers; how many scans were lost."""
    say(measures.first_chunk(service, size.posts))
    say(measures.reads(service, size.running, size.seconds))
    say(measures.streams(service))
    say(measures.drain(service, size.scans))
    return measures.lost(service, service.submitted)


def say(lines: Iterable[str]) -> None:
    """Prints each as soon as it is known."""
    for line in lines:
        print(line, flush=True)


def _asked() -> tuple[Size, str | None]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description="Measures the service.")
    parser.add_argument("--quick", action="store_true", help="small numbers")
    parser.add_argument("--scans", type=_positive, help="length of the queue that is drained; 1000 for the whole")
    parser.add_argument("--postgres", metavar="URL", help="of a server on which databases may be made, and dropped")
    given = parser.parse_args()
    size = QUICK if given.quick else WHOLE
    scans = given.scans or size.scans
    return Size(scans, size.running, size.seconds, size.posts, size.rows), given.postgres


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError(f"must be 1 to 10,000, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
