"""Suppressions of the service: made, ended, revoked; verdicts follow at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import Response

from app.core.ticker import decide_again
from tests.api.rules.house import SUBJECT, House, report
from tests.render.sample import HOSTILE

DAY = timedelta(days=1)


def wish(**changes: Any) -> dict[str, Any]:
    fields = {
        "finding_code": "TS-COND-001",
        "reason": "House style of support.",
        "owner": "ana",
        "expires": (datetime.now(UTC) + 30 * DAY).isoformat(),
    }
    return fields | changes


def make(house: House, **changes: Any) -> Response:
    return house.call("POST", "/v1/suppressions", json=wish(**changes))


def test_a_suppression_decides_again_at_once(house: House) -> None:
    scan = house.scan(report())
    assert house.read(scan).verdict == "suspicious"
    answer = make(house)
    assert answer.status_code == 201
    assert answer.json()["redecided"] == {"scans": 1, "changed": 1, "pending": False}
    assert house.read(scan).verdict == "no_evidence"
    told = house.get(f"/v1/scans/{scan}/report")["decision"]
    assert [(one["owner"], one["reason"]) for one in told["suppressed"]] == [("ana", "House style of support.")]


def test_what_it_covered_counts_again_when_it_is_revoked(house: House) -> None:
    scan = house.scan(report())
    made = make(house).json()
    answer = house.call("DELETE", f"/v1/suppressions/{made['id']}")
    assert answer.json()["redecided"]["changed"] == 1
    assert house.read(scan).verdict == "suspicious"
    again = house.call("DELETE", f"/v1/suppressions/{made['id']}").json()
    assert again["revoked"] == answer.json()["revoked"]
    assert len(house.audited("suppression.revoke")) == 1
    assert house.call("DELETE", f"/v1/suppressions/{'0' * 32}").status_code == 404


def test_what_it_covered_counts_again_when_it_ends(house: House) -> None:
    scan = house.scan(report())
    make(house, expires=(datetime.now(UTC) + DAY).isoformat())
    decide_again(house.database, house.blobs)
    assert house.read(scan).verdict == "no_evidence"
    house.pass_days(1)
    decide_again(house.database, house.blobs)
    assert house.read(scan).verdict == "suspicious"
    version = house.read(scan).version
    decide_again(house.database, house.blobs)
    assert house.read(scan).version == version


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"trigger": "Antworte knapp."}, "no_evidence"),
        ({"trigger": "Antworte"}, "suspicious"),
        ({"subject_digest": SUBJECT}, "no_evidence"),
        ({"subject_digest": f"sha256:{SUBJECT}"}, "no_evidence"),
        ({"subject_digest": "d" * 64}, "suspicious"),
        ({"finding_code": "TS-TRIG-001"}, "suspicious"),
    ],
)
def test_it_covers_what_it_names(house: House, changes: dict[str, str], verdict: str) -> None:
    scan = house.scan(report())
    assert make(house, **changes).status_code == 201
    assert house.read(scan).verdict == verdict


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"finding_code": "TS-COND-999"}, "must name some of"),
        ({"finding_code": ""}, "must name some of"),
        ({"reason": ""}, "body.reason"),
        ({"reason": " \n "}, "reason"),
        ({"owner": ""}, "body.owner"),
        ({"owner": "x" * 1_001}, "body.owner"),
        ({"trigger": "a\0b"}, "body.trigger"),
        ({"subject_digest": "latest"}, "body.subject_digest"),
        ({"expires": (datetime.now(UTC) + 366 * DAY).isoformat()}, "within 365 days"),
        ({"expires": (datetime.now(UTC) - DAY).isoformat()}, "within 365 days"),
        ({"expires": "2031-01-01T00:00:00"}, "timezone"),
        ({"expires": None}, "body.expires"),
        ({"created": "2001-01-01T00:00:00Z"}, "body.created"),
    ],
)
def test_one_that_nobody_answers_for_is_refused(house: House, changes: dict[str, Any], says: str) -> None:
    scan = house.scan(report())
    answer = make(house, **changes)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert house.get("/v1/suppressions")["items"] == []
    assert house.read(scan).verdict == "suspicious"


def test_a_callers_clock_may_be_ahead_by_minutes(house: House) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    made = make(house, expires=(ahead + 365 * DAY).isoformat()).json()
    created, expires = (datetime.fromisoformat(made[name]) for name in ("created", "expires"))
    assert expires - created == 365 * DAY
    assert house.get("/v1/suppressions", in_force=True)["items"][0]["id"] == made["id"]


def test_a_callers_clock_may_be_behind_by_minutes(house: House) -> None:
    behind = datetime.now(UTC) - timedelta(minutes=5)
    made = make(house, expires=(behind + DAY).isoformat())
    assert made.status_code == 201
    assert datetime.fromisoformat(made.json()["created"]) > behind


def test_hostile_text_is_kept_as_it_is_and_obeyed_by_nobody(house: House) -> None:
    text = HOSTILE.replace("\0", "")
    scan = house.scan(report())
    made = make(house, reason=text, owner=text, trigger="Antworte knapp.").json()
    assert (made["reason"], made["owner"]) == (text.strip(), text.strip())
    page = house.call("GET", f"/v1/scans/{scan}/report", headers={"Accept": "text/html"}).text
    assert "<script>alert(1)</script>" not in page
    assert "\u202e" not in page


def test_half_a_character_is_refused(house: House) -> None:
    body = '{"finding_code": "TS-COND-001", "reason": "\\ud800", "owner": "a", "expires": "2031-01-01T00:00:00Z"}'
    answer = house.call("POST", "/v1/suppressions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"].isprintable()


def test_the_list_shows_what_is_in_force(house: House) -> None:
    short = make(house, expires=(datetime.now(UTC) + DAY).isoformat()).json()["id"]
    gone, long = (make(house).json()["id"] for _ in range(2))
    house.call("DELETE", f"/v1/suppressions/{gone}")
    house.pass_days(2)
    assert [one["id"] for one in house.get("/v1/suppressions")["items"]] == [long, gone, short]
    assert [one["id"] for one in house.get("/v1/suppressions", in_force=True)["items"]] == [long]


def test_only_administrators_suppress(house: House) -> None:
    for scope in ("report:read", "scan:write"):
        assert house.call("POST", "/v1/suppressions", scope, json=wish()).status_code == 403
