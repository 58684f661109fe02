"""Tables that detectors leave for the pictures, read once and typed from here on.

A report may be older or newer than this reader: a table that is missing, or has another shape, is no table. What the
page draws is only a view, so nothing is lost by it; the evidence stands in the report all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from detectors.report import Report

Model = Literal["subject", "base"]
Condition = Literal["candidate", "control", "none"]
Place = tuple[str, str]
"""A context's text and its position."""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


Reading = Annotated[float | None, AfterValidator(_finite)]
"""A measured value; None where there is none or it is not finite."""


def rounded(value: float | None, digits: int = 3) -> float | None:
    """A reading as charts get it."""
    return None if value is None else round(value, digits)


class Row(BaseModel):
    """A row of a table, by the names of its columns; further columns are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PlacedRow(Row):
    """A row that belongs to one tested context."""

    text: str
    position: str

    @property
    def place(self) -> Place:
        """What the row was measured under."""
        return self.text, self.position


class TestRow(PlacedRow):
    """One test of a context by a detector that confirms nothing by itself."""

    __test__ = False  # pytest takes the name for a test

    statistic: str
    effect: Reading
    p_value: Reading
    p_holm: Reading


class Table(BaseModel):
    """A table as detectors leave it."""

    columns: list[str]
    rows: list[list[Any]]


RowT = TypeVar("RowT", bound=BaseModel)
ShapeT = TypeVar("ShapeT", bound=BaseModel)


def artifacts(report: Report, name: str, shape: type[ShapeT]) -> Iterator[tuple[str, ShapeT]]:
    """The detectors that left `name` in the shape asked for, each with what it left."""
    for result in report.results:
        if name in result.artifacts:
            try:
                yield result.detector, shape.model_validate(result.artifacts[name])
            except ValidationError:
                continue


def tables(report: Report, name: str, kind: type[RowT]) -> Iterator[tuple[str, list[RowT]]]:
    """The detectors that left a table `name` with rows of `kind`, each with its rows."""
    for detector, table in artifacts(report, name, Table):
        if found := rows(table, kind):
            yield detector, found


def all_rows(report: Report, name: str, kind: type[RowT]) -> list[RowT]:
    """The rows of `kind` of every table `name`, in their order, whoever left them; none where nobody did."""
    return [row for _, found in tables(report, name, kind) for row in found]


def rows(table: Table, kind: type[RowT]) -> list[RowT]:
    """The rows as `kind`; none where they do not fit it."""
    try:
        return [kind.model_validate(dict(zip(table.columns, row, strict=True))) for row in table.rows]
    except ValueError:
        return []
