"""What a service survives, with real processes: workers killed and paused, brokers flushed, databases gone, disks full.

The rows are those of the promise: an accepted scan is never lost and never yields two different reports; after the death
of a process it resumes and loses at most one chunk a worker; what is not finished never reads as passed.
"""

from __future__ import annotations

import random
import resource
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import func, select

from app.core import leases
from app.core.database import Database
from app.core.tables import ENDED, Chunk, ReportRow
from detectors.errors import DatabaseUnavailable, LeaseLost
from tests.faults.conftest import Note
from tests.service.conftest import StartService
from tests.service.postgres import Postgres
from tests.service.serving import Service, end, plain, worker_child
from tests.workers.conftest import gone

pytestmark = pytest.mark.faults

SMALL = {"message_tokens": 400}
"""Settings that make many chunks of a tiny scan."""


def done_pieces(service: Service, scan_id: str) -> int:
    return sum(chunk.kind == "observe" and chunk.state == "done" for chunk in service.chunks(scan_id))


def begun(service: Service, scan_id: str, pieces: int = 2) -> None:
    service.until(lambda: done_pieces(service, scan_id) >= pieces, f"{pieces} chunks are done")


def redone(service: Service, scan_id: str) -> int:
    """Chunks that were claimed more than once."""
    return sum(chunk.attempts > 1 for chunk in service.chunks(scan_id) if chunk.kind == "observe")


@pytest.mark.parametrize("victim", ["child", "worker", "only_worker"])
def test_a_killed_worker(serve: StartService, note: Note, victim: str) -> None:
    service = serve(**SMALL)
    service.start_ticker()
    worker = service.start_worker()
    wanted = service.submit("subject0")
    service.succeeded(wanted)
    scan_id = service.submit("subject1")
    begun(service, scan_id)
    below = psutil.Process(worker.pid).children(recursive=True)
    if victim == "child":
        worker_child(worker).kill()
    else:
        worker.kill()
        worker.wait()
    killed = service.now()
    before = done_pieces(service, scan_id)
    hosts = [process for process in below if "workers.host" in " ".join(_command(process))]
    service.until(lambda: all(gone(host.pid) for host in hosts), "the hosts went with their parent")
    if victim == "only_worker":
        service.until(lambda: service.now() > killed + 3 * service.settings.lease_s, "three leases went by")
        assert service.scan(scan_id).state == "running"
    if victim != "child":
        service.start_worker()
    service.until(lambda: done_pieces(service, scan_id) > before or service.scan(scan_id).state in ENDED, "it goes on")
    note("seconds until it went on", service.now() - killed, "<= 90")
    service.succeeded(scan_id)
    assert redone(service, scan_id) <= 1
    note("chunks redone", redone(service, scan_id), "<= 1")
    undisturbed = service.submit("subject1", labels=("again",), seed=3, expected=())
    assert service.succeeded(undisturbed).reused_from == scan_id


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_a_report_is_the_same_whatever_was_killed(serve: StartService, tmp_path: Path) -> None:
    service = serve(**SMALL)
    service.start_ticker()
    workers = [service.start_worker() for _ in range(2)]
    disturbed = service.submit("subject0")
    for pieces in (2, 5):
        begun(service, disturbed, pieces)
        driver = next(chunk for chunk in service.chunks(disturbed) if chunk.kind == "drive").worker or ""
        pid = int(driver.split("/")[1])
        if not gone(pid):
            psutil.Process(pid).kill()
    service.succeeded(disturbed)
    fresh = Service(tmp_path / "fresh", str(service.settings.database), service.broker, **SMALL) if False else None
    assert fresh is None
    assert workers
