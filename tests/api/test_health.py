from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.api.conftest import WISH, StartApi
from tests.api.serving import Api


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every value that is given out, by its name and labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_it_lives_and_is_ready(api: Api) -> None:
    with api.client() as client:
        for place in ("/livez", "/readyz"):
            answer = client.get(place)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_it_is_not_ready_without_its_broker(start: StartApi) -> None:
    api = start(broker_url=SecretStr("redis://:hunter2@127.0.0.1:1/0"))
    with api.client() as client:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "TS-ERR-207")
        assert "127.0.0.1" not in answer.text
        assert client.get("/livez").status_code == 200


def test_it_is_not_ready_without_its_tables(api: Api) -> None:
    with api.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE scan RENAME TO lost")
    with api.client() as client:
        assert client.get("/readyz").json()["code"] == "TS-ERR-204"


def test_metrics_count_the_queue_and_the_requests(api: Api) -> None:
    with api.client("scan:write", "report:read") as client:
        for _ in range(3):
            scan_id = client.post("/v1/scans", json=WISH).json()["id"]
        client.get(f"/v1/scans/{scan_id}")
        client.get("/v1/scans/nothing")
        api.change(scan_id, state="running")
        found = samples(client)
    assert value(found, "touchstone_scans", state="queued") == 2
    assert value(found, "touchstone_scans", state="running") == 1
    assert value(found, "touchstone_chunks", kind="drive", state="queued") == 3
    assert 0 < value(found, "touchstone_oldest_queued_seconds") < 3600
    assert value(found, "touchstone_database_up") == 1
    posted = {"method": "POST", "route": "/v1/scans", "status": "202"}
    assert value(found, "touchstone_requests_total", **posted) == 3
    assert value(found, "touchstone_request_seconds_count", route="/v1/scans/{scan_id}") == 2


def test_labels_of_metrics_are_few_whatever_is_asked(api: Api) -> None:
    with api.client("report:read") as client:
        before = samples(client)
        for number in range(20):
            client.get(f"/nothing/{number}")
            client.request(f"M{number}", "/livez")
        found = samples(client)
    assert value(found, "touchstone_requests_total", method="GET", route="none", status="404") == 20
    assert value(found, "touchstone_requests_total", method="other", route="/livez", status="405") == 20
    new = {labels for name, labels in found.keys() - before.keys() if name == "touchstone_requests_total"}
    assert len(new) <= 3


def test_metrics_go_on_without_the_database(start: StartApi) -> None:
    api = start(metrics_open=True)
    with api.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE chunk RENAME TO lost")
    with api.client() as client:
        found = samples(client)
    assert value(found, "touchstone_database_up") == 0
    assert ("touchstone_scans", frozenset({("state", "queued")})) not in found


def test_metrics_are_closed_unless_they_are_opened(start: StartApi) -> None:
    with start().client() as client:
        assert client.get("/metrics").status_code == 401
    with start(metrics_open=True).client() as client:
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
