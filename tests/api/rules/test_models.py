"""Models: every reference with its newest scan and report, and its history."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.rules.house import SUBJECT, House, report
from tests.service.conftest import DATABASES

pytestmark = pytest.mark.parametrize("house", DATABASES, indirect=True)


def listed(house: House, **params: Any) -> list[dict[str, Any]]:
    """All pages."""
    page = house.get("/v1/models", **params)
    items: list[dict[str, Any]] = page["items"]
    return items + (listed(house, **params | {"cursor": page["next"]}) if page["next"] else [])


def test_a_model_has_its_newest_scan_and_its_newest_report(house: House) -> None:
    amber = house.model("amber")
    house.scan(report("no_evidence"), model=amber)
    reported = house.scan(report(), model=amber)
    running = house.scan(model=amber, state="running", subject_digest=None)
    (one,) = house.get("/v1/models")["items"]
    assert (one["model"], one["scans"]) == (amber, 3)
    assert (one["newest"]["id"], one["newest"]["state"], one["newest"]["verdict"]) == (running, "running", None)
    assert (one["reported"]["id"], one["reported"]["verdict"]) == (reported, "suspicious")
    assert one["reported"]["subject_digest"] == SUBJECT


def test_a_model_without_a_report_says_so(house: House) -> None:
    house.scan(state="failed")
    (one,) = house.get("/v1/models")["items"]
    assert (one["newest"]["state"], one["reported"]) == ("failed", None)


def test_models_come_in_pages_in_the_order_of_their_references(house: House) -> None:
    found = report("no_evidence")
    models = [house.model(f"team/{'m' * 180}-{number}") for number in range(7)]
    for model in [*models, *reversed(models)]:
        house.scan(found, model=model)
    items = listed(house, limit=3)
    assert [one["model"] for one in items] == models
    assert {one["scans"] for one in items} == {2}
    first = house.call("GET", "/v1/models?limit=3", "report:read")
    assert 'rel="next"' in first.headers["link"]


def test_a_cursor_of_nobody_is_refused(house: House) -> None:
    for cursor in ("x", "W10", "WzEuMCwgIm5vIl0"):
        answer = house.call("GET", "/v1/models", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "TS-ERR-601")


def test_a_history_is_asked_for_by_the_reference_with_its_slashes(house: House) -> None:
    amber = house.model("team/amber")
    scans = [house.scan(report(seed=number), model=amber) for number in range(3)]
    house.scan(report())
    page = house.get("/v1/models/scans", model=amber, limit=2)
    assert [one["id"] for one in page["items"]] == [scans[2], scans[1]]
    rest = house.get("/v1/models/scans", model=amber, limit=2, cursor=page["next"])
    assert [one["id"] for one in rest["items"]] == [scans[0]]
    assert rest["next"] is None


def test_a_model_that_nobody_scanned_has_no_history(house: House) -> None:
    answer = house.call("GET", "/v1/models/scans", params={"model": "team/\u202enobody"})
    assert answer.status_code == 404
    assert answer.json()["detail"].isprintable()
    assert house.call("GET", "/v1/models/scans", params={"model": "a\0b"}).status_code == 422
    assert house.call("GET", "/v1/models/scans").status_code == 422
