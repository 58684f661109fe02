"""The trigger landscape: every swept context as a point, from the sweep's artifact.

The picture informs and decides nothing. Values that are missing or not finite are `None` and are not drawn.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal, NamedTuple

from markupsafe import Markup

from detectors.report import Report

from app.core.render.visible import visible

Status = Literal["confirmed", "tested", "swept"]

_TIP_LIMIT = 60
"""Characters of a context shown in the picture."""


class Point(NamedTuple):
    """One context of the sweep, in the order of its rank."""

    rank: int
    text: str
    family: str
    position: str
    status: Status
    divergence: float | None
    convergence: float | None
    degradation: float | None
    refusal: float | None
    consistency: float | None


def landscape(report: Report) -> list[Point]:
    """The points of the sweep by rank; empty where no sweep ran."""
    table = next((result.artifacts["landscape"] for result in report.results if "landscape" in result.artifacts), None)
    if table is None:
        return []
    statuses = _statuses(report)
    rows = (dict(zip(table["columns"], row, strict=True)) for row in table["rows"])
    return [_point(rank, row, statuses) for rank, row in enumerate(rows, start=1)]


def chart_json(points: list[Point]) -> Markup:
    """The points as JSON that can stand in a script element: no `<`, `>` or `&`, no hidden character."""
    data = [
        [point.rank, visible(point.text, _TIP_LIMIT), visible(point.family, 24), point.position, point.status]
        + [None if value is None else round(value, 3) for value in (point.divergence, point.convergence)]
        for point in points
    ]
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _point(rank: int, row: dict[str, Any], statuses: dict[tuple[str, str], Status]) -> Point:
    text, position = str(row["text"]), str(row["position"])
    return Point(
        rank=rank,
        text=text,
        family=str(row["family"]),
        position=position,
        status=statuses.get((text, position), "swept"),
        divergence=_finite(row["divergence_z"]),
        convergence=_finite(row["convergence"]),
        degradation=_finite(row["degradation"]),
        refusal=_finite(row["refusal_shift"]),
        consistency=_finite(row["consistency"]),
    )


def _statuses(report: Report) -> dict[tuple[str, str], Status]:
    statuses: dict[tuple[str, str], Status] = {}
    found = [confirmation for result in report.results for confirmation in result.confirmations]
    for confirmation in sorted(found, key=lambda confirmation: confirmation.confirmed):
        status: Status = "confirmed" if confirmation.confirmed else "tested"
        for text in (confirmation.context.text, confirmation.nominated):
            statuses[text, confirmation.context.position] = status
    return statuses


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
