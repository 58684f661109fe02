from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from app.core.tables import Audit, Chunk
from tests.api.conftest import WISH, StartApi
from tests.api.serving import Api
from tests.render import sample

COMMITS = {"model": f"hf:acme/tuned@{'a' * 40}", "base": f"hf:acme/base@{'b' * 40}"}


def test_a_scan_is_accepted_and_kept(api: Api) -> None:
    with api.client("scan:write") as client:
        answer = client.post("/v1/scans", json=WISH | {"labels": ["team:a", "team:a"], "seed": 7})
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/scans/{body['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["ETag"] == 'W/"1"'
    assert (body["state"], body["verdict"], body["seed"], body["attempts"]) == ("queued", None, 7, 0)
    assert body["coverage"] is None
    kept = api.scan(body["id"])
    assert (kept.model, kept.base, kept.suite, kept.queue) == ("amber", "base", "smoke", "people")


def test_workers_are_told_after_it_is_kept(api: Api) -> None:
    with api.client("scan:write") as client:
        scan_id = client.post("/v1/scans", json=WISH).json()["id"]
    with api.database.reading() as session:
        chunk = session.scalars(select(Chunk).where(Chunk.scan_id == scan_id)).one()
    assert (chunk.kind, chunk.state) == ("drive", "queued")
    assert chunk.published > 0


def test_a_scan_is_accepted_while_the_broker_is_away(start: StartApi) -> None:
    api = start(broker_url=SecretStr("redis://127.0.0.1:1/0"))
    with api.client("scan:write") as client:
        assert client.post("/v1/scans", json=WISH).status_code == 202
    assert api.count() == 1


def test_who_submitted_is_noted(api: Api) -> None:
    with api.client("scan:write") as client:
        scan_id = client.post("/v1/scans", json=WISH).json()["id"]
    with api.database.reading() as session:
        noted = session.scalars(select(Audit).where(Audit.object == scan_id)).one()
    assert (noted.action, noted.actor) == ("scan.submit", api.scan(scan_id).key_id)


def submit_at_once(api: Api, times: int) -> list[tuple[int, Any]]:
    with api.client("scan:write", **{"Idempotency-Key": "deploy-17"}) as client, ThreadPoolExecutor(times) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/scans", json=WISH), range(times)))
    return [(answer.status_code, answer.json()) for answer in answers]


def test_one_idempotency_key_twenty_times_in_parallel_is_one_scan(either: Api) -> None:
    answers = submit_at_once(either, 20)
    assert {status for status, _ in answers} == {202}
    assert all(body == answers[0][1] for _, body in answers)
    assert either.count() == 1


def test_an_idempotency_key_with_another_body_is_a_conflict(api: Api) -> None:
    with api.client("scan:write", **{"Idempotency-Key": "k"}) as client:
        client.post("/v1/scans", json=WISH)
        answer = client.post("/v1/scans", json=WISH | {"seed": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "TS-ERR-605")
    assert api.count() == 1


def test_idempotency_keys_of_two_callers_have_nothing_to_do_with_each_other(api: Api) -> None:
    for _ in range(2):
        with api.client("scan:write", **{"Idempotency-Key": "k"}) as client:
            client.post("/v1/scans", json=WISH)
    assert api.count() == 2


def test_a_repeated_request_is_answered_though_the_model_is_gone(api: Api) -> None:
    with api.client("scan:write", **{"Idempotency-Key": "k"}) as client:
        first = client.post("/v1/scans", json=WISH)
        (root,) = api.settings.roots
        (root / "amber").rename(root / "gone")
        assert client.post("/v1/scans", json=WISH).json() == first.json()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "nowhere"}, "TS-ERR-101"),
        ({"base": "nowhere"}, "TS-ERR-101"),
        ({"model": "/etc"}, "TS-ERR-141"),
        ({"model": "a/../b"}, "TS-ERR-141"),
        ({"model": "hf:acme/tuned"}, "TS-ERR-140"),
        ({"model": "s3://bucket/model"}, "TS-ERR-140"),
        ({"model": "a\x00b"}, "TS-ERR-101"),
        ({"suite": "thorough"}, "TS-ERR-601"),
        ({"policy": "lenient"}, "TS-ERR-130"),
        ({"policy": "../default"}, "TS-ERR-601"),
        ({"seed": -1}, "TS-ERR-601"),
        ({"labels": ["two words"]}, "TS-ERR-601"),
        ({"expected": [{"context": ""}]}, "TS-ERR-601"),
        ({"sede": 1}, "TS-ERR-601"),
    ],
)
def test_a_wrong_wish_fails_the_request_and_creates_nothing(shared: Api, change: dict[str, Any], code: str) -> None:
    with shared.client("scan:write") as client:
        for dry_run in (False, True):
            answer = client.post("/v1/scans", json=WISH | change, params={"dry_run": dry_run})
            assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert shared.count() == 0


def test_fields_that_are_wrong_are_listed(shared: Api) -> None:
    with shared.client("scan:write") as client:
        body = client.post("/v1/scans", json={"seed": "x", "\u202ename": 1}).json()
    assert {one["field"] for one in body["errors"]} >= {"body.model", "body.seed"}
    assert "\u202e" not in str(body)


def test_the_queue_of_a_key_is_bounded(start: StartApi) -> None:
    api = start(open_scans_per_key=2)
    with api.client("scan:write") as client:
        answers = [client.post("/v1/scans", json=WISH, headers={"Idempotency-Key": str(n)}) for n in range(3)]
        again = client.post("/v1/scans", json=WISH, headers={"Idempotency-Key": "0"})
        refused = answers[2]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert again.status_code == 202  # what was accepted before is not counted against the limit
        assert int(refused.headers["Retry-After"]) > 0
        assert api.count() == 2
        api.change(answers[0].json()["id"], state="failed")
        assert client.post("/v1/scans", json=WISH).status_code == 202
    with api.client("scan:write") as client:
        assert client.post("/v1/scans", json=WISH).status_code == 202


def test_a_caller_may_wait_for_the_end(api: Api) -> None:
    with api.client("scan:write") as client, ThreadPoolExecutor(1) as pool:
        key = {"Idempotency-Key": "k", "Prefer": "respond-async, wait=30"}
        scan_id = client.post("/v1/scans", json=WISH, headers={"Idempotency-Key": "k"}).json()["id"]
        waiting = pool.submit(client.post, "/v1/scans", json=WISH, headers=key)
        api.finish(scan_id, *sample.strong())
        answer = waiting.result()
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.json()["verdict"] == "strong_evidence"


def test_who_waited_in_vain_is_told_to_come_again(api: Api) -> None:
    with api.client("scan:write", Prefer="wait=1") as client:
        answer = client.post("/v1/scans", json=WISH)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert "Retry-After" in answer.headers


def test_a_dry_run_says_what_is_known_and_creates_nothing(api: Api) -> None:
    with api.client("scan:write") as client:
        by_query = client.post("/v1/scans?dry_run=true", json=WISH)
        by_body = client.post("/v1/scans", json=WISH | {"dry_run": True})
    body = by_query.json()
    assert by_query.status_code == by_body.status_code == 200
    assert by_body.json() == body
    assert (body["suite"], body["contexts"], body["reuses"]) == ("smoke", 120, None)
    assert body["work"] > 0
    assert (body["minutes"], body["minutes_from"]) == (None, 0)
    assert body["model"]["pinned"] == str(api.settings.roots[0] / "amber")
    assert api.count() == 0


def test_a_dry_run_learns_its_speed_from_recent_scans(api: Api) -> None:
    with api.client("scan:write") as client:
        for seconds in (60, 120, 600):
            scan_id = client.post("/v1/scans", json=WISH).json()["id"]
            api.change(scan_id, state="succeeded", started=1000.0, ended=1000.0 + seconds)
        body = client.post("/v1/scans?dry_run=true", json=WISH).json()
    assert (body["minutes"], body["minutes_from"]) == (2.0, 3)


def finished(api: Api, wish: dict[str, Any], pins: dict[str, Any]) -> str:
    """A scan that has ended, of contents that are known."""
    with api.client("scan:write") as client:
        scan_id: str = client.post("/v1/scans", json=wish).json()["id"]
    api.finish(scan_id, *sample.strong(), subject_content="c" * 64, base_content="d" * 64, **pins)
    return scan_id


def pin(reference: str, pinned: str, revision: str) -> dict[str, str]:
    return {"kind": "hub", "reference": reference, "pinned": pinned, "revision": revision}


PINS = {
    "subject_pin": pin("hf:acme/tuned@v1", COMMITS["model"], "a" * 40),
    "base_pin": pin("hf:acme/base", COMMITS["base"], "b" * 40),
}


@pytest.fixture
def online(start: StartApi) -> Api:
    return start(hub_enabled=True, hub_endpoint="http://127.0.0.1:1")


def test_two_commits_with_a_report_are_answered_at_once(online: Api) -> None:
    earlier = finished(online, {"model": "hf:acme/tuned@v1", "base": "hf:acme/base", "suite": "smoke"}, PINS)
    with online.client("scan:write") as client:
        answer = client.post("/v1/scans", json=COMMITS | {"suite": "smoke"})
        body = answer.json()
    assert answer.status_code == 200
    assert "Retry-After" not in answer.headers
    assert (body["state"], body["reused_from"], body["verdict"]) == ("succeeded", earlier, "strong_evidence")
    assert body["id"] != earlier
    assert body["findings"]
    with online.database.reading() as session:
        (state,) = session.scalars(select(Chunk.state).where(Chunk.scan_id == body["id"]))
    assert state == "done"


@pytest.mark.parametrize("change", [{"seed": 1}, {"suite": "quick"}, {"model": "hf:acme/tuned@v1"}])
def test_another_scan_is_not_answered_by_it(online: Api, change: dict[str, Any]) -> None:
    finished(online, {"model": "hf:acme/tuned@v1", "base": "hf:acme/base", "suite": "smoke"}, PINS)
    with online.client("scan:write") as client:
        answer = client.post("/v1/scans", json=COMMITS | {"suite": "smoke"} | change)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")


def test_a_directory_is_never_answered_at_once_but_a_dry_run_tells(api: Api) -> None:
    with api.client("scan:write") as client:
        said = client.post("/v1/scans?dry_run=true", json=WISH).json()
        earlier = finished(api, WISH, {"subject_pin": said["model"], "base_pin": said["base"]})
        assert client.post("/v1/scans", json=WISH).status_code == 202
        assert client.post("/v1/scans?dry_run=true", json=WISH).json()["reuses"] == earlier
        (root,) = api.settings.roots
        Path(root / "amber" / "config.json").write_text('{"changed": 1}')
        assert client.post("/v1/scans?dry_run=true", json=WISH).json()["reuses"] is None
