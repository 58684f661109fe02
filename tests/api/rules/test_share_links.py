"""Share links: one report, for a while, to whoever has the address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx import Response

from app.core.tables import ShareLink
from tests.api.rules.house import VIEWS, House, add_key, report, sha256
from tests.render.sample import HOSTILE

SOON = (datetime.now(UTC) + timedelta(days=30)).isoformat()


def make(house: House, scan: str, scope: str = "report:read", **fields: Any) -> dict[str, Any]:
    answer = house.call("POST", "/v1/share-links", scope, json={"scan_id": scan} | fields)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


def told(answer: Response) -> dict[str, Any]:
    """All of an answer but what is told to nobody else: the request's id."""
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    return body | headers | {"status_code": answer.status_code}


def test_whoever_has_the_address_sees_the_report(house: House) -> None:
    made = make(house, house.scan(report()))
    page = house.api.get(made["path"])
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "noindex" in page.headers["x-robots-tag"]
    assert page.headers["cache-control"] == "no-store"
    assert "sandbox allow-scripts; default-src 'none'" in page.headers["content-security-policy"]
    assert "Suspicious" in page.text


def test_the_page_shows_the_decision_of_today(house: House) -> None:
    made = make(house, house.scan(report()))
    body = {"finding_code": "TS-COND-001", "reason": HOSTILE.replace("\0", ""), "owner": "ana"}
    house.call("POST", "/v1/suppressions", json=body | {"expires": SOON})
    page = house.api.get(made["path"]).text
    assert "No evidence of a backdoor found" in page
    assert "<script>alert(1)</script>" not in page


def test_the_token_is_kept_as_a_hash(house: House) -> None:
    made = make(house, house.scan(report()))
    token = made["path"].removeprefix("/s/")
    assert len(token) == 43
    house.api.get(made["path"])
    with house.database.reading() as session:
        stored = str(vars(session.get_one(ShareLink, made["id"])))
    assert token not in stored
    assert sha256(token) in stored
    assert token not in house.call("GET", "/v1/audit").text + house.call("GET", "/v1/share-links").text


def test_views_are_counted_and_noted(house: House) -> None:
    made = make(house, house.scan(report()))
    for _ in range(3):
        house.api.get(made["path"])
    (listed,) = house.get("/v1/share-links")["items"]
    assert listed["views"] == 3
    rows = house.audited("share_link.view")
    assert [(row.actor, row.object, row.detail["address"]) for row in rows] == [("anyone", made["id"], "192.0.2.7")] * 3


def test_what_opens_nothing_is_the_same_for_everybody(house: House) -> None:
    scan = house.scan(report())
    add_key(house, "report:read", "leaver")
    ended, revoked, orphaned = make(house, scan, days=1), make(house, scan), make(house, scan, "leaver")
    house.call("DELETE", f"/v1/share-links/{revoked['id']}")
    house.call("DELETE", f"/v1/keys/{house.keys['leaver'].id}")
    house.pass_days(2)
    unknown = told(house.api.get("/s/" + "A" * 43))
    assert unknown["status_code"] == 404
    assert unknown["code"] == "TS-ERR-604"
    assert unknown["referrer-policy"] == "no-referrer"
    for path in (ended["path"], revoked["path"], orphaned["path"], "/s/x", "/s/" + "A" * 5_000, "/s/%00%ff"):
        assert told(house.api.get(path)) == unknown
    assert house.audited("share_link.view") == []


def test_a_link_lives_for_a_week_unless_said_otherwise(house: House) -> None:
    scan = house.scan(report())
    week, month = make(house, scan), make(house, scan, days=30)
    house.pass_days(6.9)
    assert house.api.get(week["path"]).status_code == 200
    house.pass_days(0.2)
    assert house.api.get(week["path"]).status_code == 404
    assert house.api.get(month["path"]).status_code == 200


@pytest.mark.parametrize("days", [0, 31, -1, 1.5])
def test_no_link_lives_for_ever(house: House, days: float) -> None:
    answer = house.call("POST", "/v1/share-links", json={"scan_id": house.scan(report()), "days": days})
    assert answer.status_code == 422


def test_only_a_report_can_be_shared(house: House) -> None:
    running = house.call("POST", "/v1/share-links", json={"scan_id": house.scan(state="running")})
    assert running.status_code == 409
    assert "is running and has no report" in running.json()["detail"]
    assert house.call("POST", "/v1/share-links", json={"scan_id": "0" * 32}).status_code == 404
    assert house.call("POST", "/v1/share-links", json={"scan_id": "x"}).status_code == 422


def test_a_key_sees_and_revokes_its_own_links(house: House) -> None:
    scan = house.scan(report())
    add_key(house, "report:read", "other")
    made = make(house, scan)
    assert house.get("/v1/share-links", "other")["items"] == []
    assert house.call("DELETE", f"/v1/share-links/{made['id']}", "other").status_code == 404
    assert house.api.get(made["path"]).status_code == 200
    assert [one["id"] for one in house.get("/v1/share-links", "admin")["items"]] == [made["id"]]
    first = house.call("DELETE", f"/v1/share-links/{made['id']}")
    assert first.status_code == 200
    assert house.call("DELETE", f"/v1/share-links/{made['id']}").json() == first.json()
    assert len(house.audited("share_link.revoke")) == 1
    assert house.api.get(made["path"]).status_code == 404


def test_submitting_is_not_reading(house: House) -> None:
    answer = house.call("POST", "/v1/share-links", "scan:write", json={"scan_id": house.scan(report())})
    assert answer.status_code == 403


def test_tokens_cannot_be_tried_out(house: House) -> None:
    answers = [house.api.get(f"/s/{'A' * 40}{number:03}") for number in range(VIEWS + 2)]
    assert [answer.status_code for answer in answers] == [404] * VIEWS + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1
