from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, update

from app.core.tables import Audit, Chunk
from tests.api.conftest import WISH
from tests.api.serving import Api
from tests.render import sample


@pytest.fixture
def client(api: Api) -> Iterator[httpx.Client]:
    with api.client("scan:write", "report:read") as client:
        yield client


@pytest.fixture
def scan_id(client: httpx.Client) -> str:
    submitted: str = client.post("/v1/scans", json=WISH).json()["id"]
    return submitted


def test_progress_and_attempts_are_told_and_no_verdict_before_the_end(
    api: Api, client: httpx.Client, scan_id: str
) -> None:
    api.change(scan_id, state="running", phase="trigger_sweep", done=30.0, total=120.0, eta_s=12.5, started=1000.0)
    with api.database.writing() as session:
        session.execute(update(Chunk).values(lease_version=2))
    body = client.get(f"/v1/scans/{scan_id}").json()
    assert body["progress"] == {"done": 30.0, "total": 120.0, "phase": "trigger_sweep", "eta_s": 12.5}
    assert (body["state"], body["verdict"], body["attempts"]) == ("running", None, 2)
    assert (body["started"], body["ended"]) == ("1970-01-01T00:16:40Z", None)


def test_a_finished_scan_tells_what_was_covered_and_found(api: Api, client: httpx.Client, scan_id: str) -> None:
    report, decision = sample.strong()
    digest = api.finish(scan_id, report, decision, subject_digest="a" * 64, base_digest="b" * 64)
    body = client.get(f"/v1/scans/{scan_id}").json()
    assert (body["state"], body["verdict"]) == ("succeeded", "strong_evidence")
    assert body["digests"] | {"subject_content": None, "base_content": None} == {
        "subject": "a" * 64,
        "base": "b" * 64,
        "subject_content": None,
        "base_content": None,
        "report": digest,
    }
    assert body["coverage"] == report.coverage.model_dump(mode="json")
    assert sum(body["findings"].values()) == len(report.findings)


def test_a_failed_scan_says_why(api: Api, client: httpx.Client, scan_id: str) -> None:
    api.change(scan_id, state="failed", error_code="TS-ERR-102", error_message="a pickle")
    assert client.get(f"/v1/scans/{scan_id}").json()["error"] == {"code": "TS-ERR-102", "message": "a pickle"}


def test_a_scan_that_has_not_changed_is_not_sent_again(api: Api, client: httpx.Client, scan_id: str) -> None:
    first = client.get(f"/v1/scans/{scan_id}")
    for known in (first.headers["ETag"], f'"x", {first.headers["ETag"]}', '"1"', "*"):
        again = client.get(f"/v1/scans/{scan_id}", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    api.change(scan_id, state="running")
    changed = client.get(f"/v1/scans/{scan_id}", headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.headers["ETag"]) == (200, 'W/"2"')


def test_a_waiting_scan_is_cancelled_at_once_and_cancelling_twice_is_the_same(
    api: Api, client: httpx.Client, scan_id: str
) -> None:
    for _ in range(2):
        answer = client.post(f"/v1/scans/{scan_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "canceled")
    with api.database.reading() as session:
        assert session.scalars(select(Chunk.state)).all() == ["failed"]


def test_a_running_scan_is_told_to_stop(api: Api, client: httpx.Client, scan_id: str) -> None:
    api.change(scan_id, state="running")
    with api.database.writing() as session:
        session.execute(update(Chunk).values(state="running"))
    body = client.post(f"/v1/scans/{scan_id}/cancel").json()
    assert (body["state"], body["cancel_requested"]) == ("running", True)


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_what_has_ended_cannot_be_cancelled(api: Api, client: httpx.Client, scan_id: str, state: str) -> None:
    api.change(scan_id, state=state)
    answer = client.post(f"/v1/scans/{scan_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "TS-ERR-605")
    assert not api.scan(scan_id).cancel_requested
    with api.database.reading() as session:
        assert session.scalars(select(Audit.action)).all() == ["scan.submit"]


@pytest.mark.parametrize(
    ("method", "place"),
    [("GET", ""), ("POST", "/cancel"), ("GET", "/report"), ("GET", "/events")],
)
def test_a_scan_that_is_not_there_is_not_found(client: httpx.Client, method: str, place: str) -> None:
    answer = client.request(method, f"/v1/scans/{'0' * 32}{place}")
    assert (answer.status_code, answer.json()["code"]) == (404, "TS-ERR-604")


def test_a_report_that_cannot_be_read_is_a_fault_of_the_machine(api: Api, client: httpx.Client, scan_id: str) -> None:
    digest = api.finish(scan_id, *sample.strong())
    (Path(api.settings.blobs) / digest[:2] / digest).write_bytes(b"{}")
    answer = client.get(f"/v1/scans/{scan_id}/report")
    assert (answer.status_code, answer.json()["code"]) == (503, "TS-ERR-202")
    assert digest not in answer.text
    assert str(api.settings.data_dir) not in answer.text
