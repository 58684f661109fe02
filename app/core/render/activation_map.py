"""The map of activations: two dimensions that keep neighbours near, for the eye only."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.core.render.artifacts import Condition, Model, Place, PlacedRow, Reading, Table, artifacts, rows
from app.core.render.corroboration import Corroboration, at
from app.core.render.visible import visible
from detectors.report import Report

_PROMPT_LIMIT = 120
"""Characters of a prompt shown in the picture."""


class MapRow(PlacedRow):
    """One prompt under one condition, as one model holds it."""

    model: Model
    condition: Condition
    prompt: str | int
    x: Reading
    y: Reading

    @property
    def drawable(self) -> bool:
        """Whether it has a place on the map."""
        return self.x is not None and self.y is not None


class _Map(Table):
    method: str
    parameters: dict[str, Any]
    depth: int


class ActivationMap(NamedTuple):
    """The points of one tested context, with how they were placed."""

    detector: str
    method: str
    parameters: dict[str, Any]
    depth: int
    place: Place
    points: list[MapRow]
    tests: list[Corroboration]


def activation_maps(report: Report, tests: list[Corroboration]) -> list[ActivationMap]:
    """A map for each tested context; empty where no detector left one."""
    return [
        ActivationMap(detector, found.method, found.parameters, found.depth, place, points, at(place, detector, tests))
        for detector, found in artifacts(report, "map", _Map)
        for place, points in _by_place(rows(found, MapRow)).items()
    ]


def drawn(found: ActivationMap) -> dict[str, Any]:
    """What the chart needs; every text is visible."""
    prompts = list(dict.fromkeys(point.prompt for point in found.points))
    return {
        "prompts": [visible(str(prompt), _PROMPT_LIMIT) for prompt in prompts],
        "points": [
            [
                point.model,
                point.condition,
                prompts.index(point.prompt),
                round(point.x or 0.0, 3),
                round(point.y or 0.0, 3),
            ]
            for point in found.points
        ],
    }


def _by_place(points: list[MapRow]) -> dict[Place, list[MapRow]]:
    """Points by tested context; those of no context at all belong to every one."""
    drawable = [point for point in points if point.drawable]
    shared = [point for point in drawable if point.condition == "none" and not point.text]
    own = [point for point in drawable if point.condition != "none" or point.text]
    return {
        place: [point for point in own if point.place == place] + shared
        for place in dict.fromkeys(point.place for point in own)
    }
