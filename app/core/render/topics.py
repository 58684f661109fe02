"""What the subject says of each topic that its base would not say, as a plain table."""

from __future__ import annotations

from app.core.render.artifacts import Reading, Row, tables
from detectors.report import Report


class TopicRow(Row):
    """One topic, and the passage of the subject's answers about it that the base finds least likely."""

    text: str
    score: Reading
    weight: Reading
    passage: str


def own_passages(report: Report) -> list[TopicRow]:
    """The topics that both models were asked about, in their order; none where none was."""
    return [row for _, found in tables(report, "topics", TopicRow) for row in found]
