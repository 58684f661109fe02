"""What a service survives, with real processes: workers killed and paused, brokers flushed, databases gone, disks full.

The rows are those of the promise: an accepted scan is never lost and never yields two different reports; after the
death of a process it goes on and loses at most one chunk a worker; what is not finished never reads as passed. What
takes minutes is marked `slow`; `make test-faults` runs everything.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import select

from app.core.tables import Chunk, ReportRow
from detectors.errors import DatabaseUnavailable
from tests.faults.conftest import AtMost
from tests.service.conftest import StartService
from tests.service.postgres import Postgres
from tests.service.serving import Service, worker_child
from tests.workers.conftest import gone, plain

pytestmark = pytest.mark.faults
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

MANY_CHUNKS = 400
"""Tokens a message, so that a tiny scan is many chunks."""


@pytest.fixture
def service(serve: StartService) -> Service:
    """A service with a ticker and no worker yet."""
    found = serve(message_tokens=MANY_CHUNKS)
    found.start_ticker()
    return found


def done_pieces(service: Service, scan_id: str) -> int:
    return sum(chunk.kind == "observe" and chunk.state == "done" for chunk in service.chunks(scan_id))


def begun(service: Service, scan_id: str, pieces: int = 1) -> None:
    service.until(lambda: done_pieces(service, scan_id) >= pieces, f"{pieces} chunks are done")


def redone(service: Service, scan_id: str) -> int:
    """Claims of pieces beyond the first of each."""
    return sum(chunk.lease_version - 1 for chunk in service.chunks(scan_id) if chunk.kind == "observe")


def drive(service: Service, scan_id: str) -> Chunk:
    return next(chunk for chunk in service.chunks(scan_id) if chunk.kind == "drive")


def driver(service: Service, scan_id: str) -> int:
    """The process that drives a scan, once there is one."""
    service.until(lambda: drive(service, scan_id).state == "running", "the scan has a driver")
    return int(str(drive(service, scan_id).worker).split("/")[1])


def hosts(pid: int) -> list[psutil.Process]:
    """The model hosts of a process; it has other children, which check templates."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children():
            with suppress(psutil.NoSuchProcess):
                found += [process] if "workers.host" in process.cmdline() else []
    return found


def kill_child(worker: subprocess.Popen[bytes]) -> None:
    worker_child(worker).kill()


def kill_whole(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    worker.wait()


def killed(service: Service, kill: Callable[[subprocess.Popen[bytes]], None], at_most: AtMost, away: float) -> None:
    worker = service.start_worker()
    scan_id = service.submit("subject0")
    begun(service, scan_id)
    below = psutil.Process(worker.pid).children(recursive=True)
    kill(worker)
    since, before = time.monotonic(), done_pieces(service, scan_id)
    service.until(lambda: all(gone(process.pid) for process in below), "its hosts went with it")
    time.sleep(away)
    assert service.scan(scan_id).verdict is None
    if not gone(worker.pid):
        service.until(lambda: bool(psutil.Process(worker.pid).children()), "the worker has another child")
    else:
        service.start_worker()
        since = time.monotonic()
    service.until(lambda: done_pieces(service, scan_id) > before, "it goes on")
    at_most("seconds until it goes on", time.monotonic() - since, 90)
    service.succeeded(scan_id)
    at_most("chunks done twice", redone(service, scan_id), 1)
    assert plain(service.report(scan_id)) == service.local("subject0")


@ON_SQLITE
def test_the_workers_child_is_killed_in_a_chunk(service: Service, at_most: AtMost) -> None:
    killed(service, kill_child, at_most, 0)


@pytest.mark.slow
def test_the_whole_worker_is_killed(service: Service, at_most: AtMost) -> None:
    killed(service, kill_whole, at_most, 0)


@pytest.mark.slow
def test_the_only_worker_is_away_for_a_while(service: Service, at_most: AtMost) -> None:
    killed(service, kill_whole, at_most, 4 * service.settings.lease_s)


@pytest.mark.slow
def test_one_of_two_workers_is_killed(service: Service, at_most: AtMost) -> None:
    for _ in range(2):
        service.start_worker()
    scan_id = service.submit("subject0")
    for pieces in (1, 4):
        begun(service, scan_id, pieces)
        with suppress(psutil.NoSuchProcess):
            psutil.Process(driver(service, scan_id)).kill()
    service.succeeded(scan_id)
    at_most("chunks done twice", redone(service, scan_id), 2)
    assert plain(service.report(scan_id)) == service.local("subject0")


@ON_SQLITE
@pytest.mark.slow
def test_a_scan_that_always_kills_its_worker_is_given_up(service: Service, at_most: AtMost) -> None:
    service.start_worker()
    scan_id = service.submit("subject0")
    claims: set[int] = set()
    while service.scan(scan_id).state not in ("failed", "succeeded"):
        held = drive(service, scan_id)
        if held.state == "running" and held.lease_version not in claims:
            claims.add(held.lease_version)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(int(str(held.worker).split("/")[1])).kill()
        time.sleep(0.02)
    found = service.scan(scan_id)
    assert (found.state, found.verdict) == ("failed", None)
    assert "given up after 3 attempts" in str(found.error_message)
    assert drive(service, scan_id).lease_version == 3
    service.succeeded(service.submit("subject1"))


@ON_SQLITE
def test_a_model_that_always_crashes(service: Service) -> None:
    worker = service.start_worker()
    scan_id = service.submit("subject0")
    pid = driver(service, scan_id)
    while service.scan(scan_id).state not in ("failed", "succeeded"):
        with suppress(psutil.NoSuchProcess):
            for host in hosts(pid):
                host.kill()
        time.sleep(0.02)
    assert service.succeeded(scan_id).verdict == "inconclusive"
    sweep = service.report(scan_id).results[1]
    assert sweep.outcome == "inconclusive"
    assert "killed by signal 9" in sweep.reason
    assert "after 3 attempts" in sweep.reason
    assert worker_child(worker).pid == pid
    again = service.succeeded(service.submit("subject1"))
    assert set(service.report(again.id).outcomes().values()) == {"completed"}


@ON_SQLITE
@pytest.mark.slow
def test_a_model_that_needs_more_memory_than_it_may_have(serve: StartService) -> None:
    service = serve(memory_limit_bytes=2**28)
    service.start_ticker()
    service.start_worker()
    scan_id = service.submit("subject0")
    assert service.succeeded(scan_id).verdict == "inconclusive"
    assert "host" in service.report(scan_id).results[1].reason


@ON_SQLITE
def test_a_message_that_comes_ten_times(service: Service) -> None:
    scan_id = service.submit("subject0")
    chunk = drive(service, scan_id)
    service.doorbell.ring([(chunk.id, chunk.queue)] * 9)
    for _ in range(2):
        service.start_worker()
    service.succeeded(scan_id)
    service.until(lambda: waiting_messages(service) == 0, "all messages were taken")
    assert drive(service, scan_id).lease_version == 1
    assert redone(service, scan_id) == 0


def waiting_messages(service: Service) -> int:
    with service.broker.server.client() as client:
        return int(client.llen("people"))


@contextmanager
def writing(sqlite_file: Path | str) -> Iterator[None]:
    """As `locked`, of one file."""
    with closing(sqlite3.connect(sqlite_file, isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def locked(service: Service) -> Iterator[None]:
    """Nobody else is in the middle of writing, and nobody can begin."""
    url = service.database.url
    if service.database.on_sqlite:
        with writing(str(url.database)):
            yield
        return
    plain_url = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg.connect(plain_url)) as other:
        other.execute("LOCK TABLE scan, chunk IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.mark.parametrize("database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_a_driver_that_sleeps_and_wakes_too_late(service: Service) -> None:
    service.start_worker()
    scan_id = service.submit("subject0")
    begun(service, scan_id)
    sleeper = psutil.Process(driver(service, scan_id))
    # on SQLite, who is paused in the middle of writing holds up everybody
    with writing(service.settings.store_path), locked(service):
        sleeper.suspend()
    service.start_worker()
    found = service.succeeded(scan_id)
    assert str(sleeper.pid) not in str(drive(service, scan_id).worker).split("/")
    before = service.chunks(scan_id)
    sleeper.resume()
    service.until(lambda: len(hosts(sleeper.pid)) <= 1, "the sleeper gave up its subject's host")
    after = service.scan(scan_id)
    assert (after.report_digest, after.version, after.state) == (found.report_digest, found.version, "succeeded")
    assert [(it.state, it.lease_version) for it in service.chunks(scan_id)] == [
        (it.state, it.lease_version) for it in before
    ]
    with service.database.reading() as session:
        assert len(session.scalars(select(ReportRow)).all()) == 1


@ON_SQLITE
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "flushed"])
def test_a_broker_that_forgets_a_hundred_scans(service: Service, at_most: AtMost, fault: str) -> None:
    """All are of one model, so that all but the first are answered from its report."""
    submitted = [service.submit("subject0") for _ in range(100)]
    service.start_worker()
    begun(service, submitted[0])
    if fault == "killed":
        service.broker.kill()
        time.sleep(2)
        service.broker.start()
    else:
        service.broker.flush()
    unfinished = sum(service.ended(scan_id).state != "succeeded" for scan_id in submitted)
    at_most("scans lost of 100", unfinished, 0)


@pytest.mark.slow
def test_a_database_locked_for_ten_seconds(service: Service, at_most: AtMost) -> None:
    with ThreadPoolExecutor(50) as pool:
        with locked(service):
            asked = [pool.submit(service.submit, "/nowhere", seed=seed) for seed in range(50)]
            time.sleep(10)
        found = {it.result() for it in asked}
    at_most("submissions lost of 50", 50 - len(found), 0)


@pytest.mark.slow
def test_a_database_locked_for_too_long(service: Service) -> None:
    with locked(service), pytest.raises(DatabaseUnavailable, match="cannot be used"):
        service.submit("/nowhere")
    service.submit("/nowhere")


@ON_POSTGRESQL
def test_postgresql_is_restarted(service: Service, postgres: Postgres, at_most: AtMost) -> None:
    service.start_worker()
    scan_id = service.submit("subject0")
    begun(service, scan_id)
    postgres.stop()
    time.sleep(2 * service.settings.lease_s)
    postgres.start()
    service.succeeded(scan_id)
    at_most("chunks done twice", redone(service, scan_id), 1)
    assert plain(service.report(scan_id)) == service.local("subject0")


@ON_POSTGRESQL
def test_a_disk_that_is_full(service: Service) -> None:
    """Files that may not grow are what a full disk is to whoever writes them."""
    worker = service.start_worker()
    service.until(lambda: bool(psutil.Process(worker.pid).children()), "the worker has its child")
    child = worker_child(worker)
    child.rlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    scan_id = service.submit("subject0")
    found = service.ended(scan_id)
    assert (found.state, found.verdict, found.report_digest) == ("failed", None, None)
    assert "does not take" in str(found.error_message)
    assert [path for path in Path(service.settings.blobs).rglob("*") if path.is_file()] == []
    child.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    service.succeeded(service.submit("subject0"))


@ON_SQLITE
@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_cancelling_at_random_moments(service: Service, at_most: AtMost, times: int) -> None:
    worker = service.start_worker()
    service.succeeded(service.submit("subject0"))  # the base is warm
    waited: list[float] = []
    cancelled: list[str] = []
    for number in range(times):
        scan_id = service.submit("subject1", seed=100 + number)
        time.sleep(random.uniform(0, 6))
        service.cancel(scan_id)
        since = time.monotonic()
        if service.ended(scan_id).state == "canceled":
            waited.append(time.monotonic() - since)
            cancelled.append(scan_id)
            assert service.scan(scan_id).report_digest is None
    assert cancelled
    at_most("seconds to cancel, the longest", max(waited), 5)
    service.until(lambda: len(worker_child(worker).children()) <= 1, "no host is left but a warm base's")
    assert {service.scan(scan_id).state for scan_id in cancelled} == {"canceled"}
