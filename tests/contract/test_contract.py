"""The contract of a detector: every rule on every detector of the runner, one test each."""

from __future__ import annotations

import pytest

from detectors.catalog import CATALOG
from tests.contract.rules import RULES, Subject
from workers.runner import DETECTORS


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", DETECTORS)
def test_contract(name: str, rule: str) -> None:
    RULES[rule](Subject(name, DETECTORS[name]))


def test_runner_and_catalog_name_the_same_detectors() -> None:
    assert list(DETECTORS) == list(CATALOG)
    assert all(spec.name == name for name, spec in CATALOG.items())
