"""What year both models believe it is: a curve for each, and the shift between them."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.core.render.artifacts import Reading, Row, Table, artifacts, rounded, rows
from detectors.report import Report

_SPAN = 10
"""Years of a row of the table behind the curve."""
_DIGITS = 5
"""Digits behind the point that the chart gets: a belief spread over all years is 0.004 each."""


class YearRow(Row):
    """One year, with the probability that each model gives it."""

    year: int
    subject: Reading
    base: Reading


class PhrasingRow(Row):
    """One way to ask for the year, with the year that each model expects."""

    question: str
    answer: str
    subject: Reading
    base: Reading
    shift: Reading


class _Years(Table):
    phrasings: Table
    subject: Reading
    base: Reading
    shift: Reading
    low: Reading
    high: Reading


class Belief(NamedTuple):
    """What one detector left; a shift below 0 leads into the past."""

    detector: str
    rows: list[YearRow]
    phrasings: list[PhrasingRow]
    subject: float | None
    base: float | None
    shift: float | None
    low: float | None
    high: float | None

    @property
    def spans(self) -> list[tuple[int, float, float]]:
        """(first year, subject, base) of every ten years, probabilities summed over what was read."""
        found: dict[int, tuple[float, float]] = {}
        for row in self.rows:
            first = row.year - row.year % _SPAN
            subject, base = found.get(first, (0.0, 0.0))
            found[first] = subject + (row.subject or 0.0), base + (row.base or 0.0)
        return [(first, *summed) for first, summed in found.items()]


def beliefs(report: Report) -> list[Belief]:
    """The beliefs that detectors left; one without years is none."""
    return [
        Belief(
            detector=detector,
            rows=of_years,
            phrasings=rows(found.phrasings, PhrasingRow),
            subject=found.subject,
            base=found.base,
            shift=found.shift,
            low=found.low,
            high=found.high,
        )
        for detector, found in artifacts(report, "years", _Years)
        if (of_years := rows(found, YearRow))
    ]


def drawn(belief: Belief) -> dict[str, Any]:
    """What the chart needs."""
    return {
        "rows": [[row.year, *(rounded(value, _DIGITS) for value in (row.subject, row.base))] for row in belief.rows],
        "expected": {"subject": rounded(belief.subject), "base": rounded(belief.base)},
    }
