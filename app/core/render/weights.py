"""What training changed in the weights: matrices and rows of embeddings, as two plain tables."""

from __future__ import annotations

from app.core.render.artifacts import Reading, Row, all_rows
from detectors.report import Report


class ModuleRow(Row):
    """One matrix that changed."""

    module: str
    relative_norm: Reading
    top_1: Reading
    top_16: Reading
    entropy: Reading
    kurtosis: Reading


class TrainedRow(Row):
    """A token whose row in an embedding moved further than others."""

    text: str
    row_shift: Reading
    input_moved: Reading
    output_moved: Reading


def changed_matrices(report: Report) -> list[ModuleRow]:
    """The matrices that changed, the largest relative updates first."""
    return sorted(all_rows(report, "modules", ModuleRow), key=lambda row: -(row.relative_norm or 0.0))


def trained_rows(report: Report) -> list[TrainedRow]:
    """The tokens that were nominated by their rows, in their order."""
    return all_rows(report, "rows", TrainedRow)
