from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from app.api.reports import negotiate
from app.core.render.formats import FORMATS
from app.core.tables import PolicyRow, Suppression
from detectors.errors import NotAcceptable
from tests.api.conftest import WISH
from tests.api.serving import Api
from tests.render import sample


@pytest.fixture
def client(api: Api) -> Iterator[httpx.Client]:
    with api.client("scan:write", "report:read") as client:
        yield client


@pytest.fixture
def place(api: Api, client: httpx.Client) -> str:
    """Where the report of a finished scan is."""
    scan_id = client.post("/v1/scans", json=WISH).json()["id"]
    api.finish(scan_id, *sample.strong())
    return f"/v1/scans/{scan_id}/report"


@pytest.mark.parametrize("name", FORMATS)
def test_every_form_by_its_media_type_and_by_its_name(client: httpx.Client, place: str, name: str) -> None:
    form = FORMATS[name]
    accepted = client.get(place, headers={"Accept": form.media_type})
    named = client.get(place, params={"format": name})
    assert accepted.status_code == named.status_code == 200
    assert accepted.headers["Content-Type"].partition(";")[0] == form.media_type
    assert accepted.content == named.content
    assert "Accept" in accepted.headers["Vary"]


def test_the_json_form_is_the_report_and_the_decision(client: httpx.Client, place: str) -> None:
    report, decision = sample.strong()
    body = client.get(place).json()
    assert body["report"] == json.loads(report.model_dump_json())
    assert body["decision"]["verdict"] == decision.verdict


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("*/*", "json"),
        ("application/json", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html"),
        ("application/xml, application/sarif+json;q=0.2", "junit"),
        ("text/csv, text/markdown;q=0.1", "markdown"),
        ("application/json;q=0, text/markdown", "markdown"),
        ("TEXT/HTML ; q=1.0", "html"),
        ("text/*", "text"),
        ("text/html;q=x, application/vnd.in-toto+json", "in-toto"),
        ("", "json"),
    ],
)
def test_negotiation(accept: str, name: str) -> None:
    assert negotiate(accept) == name


@pytest.mark.parametrize("accept", ["text/csv", "application/json;q=0", "image/*", "*/*;q=0"])
def test_what_cannot_be_given_is_not_acceptable(client: httpx.Client, place: str, accept: str) -> None:
    answer = client.get(place, headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "TS-ERR-607")
    assert "application/sarif+json" in answer.json()["detail"]
    with pytest.raises(NotAcceptable):
        negotiate(accept)


def test_a_page_of_a_report_can_do_nothing_but_show_itself(client: httpx.Client, place: str) -> None:
    headers = client.get(place, params={"format": "html"}).headers
    assert "sandbox allow-scripts;" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "allow-same-origin" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_same_report_is_not_sent_twice(client: httpx.Client, place: str) -> None:
    tag = client.get(place).headers["ETag"]
    assert client.get(place, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(place, headers={"If-None-Match": tag}, params={"format": "sarif"}).status_code == 200


def test_a_suppression_shows_at_once_and_changes_the_tag(api: Api, client: httpx.Client, place: str) -> None:
    before = client.get(place)
    code = before.json()["report"]["findings"][0]["code"]
    with api.database.writing() as session:
        named = {"id": "1", "finding_code": code, "reason": "known", "owner": "team:a"}
        session.add(Suppression(**named, created=0.0, expires=86400.0))
    assert client.get(place).headers["ETag"] == before.headers["ETag"]  # it has expired long ago
    now = api.scan(place.split("/")[3]).created
    with api.database.writing() as session:
        session.add(Suppression(**named | {"id": "2"}, created=now - 60, expires=now + 86400.0))
    after = client.get(place)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert [one["code"] for one in after.json()["decision"]["suppressed"]] == [code]


def test_a_report_can_be_looked_at_under_another_policy(api: Api, client: httpx.Client, place: str) -> None:
    with api.database.writing() as session:
        text = "name: calm\nstrong: []\nsuspicious: [critical, high, medium]\n"
        session.add(PolicyRow(name="calm", text=text, changed=0.0))
    assert client.get(place, params={"policy": "calm"}).json()["decision"]["verdict"] == "suspicious"
    assert client.get(place).json()["decision"]["verdict"] == "strong_evidence"
    answer = client.get(place, params={"policy": "none-such"})
    assert (answer.status_code, answer.json()["code"]) == (422, "TS-ERR-130")


def test_a_report_that_is_asked_for_too_early_is_not_ready(client: httpx.Client) -> None:
    scan_id = client.post("/v1/scans", json=WISH).json()["id"]
    answer = client.get(f"/v1/scans/{scan_id}/report")
    assert (answer.status_code, answer.json()["code"]) == (409, "TS-ERR-606")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_a_scan_that_ended_without_a_report_never_has_one(api: Api, client: httpx.Client, state: str) -> None:
    scan_id = client.post("/v1/scans", json=WISH).json()["id"]
    api.change(scan_id, state=state, error_message="a pickle")
    answer = client.get(f"/v1/scans/{scan_id}/report")
    assert (answer.status_code, answer.json()["code"]) == (409, "TS-ERR-605")
    assert "Retry-After" not in answer.headers
    assert "a pickle" in answer.json()["detail"]
