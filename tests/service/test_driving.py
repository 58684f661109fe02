"""From a submitted scan to a report on file, by real workers: the same report as a scan on this machine."""

from __future__ import annotations

import shutil
import signal

import psutil
import pytest

from detectors.errors import ArchitectureMismatch, ReferenceOutsideRoots
from tests.engine.tiny import make_tiny_model
from tests.service.conftest import StartService
from tests.service.serving import worker_child
from tests.workers.conftest import gone, plain

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_two_workers_share_a_scan_and_say_what_a_local_scan_says(serve: StartService) -> None:
    service = serve(message_tokens=400)
    service.start_ticker()
    for _ in range(2):
        service.start_worker()
    scan_id = service.submit("subject0", labels=("team",))
    found = service.succeeded(scan_id)
    assert plain(service.report(scan_id)) == service.local("subject0")
    assert found.done == found.total
    assert found.verdict == "no_evidence"
    assert None not in (found.started, found.ended, found.subject_pin, found.base_pin, found.subject_content)
    chunks = service.chunks(scan_id)
    assert {chunk.state for chunk in chunks} == {"done"}
    assert {chunk.attempts for chunk in chunks} == {1}
    assert {chunk.body for chunk in chunks} == {None}
    assert len({chunk.worker for chunk in chunks}) == 2

    again = service.succeeded(service.submit("subject0"))
    assert (again.reused_from, again.report_digest, again.verdict) == (scan_id, found.report_digest, found.verdict)
    shutil.rmtree(service.settings.blobs)
    other = service.submit("subject0")
    assert service.succeeded(other).reused_from is None  # the report is gone: it is observed again, from the store
    assert plain(service.report(other)) == service.local("subject0")


@ON_SQLITE
def test_what_cannot_be_scanned_fails_with_its_code(serve: StartService) -> None:
    service = serve(own_models=True)
    make_tiny_model(service.roots / "wide", d_model=64)
    service.start_ticker()
    service.start_worker()
    wrong = service.ended(service.submit("wide"))
    assert (wrong.state, wrong.error_code, wrong.verdict) == ("failed", ArchitectureMismatch.code, None)
    outside = service.ended(service.submit("/etc"))
    assert (outside.state, outside.error_code) == ("failed", ReferenceOutsideRoots.code)
    assert wrong.report_digest is outside.report_digest is None
    service.succeeded(service.submit("subject0"))


@ON_SQLITE
def test_a_base_that_was_replaced_is_loaded_again(serve: StartService) -> None:
    """Its host is warm, and the new files lie where the old ones lay."""
    service = serve(own_models=True)
    service.start_ticker()
    service.start_worker()
    service.succeeded(service.submit("base"))
    shutil.rmtree(service.roots / "base")
    make_tiny_model(service.roots / "base", seed=7)
    shutil.rmtree(service.roots / "subject0")
    make_tiny_model(service.roots / "subject0", seed=7)
    scan_id = service.submit("subject0")
    service.succeeded(scan_id)
    sweep = service.report(scan_id).results[2]
    assert {abs(evidence.value) for evidence in sweep.evidence} <= {0.0}


@ON_SQLITE
def test_cancelling_ends_the_scan_and_the_subjects_host(serve: StartService) -> None:
    service = serve(message_tokens=100)
    service.start_ticker()
    worker = service.start_worker()
    scan_id = service.submit("subject0")
    service.until(lambda: service.scan(scan_id).done > 0, "something was observed")
    hosts = worker_child(worker).children(recursive=True)
    assert hosts
    service.cancel(scan_id)
    found = service.ended(scan_id)
    assert (found.state, found.verdict, found.report_digest) == ("canceled", None, None)
    service.until(lambda: sum(not gone(host.pid) for host in hosts) <= 1, "all hosts but a warm base's are gone")
    service.succeeded(service.submit("subject1"))
    assert service.scan(scan_id).state == "canceled"


@ON_SQLITE
def test_a_worker_that_is_told_to_stop_gives_its_scan_to_another(serve: StartService) -> None:
    service = serve(message_tokens=100, lease_s=600.0)  # nobody waits for a lease to end
    service.start_ticker()
    worker = service.start_worker()
    scan_id = service.submit("subject0")
    service.until(lambda: service.scan(scan_id).done > 0, "something was observed")
    below = psutil.Process(worker.pid).children(recursive=True)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert all(gone(process.pid) for process in below)
    assert service.scan(scan_id).state == "running"
    service.start_worker()
    service.succeeded(scan_id)
    drive = next(chunk for chunk in service.chunks(scan_id) if chunk.kind == "drive")
    assert drive.attempts == 1


@ON_SQLITE
def test_people_come_before_schedules(serve: StartService) -> None:
    service = serve()
    service.start_ticker()
    scheduled = [service.submit("/nowhere", queue="schedules", seed=seed) for seed in range(4)]
    asked = [service.submit("/nowhere", seed=seed) for seed in range(4)]
    service.start_worker()
    last = max(service.ended(scan_id).ended or 0 for scan_id in asked)
    assert all((service.ended(scan_id).ended or 0) > last for scan_id in scheduled)


@ON_SQLITE
def test_a_scan_of_an_earlier_driver_keeps_what_was_pinned(serve: StartService) -> None:
    """A directory that changes between two attempts is refused, not scanned half and half."""
    service = serve(own_models=True, message_tokens=100, lease_s=600.0)
    service.start_ticker()
    worker = service.start_worker()
    scan_id = service.submit("subject0")
    service.until(lambda: service.scan(scan_id).done > 0, "something was observed")
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    (service.roots / "subject0" / "README.md").write_text("changed")
    service.start_worker()
    assert service.ended(scan_id).error_code == "TS-ERR-142"
