"""Detectors and suites, as data."""

from __future__ import annotations

from detectors.catalog import CATALOG
from detectors.suites import SUITES, Suite
from tests.api.rules.house import House


def test_every_detector_is_told_with_what_it_cannot_see(house: House) -> None:
    told = house.get("/v1/detectors")
    assert [one["name"] for one in told] == list(CATALOG)
    assert all(one["citation"] and one["cannot_see"] for one in told)


def test_every_suite_is_told_with_its_plan(house: House) -> None:
    told = {one["name"]: one for one in house.get("/v1/suites")}
    assert list(told) == list(SUITES)
    for name, suite in SUITES.items():
        assert Suite.model_validate(told[name]["plan"]) == suite
        assert (told[name]["digest"], told[name]["detectors"]) == (suite.digest(), list(suite.detectors))
