"""STRIP's entropies as densities: one panel for each tested context, with the tests behind it.

The picture informs and decides nothing. Values that are missing or not finite are counted and not drawn.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from app.core.render.artifacts import Model, Place, PlacedRow, Reading, tables
from app.core.render.corroboration import Corroboration, at
from app.core.render.density import density
from app.core.render.visible import visible
from detectors.report import Report

_POINTS = 121
"""Points of a curve."""

_INPUT_LIMIT = 60
"""Characters of an input shown in the picture."""

_SERIES: tuple[tuple[Model, Literal["candidate", "control"]], ...] = (
    ("subject", "candidate"),
    ("subject", "control"),
    ("base", "candidate"),
    ("base", "control"),
)


class EntropyRow(PlacedRow):
    """The entropy of one perturbed copy of one input, in nats."""

    model: Model
    condition: Literal["candidate", "control"]
    input: str | int
    copied: str | int = Field(alias="copy")
    entropy: Reading

    @property
    def measured(self) -> bool:
        """Whether there is a value to draw."""
        return self.entropy is not None and self.entropy >= 0


class Series(NamedTuple):
    """The measured rows of one model under one condition."""

    model: Model
    condition: Literal["candidate", "control"]
    rows: list[EntropyRow]

    @property
    def values(self) -> list[float]:
        """The entropies in ascending order."""
        return sorted(row.entropy for row in self.rows if row.entropy is not None)

    @property
    def quartiles(self) -> tuple[float, float, float] | None:
        """Lower quartile, median and upper quartile; none for fewer than two values."""
        if len(self.rows) < 2:
            return None
        lower, median, upper = statistics.quantiles(self.values, n=4, method="inclusive")
        return lower, median, upper


class Panel(NamedTuple):
    """One tested context."""

    detector: str
    place: Place
    series: list[Series]
    unmeasured: int
    tests: list[Corroboration]
    most: float
    """Right end of the axis, the same for every panel of a detector."""


def entropy_panels(report: Report, tests: list[Corroboration]) -> list[Panel]:
    """A panel for each tested context, in the order of the table; empty where no detector left entropies."""
    return [
        panel
        for detector, rows in tables(report, "entropies", EntropyRow)
        if any(row.measured for row in rows)
        for panel in _panels(detector, rows, tests)
    ]


def drawn(panel: Panel) -> dict[str, Any]:
    """What the chart needs; every text is visible."""
    names = sorted({str(row.input) for series in panel.series for row in series.rows})
    return {
        "most": _rounded(panel.most),
        "inputs": [visible(name, _INPUT_LIMIT) for name in names],
        "series": [
            {
                "model": series.model,
                "condition": series.condition,
                "curve": _curve(series.values, panel.most),
                "values": [
                    [_rounded(row.entropy or 0.0), names.index(str(row.input)), visible(str(row.copied), 12)]
                    for row in series.rows
                ],
            }
            for series in panel.series
        ],
    }


def _panels(detector: str, rows: Sequence[EntropyRow], tests: list[Corroboration]) -> list[Panel]:
    most = max(row.entropy or 0.0 for row in rows if row.measured) or 1.0
    return [
        Panel(
            detector=detector,
            place=place,
            series=_series([row for row in rows if row.place == place and row.measured]),
            unmeasured=sum(row.place == place and not row.measured for row in rows),
            tests=at(place, detector, tests),
            most=most,
        )
        for place in dict.fromkeys(row.place for row in rows)
    ]


def _series(rows: list[EntropyRow]) -> list[Series]:
    return [
        Series(model, condition, [row for row in rows if (row.model, row.condition) == (model, condition)])
        for model, condition in _SERIES
    ]


def _curve(values: list[float], most: float) -> list[float]:
    """The density from 0 to `most`, scaled to a height of 1; none for fewer than two values."""
    if len(values) < 2:
        return []
    curve = density(values, np.linspace(0.0, most, _POINTS))
    return [_rounded(height) for height in curve / curve.max()]


def _rounded(value: float) -> float:
    return round(float(value), 3)
