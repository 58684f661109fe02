"""What detectors that confirm nothing by themselves say about one context: shown beside a finding, no part of it."""

from __future__ import annotations

from typing import NamedTuple

from app.core.render.artifacts import Place, TestRow, tables
from detectors.findings import Confirmation, Evidence
from detectors.report import Report


class Corroboration(NamedTuple):
    """One test of one context, with the unit and the null of its evidence where the report holds them."""

    detector: str
    test: TestRow
    evidence: Evidence | None


def corroborations(report: Report) -> list[Corroboration]:
    """Every row of every `tests` artifact, in the order of the detectors."""
    evidence: dict[tuple[str, str, str, str], Evidence] = {
        (result.detector, item.statistic, item.context.text, item.context.position): item
        for result in report.results
        for item in result.evidence
        if item.context is not None
    }

    def of(detector: str, test: TestRow) -> Evidence | None:
        names = (test.statistic, f"{detector}.{test.statistic}")
        return next(filter(None, (evidence.get((detector, name, *test.place)) for name in names)), None)

    return [
        Corroboration(detector, test, of(detector, test))
        for detector, tests in tables(report, "tests", TestRow)
        for test in tests
    ]


def about(confirmation: Confirmation, found: list[Corroboration]) -> list[Corroboration]:
    """Those about the confirmed context or about the longer text that was nominated, at the same position."""
    texts = (confirmation.context.text, confirmation.nominated)
    places: list[Place] = [(text, confirmation.context.position) for text in texts]
    return [item for item in found if item.test.place in places]


def at(place: Place, detector: str, found: list[Corroboration]) -> list[Corroboration]:
    """Those of one detector about one place."""
    return [item for item in found if item.detector == detector and item.test.place == place]
