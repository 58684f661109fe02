"""The audit log: every change and every decision, and no secrets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.api.rules.house import House, report

SOON = (datetime.now(UTC) + timedelta(days=3)).isoformat()


def everything(house: House) -> list[str]:
    """Does everything that changes something, once; the secrets that came of it."""
    scan = house.scan(report())
    key = house.call("POST", "/v1/keys", json={"name": "new", "scopes": ["report:read"]}).json()
    rotated = house.call("POST", f"/v1/keys/{key['id']}/rotate", json={}).json()
    house.call("DELETE", f"/v1/keys/{key['id']}")
    house.call("PUT", "/v1/policies/team", content="name: team\n")
    house.call("DELETE", "/v1/policies/team")
    body = {"finding_code": "TS-COND-001", "reason": "style", "owner": "ana", "expires": SOON}
    made = house.call("POST", "/v1/suppressions", json=body).json()
    house.call("DELETE", f"/v1/suppressions/{made['id']}")
    link = house.call("POST", "/v1/share-links", json={"scan_id": scan}).json()
    house.api.get(link["path"])
    house.call("DELETE", f"/v1/share-links/{link['id']}")
    house.call("GET", "/v1/gate", params={"model": house.model("amber")})
    return [key["key"], rotated["key"], link["path"].removeprefix("/s/"), *house.texts.values()]


def pages(house: House, **params: Any) -> list[dict[str, Any]]:
    page = house.get("/v1/audit", "admin", **params)
    items: list[dict[str, Any]] = page["items"]
    return items + (pages(house, **params | {"cursor": page["next"]}) if page["next"] else [])


def test_every_change_and_decision_is_in_it_and_no_secret(house: House) -> None:
    secrets = everything(house)
    rows = pages(house)
    assert [row["action"] for row in reversed(rows)] == [
        "scan.submit",
        "key.create",
        "key.rotate",
        "key.revoke",
        "policy.put",
        "policy.delete",
        "suppression.create",
        "suppression.revoke",
        "share_link.create",
        "share_link.view",
        "share_link.revoke",
        "gate.ask",
    ]
    assert {row["actor"] for row in rows} == {house.keys["admin"].id, "anyone"}
    text = str(rows)
    for secret in secrets:
        assert secret not in text
        assert secret.rpartition("_")[2] not in text


def test_it_comes_in_pages_the_newest_first(house: House) -> None:
    everything(house)
    rows = pages(house)
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert pages(house, limit=5) == rows


def test_it_is_filtered(house: House) -> None:
    everything(house)
    assert [row["action"] for row in pages(house, action="policy.put")] == ["policy.put"]
    assert {row["object"] for row in pages(house, object="team")} == {"team"}
    assert [row["action"] for row in pages(house, actor="anyone")] == ["share_link.view"]
    assert pages(house, actor="nobody") == []


def test_only_administrators_read_it(house: House) -> None:
    for scope in ("report:read", "scan:write"):
        assert house.call("GET", "/v1/audit", scope).status_code == 403


def test_a_cursor_of_another_list_is_refused(house: House) -> None:
    house.scan(report())
    house.scan(report())
    other = house.get("/v1/scans", limit=1)["next"]
    assert house.call("GET", "/v1/audit", params={"cursor": other}).status_code == 422


def test_a_request_that_fails_leaves_no_row(house: House) -> None:
    house.call("PUT", "/v1/policies/team", content="name: team\nstong: []\n")
    house.call("POST", "/v1/suppressions", json={})
    house.call("GET", "/v1/gate", params={"model": "no-such-model"})
    assert pages(house) == []
