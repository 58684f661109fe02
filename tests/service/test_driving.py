"""From a submitted scan to a report on file, by real workers: the same report as a scan on this machine."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import psutil
import pytest

from app.core.scanning import Job, run_job
from detectors.errors import ArchitectureMismatch, ReferenceOutsideRoots
from tests.engine.tiny import make_tiny_model
from tests.service.conftest import StartService
from tests.service.serving import Service, plain, worker_child
from tests.workers.conftest import gone, read_report


def local_report(service: Service, model: str, directory: Path) -> dict[str, object]:
    """What a scan without a queue says, from observations of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOUCHSTONE_CACHE_DIR", str(directory / "cache"))
        patch.setenv("TOUCHSTONE_THREADS", "1")
        patch.setenv("TOUCHSTONE_MESSAGE_TOKENS", str(service.settings.message_tokens))
        fields = {"model": str(service.roots / model), "base": str(service.roots / "base"), "out": str(directory)}
        run_job(Job(task="scan", suite="smoke", seed=3, dtype="float32", device="cpu", **fields))
    return plain(read_report(directory))


def test_one_worker_says_what_a_local_scan_says(serve: StartService, tmp_path: Path) -> None:
    service = serve()
    service.start_ticker()
    service.start_worker()
    scan_id = service.submit("subject0", labels=("team",))
    found = service.succeeded(scan_id)
    assert plain(service.report(scan_id)) == local_report(service, "subject0", tmp_path / "local")
    assert found.verdict == "inconclusive"
    assert found.done == pytest.approx(found.total, rel=0.2)
    assert None not in (found.started, found.ended, found.subject_pin, found.base_pin, found.subject_content)
    assert {chunk.state for chunk in service.chunks(scan_id)} == {"done"}
    assert all(chunk.body is None for chunk in service.chunks(scan_id))

    again = service.succeeded(service.submit("subject0"))
    assert (again.reused_from, again.report_digest, again.verdict) == (scan_id, found.report_digest, found.verdict)
    other = service.succeeded(service.submit("subject0", seed=4))
    assert other.reused_from is None


def test_two_workers_share_a_scan_and_say_the_same(serve: StartService, tmp_path: Path) -> None:
    service = serve(message_tokens=500)
    service.start_ticker()
    for _ in range(2):
        service.start_worker()
    scan_id = service.submit("subject1")
    service.succeeded(scan_id)
    assert plain(service.report(scan_id)) == local_report(service, "subject1", tmp_path / "local")
    pieces = [chunk for chunk in service.chunks(scan_id) if chunk.kind == "observe"]
    assert len({chunk.worker for chunk in pieces}) == 2
    assert all(chunk.attempts == 1 for chunk in pieces)


def test_what_cannot_be_scanned_fails_with_its_code(serve: StartService) -> None:
    service = serve()
    make_tiny_model(service.roots / "wide", d_model=64)
    service.start_ticker()
    service.start_worker()
    wrong = service.ended(service.submit("wide"))
    assert (wrong.state, wrong.error_code, wrong.verdict) == ("failed", ArchitectureMismatch.code, None)
    outside = service.ended(service.submit("/etc"))
    assert (outside.state, outside.error_code) == ("failed", ReferenceOutsideRoots.code)
    assert wrong.report_digest is outside.report_digest is None
    service.succeeded(service.submit("subject0"))


def test_a_base_that_was_replaced_is_loaded_again(serve: StartService) -> None:
    """Its host is warm, and the new files lie where the old ones lay."""
    service = serve()
    service.start_ticker()
    service.start_worker()
    service.succeeded(service.submit("base"))
    shutil.rmtree(service.roots / "base")
    make_tiny_model(service.roots / "base", seed=7)
    shutil.rmtree(service.roots / "subject0")
    make_tiny_model(service.roots / "subject0", seed=7)
    scan_id = service.submit("subject0")
    service.succeeded(scan_id)
    sweep = service.report(scan_id).results[0]
    assert {abs(evidence.value) for evidence in sweep.evidence} <= {0.0}


def test_a_report_that_is_gone_is_not_reused(serve: StartService) -> None:
    service = serve()
    service.start_ticker()
    service.start_worker()
    service.succeeded(service.submit("subject0"))
    shutil.rmtree(service.settings.blobs)
    again = service.submit("subject0")
    assert service.succeeded(again).reused_from is None
    assert service.report(again).outcomes()


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


def test_people_come_before_schedules(serve: StartService) -> None:
    service = serve()
    service.start_ticker()
    scheduled = [service.submit("/nowhere", queue="schedules", seed=seed) for seed in range(4)]
    asked = [service.submit("/nowhere", seed=seed) for seed in range(4)]
    service.start_worker()
    last = max(service.ended(scan_id).ended or 0 for scan_id in asked)
    assert all((service.ended(scan_id).ended or 0) > last for scan_id in scheduled)


def test_a_scan_of_an_earlier_driver_keeps_what_was_pinned(serve: StartService) -> None:
    """A directory that changes between two attempts is refused, not scanned half and half."""
    service = serve(message_tokens=100, lease_s=600.0)
    service.start_ticker()
    worker = service.start_worker()
    scan_id = service.submit("subject0")
    service.until(lambda: service.scan(scan_id).done > 0, "something was observed")
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    (service.roots / "subject0" / "README.md").write_text("changed")
    service.start_worker()
    assert service.ended(scan_id).error_code == "TS-ERR-142"
