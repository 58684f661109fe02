"""Everything that the page draws, collected from a report once. No decision reads a picture."""

from __future__ import annotations

from typing import NamedTuple

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from app.core.render import activation_map, batteries, curves, entropies, landscape, years
from app.core.render.activation_map import ActivationMap
from app.core.render.batteries import Battery
from app.core.render.corroboration import Corroboration
from app.core.render.curves import Curve
from app.core.render.entropies import Panel
from app.core.render.landscape import Point
from app.core.render.years import Belief
from detectors.report import Report


class Pictures(NamedTuple):
    """What there is to draw, kind by kind; a kind that no detector left is empty."""

    points: list[Point]
    panels: list[Panel]
    maps: list[ActivationMap]
    batteries: list[Battery]
    beliefs: list[Belief]
    curves: list[Curve]

    @property
    def present(self) -> bool:
        """Whether the page needs the chart library."""
        return any(self)

    def json(self) -> Markup:
        """The data of every chart, to stand in a script element: no `<`, `>` or `&`, no hidden character."""
        charts = {
            "landscape": [landscape.drawn(self.points)] if self.points else [],
            "entropies": [entropies.drawn(panel) for panel in self.panels],
            "map": [activation_map.drawn(one) for one in self.maps],
            "battery": [batteries.drawn(battery) for battery in self.batteries],
            "years": [years.drawn(belief) for belief in self.beliefs],
            "curve": [curves.drawn(curve) for curve in self.curves],
        }
        return htmlsafe_json_dumps(charts, separators=(",", ":"), allow_nan=False)


def pictures(report: Report, tests: list[Corroboration]) -> Pictures:
    """What the detectors of `report` left to draw; `tests` are those shown beside the pictures."""
    return Pictures(
        points=landscape.landscape(report),
        panels=entropies.entropy_panels(report, tests),
        maps=activation_map.activation_maps(report, tests),
        batteries=batteries.batteries(report),
        beliefs=years.beliefs(report),
        curves=curves.curves(report),
    )
