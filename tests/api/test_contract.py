"""The OpenAPI document is the contract: complete, true, and written down in docs/reference/api.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import Phase as When
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from app.api.problems import MEDIA_TYPE
from tests.api.conftest import WISH, unlimited
from tests.api.routes import PAGE, document, operations, rows, table_of
from tests.api.serving import Api, served
from tests.render import sample

DOCUMENT = document()
OPERATIONS = operations(DOCUMENT)
BOUNDED = settings(
    max_examples=15,
    deadline=None,
    phases=[When.explicit, When.generate],
    suppress_health_check=list(HealthCheck),
)
STREAMS = "/v1/scans/{scan_id}/events"
"""Answers that do not end have tests of their own."""

MEANING = [positive_data_acceptance, negative_data_rejection]
"""A reference of the right form may name nothing, and a query that nobody reads does no harm."""

schema = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig.from_dict({})).exclude(path=STREAMS)


@pytest.fixture(scope="module")
def served_api(tmp_path_factory: pytest.TempPathFactory, broker: str) -> Iterator[Api]:
    with served(unlimited(tmp_path_factory.mktemp("contract"), broker)) as api:
        with api.client("admin") as client:
            for _ in range(2):
                api.finish(client.post("/v1/scans", json=WISH).json()["id"], *sample.strong())
        yield api


@pytest.fixture(scope="module")
def authorised(served_api: Api) -> dict[str, str]:
    return {"Authorization": f"Bearer {served_api.key('admin')}"}


@schema.parametrize()
@BOUNDED
def test_answers_are_as_documented_with_a_key(
    case: schemathesis.Case, served_api: Api, authorised: dict[str, str]
) -> None:
    case.call_and_validate(base_url=served_api.url, headers=authorised, excluded_checks=MEANING)


@schema.parametrize()
@BOUNDED
def test_answers_are_as_documented_without_a_key(case: schemathesis.Case, served_api: Api) -> None:
    case.headers.pop("Authorization", None)
    answer = case.call(base_url=served_api.url)
    if "security" in case.operation.definition.raw and answer.status_code != 405:
        assert answer.status_code in (401, 413, 422)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == [MEDIA_TYPE]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_what_it_does_and_how_it_fails(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["description"].strip().endswith(".")
    assert operation["tags"]
    failures = {status: it for status, it in operation["responses"].items() if status >= "400"}
    for status, failure in failures.items():
        assert list(failure["content"]) == [MEDIA_TYPE], status
    if "security" in operation:
        assert set(failures) >= {"401", "403", "422", "429", "503"}
    if "requestBody" in operation:
        assert "413" in failures
    if "{" in name and not name.startswith("PUT"):
        assert "404" in failures


def test_the_document_names_the_scheme_and_gives_examples() -> None:
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    fields = DOCUMENT["components"]["schemas"]["ScanRequest"]["properties"]
    assert all("examples" in fields[name] for name in ("model", "base", "suite", "policy"))


def test_the_document_is_open_and_the_pages_that_show_it_are_off(served_api: Api) -> None:
    with served_api.client() as client:
        assert client.get("/openapi.json").json() == DOCUMENT
        assert {client.get(place).status_code for place in ("/docs", "/redoc")} == {404}


def test_the_page_lists_every_route_and_no_other() -> None:
    assert table_of(PAGE.read_text(encoding="utf-8")) == rows(DOCUMENT), "run `python -m tests.api.routes`"
