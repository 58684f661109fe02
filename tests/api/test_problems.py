"""What is no success is a problem document, whoever noticed it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from app.api.problems import STATUS
from app.core.settings import Settings
from detectors import errors
from tests.api.serving import Api, served

KINDS = [it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, errors.TouchstoneError)]


@pytest.fixture
def api(shared: Api) -> Api:
    return shared


@pytest.fixture
def client(api: Api) -> Iterator[httpx.Client]:
    with api.client("admin") as client:
        yield client


def check(answer: httpx.Response, status: int, code: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["type"] == f"urn:touchstone:error:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status(kind: type[errors.TouchstoneError]) -> None:
    status = next(STATUS[it] for it in kind.__mro__ if it in STATUS)
    if issubclass(kind, errors.InputError):
        assert status == 422
    if issubclass(kind, errors.MachineError):
        assert status == 503


@pytest.mark.parametrize(
    "body", [b"{", b"[1", b'{"model": NaN', b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b'"x"', b""]
)
def test_a_body_that_is_no_request(client: httpx.Client, body: bytes) -> None:
    check(client.post("/v1/scans", content=body, headers={"Content-Type": "application/json"}), 422, "TS-ERR-601")


def test_a_body_of_another_kind(client: httpx.Client) -> None:
    check(client.post("/v1/scans", content=b"model=amber", headers={"Content-Type": "text/plain"}), 422, "TS-ERR-601")


def test_an_address_that_there_is_not(client: httpx.Client) -> None:
    check(client.get("/v1/nothing"), 404, "TS-ERR-604")
    check(client.get("/docs"), 404, "TS-ERR-604")
    check(client.get("/v1/scans/not-an-id"), 422, "TS-ERR-601")


def test_a_method_that_there_is_not(client: httpx.Client) -> None:
    answer = client.delete("/v1/scans")
    check(answer, 405, "TS-ERR-600")
    assert set(re.split(r",\s*", answer.headers["Allow"])) >= {"GET"}


def test_what_a_caller_hides_in_an_address_is_made_visible(client: httpx.Client) -> None:
    assert "\u202e" not in client.get("/v1/\u202enothing").json()["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(api: Api, client: httpx.Client, chunked: bool) -> None:
    large = b'{"model": "' + b"x" * api.settings.body_limit_bytes + b'"}'
    content = iter([large[:100], large[100:]]) if chunked else large
    check(client.post("/v1/scans", content=content, headers={"Content-Type": "application/json"}), 413, "TS-ERR-600")


def test_a_body_of_the_limit_is_read(api: Api, client: httpx.Client) -> None:
    text = '{"model": "' + "x" * (api.settings.body_limit_bytes - 13) + '"}'
    assert len(text) == api.settings.body_limit_bytes
    check(client.post("/v1/scans", content=text, headers={"Content-Type": "application/json"}), 422, "TS-ERR-601")


def make_a_mistake() -> None:
    raise ZeroDivisionError("hunter2")


def test_a_mistake_of_ours_tells_nothing_of_itself(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with served(settings, lambda api: api.add_api_route("/mistake", make_a_mistake)) as api, api.client() as client:
        answer = client.get("/mistake")
    check(answer, 500, "TS-ERR-000")
    assert "hunter2" not in answer.text
    assert answer.json()["request_id"] in caplog.text
    assert "ZeroDivisionError: hunter2" in caplog.text


def test_a_database_that_is_away_is_a_matter_of_time(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    away = SecretStr("postgresql://touchstone:hunter2@127.0.0.1:1/touchstone")
    with served(settings.model_copy(update={"database_url": away}), tables=False) as api, api.client() as client:
        answer = client.get("/v1/scans", headers={"Authorization": "Bearer ts_0_0"})
        check(answer, 503, "TS-ERR-204")
        assert int(answer.headers["Retry-After"]) > 0
        check(client.get("/readyz"), 503, "TS-ERR-204")
        assert client.get("/livez").status_code == 200
    assert "127.0.0.1" not in answer.text
    assert answer.json()["request_id"] in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("place", ["/livez", "/openapi.json", "/nothing", "/v1/scans"])
def test_every_answer_has_careful_headers(client: httpx.Client, place: str) -> None:
    headers = client.get(place).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
