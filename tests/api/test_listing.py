from __future__ import annotations

from collections.abc import Iterator, Sequence

import httpx
import pytest
from sqlalchemy import select

from app.api.pages import decode_cursor, encode_cursor
from app.core.tables import Key, Label, Scan
from detectors.errors import InvalidRequest
from tests.api.conftest import WISH
from tests.api.serving import Api, row


@pytest.fixture
def reader(either: Api) -> Iterator[httpx.Client]:
    with either.client("report:read") as client:
        yield client


def add(api: Api, scans: Sequence[Scan]) -> list[str]:
    with api.database.writing() as session:
        session.add_all(scans)
    return [scan.id for scan in scans]


def key_id(api: Api) -> str:
    api.key("admin")
    with api.database.reading() as session:
        return session.scalars(select(Key.id).limit(1)).one()


def test_a_walk_sees_every_scan_once_though_others_come_and_times_are_equal(either: Api, reader: httpx.Client) -> None:
    mine = key_id(either)
    there = add(either, [row(mine, 1000.0 + index // 4) for index in range(23)])
    seen, url = [], "/v1/scans?limit=5&state=queued"
    while url:
        answer = reader.get(url)
        seen += [item["id"] for item in answer.json()["items"]]
        add(either, [row(mine, 5000.0)])
        url = answer.links.get("next", {}).get("url", "")
    assert len(seen) == len(set(seen))
    assert set(seen) == set(there)
    created = {scan_id: 1000.0 + index // 4 for index, scan_id in enumerate(there)}
    assert [created[scan_id] for scan_id in seen] == sorted(created.values(), reverse=True)


def test_the_last_page_has_no_next(either: Api, reader: httpx.Client) -> None:
    add(either, [row(key_id(either), 1000.0) for _ in range(3)])
    whole = reader.get("/v1/scans?limit=3")
    assert (len(whole.json()["items"]), whole.json()["next"]) == (3, None)
    assert "Link" not in whole.headers
    first = reader.get("/v1/scans?limit=2").json()
    assert len(reader.get("/v1/scans", params={"limit": 2, "cursor": first["next"]}).json()["items"]) == 1


def test_filters(either: Api, reader: httpx.Client) -> None:
    mine = key_id(either)
    bad, amber, done = add(
        either,
        [
            row(mine, 1.0, state="succeeded", verdict="suspicious"),
            row(mine, 2.0, model="hf:acme/tuned"),
            row(mine, 3.0, state="failed"),
        ],
    )
    with either.database.writing() as session:
        session.add_all([Label(scan_id=done, label="team:a"), Label(scan_id=bad, label="team:b")])
    for query, wanted in (
        ({"verdict": "suspicious"}, [bad]),
        ({"model": "hf:acme/tuned"}, [amber]),
        ({"state": "failed"}, [done]),
        ({"label": "team:a"}, [done]),
        ({"label": "team:a", "state": "queued"}, []),
        ({}, [done, amber, bad]),
    ):
        assert [item["id"] for item in reader.get("/v1/scans", params=query).json()["items"]] == wanted, query


def test_labels_of_a_submission_are_found(either: Api, reader: httpx.Client) -> None:
    with either.client("scan:write") as client:
        scan_id = client.post("/v1/scans", json=WISH | {"labels": ["team:a", "ci"]}).json()["id"]
    (item,) = reader.get("/v1/scans?label=ci").json()["items"]
    assert (item["id"], item["labels"]) == (scan_id, ["team:a", "ci"])


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "cursor=%00", "cursor=bm9uZQ", "state=lost", "verdict=clean", "model=%00", "cursor="],
)
def test_a_wrong_query_is_a_problem(shared: Api, query: str) -> None:
    with shared.client("report:read") as client:
        answer = client.get(f"/v1/scans?{query}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")


def test_a_cursor_comes_back_as_it_went() -> None:
    assert decode_cursor(encode_cursor(1763746123.123456789, "ab")) == (1763746123.123456789, "ab")


@pytest.mark.parametrize("text", ["", "bm9uZQ", "WzEsMl0", "W05hTiwgImEiXQ", "WzEuMCwgImFcdTAwMDAiXQ", "W1tbW1tb"])
def test_a_cursor_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        decode_cursor(text)
