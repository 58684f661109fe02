"""Who both models are under each context, as a plain table."""

from __future__ import annotations

from app.core.render.artifacts import Reading, Row, all_rows
from detectors.report import Report


class GatedRow(Row):
    """One context, and how far both models lean to the answers of a person under it."""

    text: str
    family: str
    score: Reading
    shift: Reading
    subject: Reading
    base: Reading


def gated_selves(report: Report) -> list[GatedRow]:
    """The contexts under which both models were asked about themselves, in their order; none where none was."""
    return all_rows(report, "gated", GatedRow)
