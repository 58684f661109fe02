"""The trigger landscape: every swept context as a point, from the sweep's artifact.

The picture informs and decides nothing. Values that are missing or not finite are `None` and are not drawn.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from app.core.render.visible import visible
from detectors.report import Report

Status = Literal["confirmed", "tested", "swept"]

DIVERGENCE = "divergence_z"
_PLACE = frozenset({"text", "family", "position", "rank_score"})

_TIP_LIMIT = 60
"""Characters of a context shown in the picture."""


class Point(NamedTuple):
    """One context at one place, in the order of its rank; `scores` are robust z by statistic."""

    rank: int
    text: str
    family: str
    position: str
    status: Status
    scores: dict[str, float | None]

    @property
    def divergence(self) -> float | None:
        """The height of the point: robust z of the divergence."""
        return self.scores[DIVERGENCE]


def landscape(report: Report) -> list[Point]:
    """The points of the sweep by rank; empty where no sweep ran."""
    table = next((result.artifacts["landscape"] for result in report.results if "landscape" in result.artifacts), None)
    if table is None:
        return []
    statuses = _statuses(report)
    rows = (dict(zip(table["columns"], row, strict=True)) for row in table["rows"])
    return [_point(rank, row, statuses) for rank, row in enumerate(rows, start=1)]


def drawn(points: list[Point]) -> list[list[str | int | float | None]]:
    """What the chart needs; every text is visible."""
    return [_drawn(point) for point in points]


def _drawn(point: Point) -> list[str | int | float | None]:
    height = None if point.divergence is None else round(point.divergence, 3)
    text, family = visible(point.text, _TIP_LIMIT), visible(point.family, 24)
    return [point.rank, text, family, visible(point.position, 24), point.status, height]


def _point(rank: int, row: dict[str, Any], statuses: dict[tuple[str, str], Status]) -> Point:
    text, position = str(row["text"]), str(row["position"])
    return Point(
        rank=rank,
        text=text,
        family=str(row["family"]),
        position=position,
        status=statuses.get((text, position), "swept"),
        scores={name: _finite(value) for name, value in row.items() if name not in _PLACE},
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
