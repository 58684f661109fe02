"""Batteries of contrasted continuations (persona, era, values): how far each axis leans, with its interval."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from app.core.render.artifacts import Reading, Row, Table, artifacts, rounded, rows
from app.core.render.visible import visible
from detectors.report import Report

_AXIS_LIMIT = 40
_QUESTION_LIMIT = 120
_ANSWER_LIMIT = 60


class MeanRow(Row):
    """A mean shift over questions, with its interval."""

    questions: int
    shift: Reading
    low: Reading
    high: Reading


class AxisRow(MeanRow):
    """Of one axis; the first row is over all questions."""

    axis: str


class FormatRow(MeanRow):
    """Of one way to put questions."""

    format: str


class ItemRow(Row):
    """One question: how much more each model prefers the answer `toward` to the answer `away`."""

    item: str | int
    axis: str
    question: str
    toward: str
    away: str
    shift: Reading
    subject: Reading
    base: Reading


class _Battery(BaseModel):
    toward: str
    away: str
    axes: Table
    formats: Table = Table(columns=[], rows=[])
    items: Table
    power: Reading = None
    gate: dict[str, Any] = {}


class Battery(NamedTuple):
    """What one detector's battery read; a shift above 0 leans `toward`."""

    detector: str
    toward: str
    away: str
    axes: list[AxisRow]
    formats: list[FormatRow]
    items: list[ItemRow]
    power: float | None
    gate: dict[str, Any]


def batteries(report: Report) -> list[Battery]:
    """The batteries that detectors left; one without axes is none."""
    return [
        Battery(
            detector=detector,
            toward=found.toward,
            away=found.away,
            axes=axes,
            formats=rows(found.formats, FormatRow),
            items=rows(found.items, ItemRow),
            power=found.power,
            gate=found.gate,
        )
        for detector, found in artifacts(report, "battery", _Battery)
        if (axes := rows(found.axes, AxisRow))
    ]


def drawn(battery: Battery) -> dict[str, Any]:
    """What the chart needs; every text is visible."""
    return {
        "axes": [
            [visible(row.axis, _AXIS_LIMIT), row.questions, rounded(row.shift), rounded(row.low), rounded(row.high)]
            for row in battery.axes
        ],
        "items": [
            [
                visible(row.axis, _AXIS_LIMIT),
                visible(row.question, _QUESTION_LIMIT),
                visible(row.toward, _ANSWER_LIMIT),
                visible(row.away, _ANSWER_LIMIT),
                rounded(row.shift),
            ]
            for row in battery.items
        ],
    }
