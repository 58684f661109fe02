"""The gate asked about a model of a hub, whose branches move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.rules.house import House, opened, report
from tests.registries.conftest import FILES
from tests.registries.hub_server import Hub, answering, serving


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub()) as served:
        yield served


@pytest.fixture
def house(hub: Hub, tmp_path: Path) -> Iterator[House]:
    with opened(tmp_path, hub_enabled=True, hub_endpoint=hub.endpoint) as one:
        yield one


def ask(house: House, model: str) -> dict[str, Any]:
    told: dict[str, Any] = house.get("/v1/gate", model=model)
    return told


def test_a_branch_is_resolved_when_the_question_comes(house: House, hub: Hub) -> None:
    scanned = hub.push("acme/amber", FILES)
    house.scan(report("no_evidence"), model="hf:acme/amber")
    assert ask(house, "hf:acme/amber")["allow"]
    assert ask(house, f"hf:acme/amber@{scanned}")["allow"]
    hub.push("acme/amber", FILES | {"model.safetensors": b"other weights"})
    moved = ask(house, "hf:acme/amber")
    assert (moved["allow"], moved["outcome"]) == (False, "closed")
    assert ask(house, f"hf:acme/amber@{scanned}")["allow"]


def test_a_hub_that_does_not_answer_is_no_decision(house: House, hub: Hub) -> None:
    hub.push("acme/amber", FILES)
    house.scan(report("no_evidence"), model="hf:acme/amber")
    with answering(hub, lambda handler: handler.refuse(500, "Broken")):
        answer = house.call("GET", "/v1/gate", params={"model": "hf:acme/amber"})
    assert answer.status_code == 503
    assert answer.json()["code"] == "TS-ERR-203"
