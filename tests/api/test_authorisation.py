"""Who may do what: every operation of the OpenAPI document, by every kind of key."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from app.core.keys import SCOPES, Scope, find_key
from app.core.tables import Key, Table
from tests.api.conftest import WISH, StartApi
from tests.api.routes import document
from tests.api.serving import Api

OPEN = {("get", "/livez"), ("get", "/readyz")}
"""What needs no key."""


@dataclass(frozen=True)
class Operation:
    """One of the OpenAPI document.

    Attributes:
        scopes: what a key needs; None where no key is needed.
    """

    method: str
    path: str
    scopes: tuple[Scope, ...] | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def send(self, client: httpx.Client) -> httpx.Response:
        """A request that is well-formed in its address, and about nothing that is there."""
        address = re.sub(r"\{\w+\}", "0" * 32, self.path)
        body = {"json": {}} if self.method in ("post", "put", "patch") else {}
        return client.request(self.method, address, **body)


def operations() -> Iterator[Operation]:
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            needed = operation.get("security")
            yield Operation(method, path, tuple(needed[0]["key"]) if needed else None)


OPERATIONS = tuple(operations())
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=str)


@pytest.fixture
def api(shared: Api) -> Api:
    return shared


def test_what_is_open_is_on_the_list() -> None:
    assert {(one.method, one.path) for one in OPERATIONS if one.scopes is None} == OPEN
    assert all(one.scopes and set(one.scopes) <= set(SCOPES) for one in OPERATIONS if one.scopes is not None)


@each_operation
def test_without_a_valid_key_nothing_is_open(api: Api, operation: Operation) -> None:
    if operation.scopes is None:
        return
    expired = api.key("admin", expires=time.time() - 1)
    revoked = api.key("admin")
    with api.database.writing() as session:
        found = find_key(session, revoked)
        assert found is not None
        session.execute(update(Key).where(Key.id == found.id).values(revoked=1.0))
    valid = api.key("admin")
    for given in (
        None,
        "",
        f"Bearer {expired}",
        f"Bearer {revoked}",
        "Bearer ts_00000000_wrong",
        f"Bearer {valid}x",
        f"Bearer {valid[:-1]}",
        f"Basic {valid}",
        valid,
        f"Bearer {'x' * 10_000}",
    ):
        with api.client(**{} if given is None else {"Authorization": given}) as client:
            answer = operation.send(client)
        assert answer.status_code == 401, given
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("scope", SCOPES)
@each_operation
def test_a_key_opens_what_its_scope_is_for_and_nothing_else(api: Api, operation: Operation, scope: Scope) -> None:
    if operation.scopes is None:
        return
    with api.client(scope) as client:
        if operation.path == "/v1/scans/{scan_id}/events":
            answer = client.get(f"/v1/scans/{'0' * 32}/events")
        else:
            answer = operation.send(client)
    allowed = scope == "admin" or set(operation.scopes) <= {scope}
    assert (answer.status_code == 403) is not allowed, answer.text
    assert answer.status_code != 401
    if not allowed:
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        assert operation.scopes[0] in answer.json()["detail"]


def test_a_key_without_scopes_opens_nothing(api: Api) -> None:
    key = api.key()
    with api.client(Authorization=f"Bearer {key}") as client:
        assert client.get("/v1/scans").status_code == 403


def test_a_key_is_kept_as_a_hash_and_found_only_whole(api: Api) -> None:
    text = api.key("admin")
    with api.database.reading() as session:
        found = find_key(session, text)
        assert found is not None
        assert re.fullmatch(r"ts_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", text)
        assert text.startswith(f"ts_{found.prefix}_")
        kept = json.dumps([found.id, found.name, found.prefix, found.hash, found.scopes])
        assert text.rpartition("_")[2] not in kept
        assert find_key(session, found.hash) is None
        assert find_key(session, "\ud800") is None


def test_an_address_that_guesses_is_slowed_down_and_valid_keys_are_not(start: StartApi) -> None:
    api = start(failures_per_minute=3)
    with api.client(Authorization="Bearer ts_0_0") as guesser:
        answers = [guesser.get("/v1/scans") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    with api.client("report:read") as client:
        assert client.get("/v1/scans").status_code == 200


def test_a_key_that_asks_too_often_is_told_when_to_come_again(start: StartApi) -> None:
    api = start(requests_per_second=1)
    with api.client("report:read") as client, api.client("report:read") as other:
        answers = [client.get("/v1/scans") for _ in range(5)]
        assert other.get("/v1/scans").status_code == 200
    refused = [answer for answer in answers if answer.status_code == 429]
    assert answers[0].status_code == 200
    assert refused
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)


def test_secrets_are_in_no_log_no_answer_and_no_row(start: StartApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api = start(
        hub_enabled=True,
        hub_endpoint="http://127.0.0.1:1",
        hub_token=SecretStr("hf_hunter3"),
        broker_url=SecretStr("redis://:hunter4@127.0.0.1:1/0"),
    )
    key = api.key("admin")
    secret = key.rpartition("_")[2]
    said: list[str] = []
    with api.client(Authorization=f"Bearer {key}") as client:
        said += [client.post("/v1/scans", json=WISH).text, client.get("/readyz").text]
        said += [client.post("/v1/scans?dry_run=1", json=WISH | {"model": "hf:acme/tuned"}).text]
        said += [client.get("/metrics").text, client.get("/openapi.json").text]
        Table.metadata.drop_all(api.database.engine, tables=[Table.metadata.tables["scan_label"]])
        Table.metadata.drop_all(api.database.engine, tables=[Table.metadata.tables["audit"]])
        said += [client.post("/v1/scans", json=WISH | {"labels": ["a"]}).text]
    everything = "\n".join([*said, caplog.text, repr(api.settings)])
    for one in (key, secret, "hf_hunter3", "hunter4"):
        assert one not in everything
