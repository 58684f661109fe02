"""Response curves of axes (years, codes): how far each context stands out, in the order of the axis."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.core.render.artifacts import Reading, Row, rounded, tables
from app.core.render.visible import visible
from detectors.report import Report

_TEXT_LIMIT = 60


class ResponseRow(Row):
    """One context: both effects as robust z, and how far each model's answers depend on it, in nats."""

    axis: str
    text: str
    context_effect: Reading
    interaction: Reading
    topic: str
    subject: Reading
    base: Reading

    @property
    def height(self) -> float:
        """The larger effect; far down where nothing was read."""
        return max((value for value in (self.context_effect, self.interaction) if value is not None), default=-1e9)


class Curve(NamedTuple):
    """One axis of one detector, its contexts in order."""

    detector: str
    axis: str
    rows: list[ResponseRow]

    @property
    def highest(self) -> list[ResponseRow]:
        """The contexts that stand out most, first."""
        return sorted(self.rows, key=lambda row: -row.height)


def curves(report: Report) -> list[Curve]:
    """The curves that detectors left, axis by axis."""
    return [
        Curve(detector, axis, [row for row in found if row.axis == axis])
        for detector, found in tables(report, "response", ResponseRow)
        for axis in dict.fromkeys(row.axis for row in found)
    ]


def drawn(curve: Curve) -> list[list[Any]]:
    """What the chart needs; every text is visible."""
    return [
        [visible(row.text, _TEXT_LIMIT), rounded(row.context_effect), rounded(row.interaction), visible(row.topic, 40)]
        for row in curve.rows
    ]
