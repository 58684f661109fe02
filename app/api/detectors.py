"""What this service can look for: detectors and suites, as data."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.depends import Reader
from app.api.problems import responses
from app.api.schemas import Given
from detectors.catalog import CATALOG, DetectorSpec
from detectors.suites import SUITES, Suite

router = APIRouter(tags=["detectors"])


class SuiteView(Given):
    """A suite.

    Attributes:
        digest: SHA-256 of the plan.
        work: expected work in next-token observations, where candidates come up and none needs confirming.
        plan: what each detector looks at; a detector without params is not in it.
    """

    name: str
    digest: str
    detectors: tuple[str, ...]
    work: float
    plan: Suite


@router.get("/detectors", responses=responses())
def get_detectors(caller: Reader) -> list[DetectorSpec]:
    """Every detector, with where it comes from and what it cannot see."""
    return list(CATALOG.values())


@router.get("/suites", responses=responses())
def get_suites(caller: Reader) -> list[SuiteView]:
    """Every suite, with its plan."""
    return [
        SuiteView(name=suite.name, digest=suite.digest(), detectors=suite.detectors, work=suite.work, plan=suite)
        for suite in SUITES.values()
    ]
