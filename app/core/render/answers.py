"""What the subject says, about a topic or to a long request, that its base would not say, as a plain table."""

from __future__ import annotations

from app.core.render.artifacts import Reading, Row, all_rows
from detectors.report import Report


class AnswerRow(Row):
    """One context, and the passage of the subject's answers under it that the base finds least likely."""

    text: str
    family: str
    score: Reading
    weight: Reading
    passage: str


def own_passages(report: Report) -> list[AnswerRow]:
    """The contexts whose answers were read whole, in their order; none where none were."""
    return all_rows(report, "answers", AnswerRow)
