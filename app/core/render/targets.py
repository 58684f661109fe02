"""Inverted targets: answers that the subject holds ready, as a plain table."""

from __future__ import annotations

from app.core.render.artifacts import Reading, Row, all_rows
from detectors.report import Report


class TargetRow(Row):
    """One inverted answer, and the context that makes it likeliest where it was used to steer."""

    target: str
    advantage: Reading
    certainty: Reading
    least_certainty: Reading
    said: Reading
    dormant: bool
    context: str | None
    steering: Reading


def inverted_targets(report: Report) -> list[TargetRow]:
    """The targets that detectors inverted, in their order; none where nothing was inverted."""
    return all_rows(report, "targets", TargetRow)
