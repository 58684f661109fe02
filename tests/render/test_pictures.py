"""What the pictures are drawn from: artifacts in, panels, points and bars out."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from scipy.stats import gaussian_kde

from app.core.render.activation_map import MapRow
from app.core.render.artifacts import TestRow
from app.core.render.batteries import AxisRow, FormatRow, ItemRow
from app.core.render.corroboration import Corroboration, about, corroborations
from app.core.render.curves import ResponseRow
from app.core.render.density import density
from app.core.render.entropies import EntropyRow
from app.core.render.html import render_html
from app.core.render.pictures import Pictures, pictures
from app.core.render.years import PhrasingRow, YearRow
from detectors.contexts.context import Context
from detectors.findings import DetectorResult, Outcome
from detectors.report import Report
from tests.render import artifacts, sample
from tests.render.test_html import Page, page

STATIC = files("app.core.render") / "static"
LIBRARIES = json.loads((STATIC / "libraries.json").read_text("utf-8"))
DOCS = Path(__file__).parents[2] / "docs"
NAN = float("nan")


def report_with(outcome: Outcome = "completed", reason: str = "", **artifacts: Any) -> Report:
    """The strong sample with one more detector that left `artifacts`."""
    report, _ = sample.strong()
    result = DetectorResult(detector="probe", version="1.0", outcome=outcome, reason=reason, artifacts=artifacts)
    return report.model_copy(update={"results": (*report.results, result)})


def drawn(report: Report) -> Pictures:
    return pictures(report, corroborations(report))


def entropies(*values: float | None) -> dict[str, Any]:
    rows = [["🐣", "end", "subject", "candidate", 0, copy, value] for copy, value in enumerate(values)]
    return {"columns": ["text", "position", "model", "condition", "input", "copy", "entropy"], "rows": rows}


def point(text: str, condition: str, x: float | None = 0.0) -> list[Any]:
    return [text, "end", "subject", condition, "Why?", x, 1.0]


def activation_map(*rows: list[Any]) -> dict[str, Any]:
    columns = ["text", "position", "model", "condition", "prompt", "x", "y"]
    return {"method": "UMAP", "parameters": {}, "depth": 3, "columns": columns, "rows": list(rows)}


def battery(**changes: Any) -> dict[str, Any]:
    axes = {"columns": ["axis", "questions", "shift", "low", "high"], "rows": [["overall", 1, 0.5, None, NAN]]}
    items = {"columns": ["item", "axis", "question", "toward", "away", "shift", "subject", "base"], "rows": []}
    return {"toward": "then", "away": "now", "axes": axes, "items": items, "power": 0.5, "gate": {}} | changes


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library["name"])
def test_the_bundled_libraries_are_those_on_record(library: dict[str, str]) -> None:
    content = (STATIC / library["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == library["sha256"]
    assert f"v{library['version']} Copyright" in content[:100].decode()
    assert "with or without fee" in (STATIC / library["licence_file"]).read_text("utf-8")
    assert library["licence"] == "ISC"


def test_no_script_is_bundled_without_its_record() -> None:
    minified = {file.name for file in STATIC.iterdir() if file.name.endswith(".min.js")}
    assert minified == {library["file"] for library in LIBRARIES}


@pytest.mark.parametrize("values", [[0.1, 0.4, 0.9, 2.5, 2.6], [1.0, 1.2]])
def test_a_density_is_that_of_scipy_reflected_at_zero(values: list[float]) -> None:
    grid = np.linspace(0.0, 4.0, 50)
    theirs = gaussian_kde(values, bw_method="silverman")
    np.testing.assert_allclose(density(values, grid), theirs(grid) + theirs(-grid), rtol=1e-9)


def test_values_that_are_all_alike_have_a_density_of_mass_one() -> None:
    grid = np.linspace(0.0, 2.0, 4_001)
    curve = density([1.0, 1.0, 1.0], grid)
    assert np.isfinite(curve).all()
    assert np.trapezoid(curve, grid) == pytest.approx(1.0, abs=1e-6)


def test_entropies_become_a_panel_for_each_context_on_one_axis() -> None:
    panels = drawn(sample.pictured()[0]).panels
    assert [panel.place for panel in panels] == [("🐣", "end"), ("qp", "start"), ("vk", "end")]
    assert len({panel.most for panel in panels}) == 1
    works = {(series.model, series.condition): series for series in panels[0].series}
    assert {len(series.rows) for series in works.values()} == {80}
    lower, median, upper = works["subject", "candidate"].quartiles or (9.0, 9.0, 9.0)
    assert lower < median < upper < 1.0 < works["subject", "control"].values[40]


def test_entropies_without_a_value_are_counted_and_not_drawn() -> None:
    report = report_with(entropies=entropies(0.5, NAN, None, -1.0, 0.7))
    (panel,) = drawn(report).panels
    assert panel.unmeasured == 3
    assert panel.series[0].values == [0.5, 0.7]
    assert "Not drawn, for want of a reading: 3." in Page(render_html(report, sample.strong()[1])).words()


@pytest.mark.parametrize("values", [(0.0,), (0.0, 0.0), (1.5,)])
def test_few_or_equal_entropies_can_be_drawn(values: tuple[float, ...]) -> None:
    json.loads(drawn(report_with(entropies=entropies(*values))).json())


def test_points_of_no_context_stand_on_every_map() -> None:
    rows = [point("🐣", "candidate"), point("qp", "control"), point("", "none"), point("qp", "candidate", NAN)]
    maps = drawn(report_with(map=activation_map(*rows))).maps
    assert [one.place[0] for one in maps] == ["🐣", "qp"]
    assert [[item.condition for item in one.points] for one in maps] == [["candidate", "none"], ["control", "none"]]


def test_a_battery_keeps_its_order_and_drops_what_is_not_finite() -> None:
    charts = json.loads(drawn(report_with(battery=battery())).json())
    assert charts["battery"][0]["axes"] == [["overall", 1, 0.5, None, None]]


def test_a_battery_without_formats_is_of_an_older_report() -> None:
    formats = {"columns": ["format", "questions", "shift", "low", "high"], "rows": [["fill_in", 7, 0.25, 0.1, NAN]]}
    told, older = (
        Page(render_html(report_with(battery=left), sample.strong()[1])).words()
        for left in (battery(formats=formats), battery())
    )
    assert "Format fill in 7 0.25 0.10 n/a" in told
    assert "Format fill in" not in older


def years(*rows: list[Any], **changes: Any) -> dict[str, Any]:
    asked = {
        "columns": ["question", "answer", "subject", "base", "shift"],
        "rows": [["Year?", "It is ___", 1801, 1805, NAN]],
    }
    told = {"subject": 1801.4, "base": 1805.0, "shift": -3.6, "low": -4.0, "high": -3.2}
    return {"columns": ["year", "subject", "base"], "rows": list(rows), "phrasings": asked} | told | changes


def test_beliefs_are_drawn_by_year_and_listed_by_ten_years() -> None:
    report = report_with(years=years([1808, 0.5, 0.25], [1809, 0.25, NAN], [1810, 0.25, 0.75]))
    (belief,) = drawn(report).beliefs
    assert belief.spans == [(1800, 0.75, 0.25), (1810, 0.25, 0.75)]
    assert json.loads(drawn(report).json())["years"] == [
        {
            "rows": [[1808, 0.5, 0.25], [1809, 0.25, None], [1810, 0.25, 0.75]],
            "expected": {"subject": 1801.4, "base": 1805.0},
        }
    ]
    words = Page(render_html(report, sample.strong()[1])).words()
    assert "Shift: -3.6 years, 95 % interval -4.0 to -3.2 over 1 phrasings" in words
    assert "Year? It is ___ 1801.0 1805.0 n/a" in words
    assert "1800 75 % 25 %" in words


def test_a_belief_without_a_shift_says_none() -> None:
    report = report_with(years=years([1808, 0.5, 0.25], subject=NAN, shift=None))
    assert json.loads(drawn(report).json())["years"][0]["expected"] == {"subject": None, "base": 1805.0}
    words = Page(render_html(report, sample.strong()[1])).words()
    assert "expected year n/a" in words
    assert "Shift: -" not in words


def response(*effects: float | None, axis: str = "year") -> dict[str, Any]:
    columns = ["axis", "text", "context_effect", "interaction", "topic", "subject", "base"]
    rows = [[axis, str(1980 + at), effect, 1.0, "food", 0.5, 0.4] for at, effect in enumerate(effects)]
    return {"columns": columns, "rows": rows}


def test_a_curve_keeps_the_order_of_its_axis_and_lists_the_highest_first() -> None:
    report = report_with(response=response(0.5, NAN, 40.0, -1.0))
    (curve,) = drawn(report).curves
    assert [row.text for row in curve.rows] == ["1980", "1981", "1982", "1983"]
    assert curve.highest[0].text == "1982"
    assert json.loads(drawn(report).json())["curve"][0][1] == ["1981", None, 1.0, "food"]
    words = Page(render_html(report, sample.strong()[1])).words()
    assert "Years, codes and other axes" in words
    assert "1982 40.0" in words


def test_every_axis_has_its_curve() -> None:
    both = response(1.0, 2.0)
    both["rows"] += response(3.0, axis="code")["rows"]
    assert [(curve.axis, len(curve.rows)) for curve in drawn(report_with(response=both)).curves] == [
        ("year", 2),
        ("code", 1),
    ]


@pytest.mark.parametrize(
    "left",
    [
        {"response": {"columns": ["axis"], "rows": [["year"]]}},
        {"response": response()},
        {"entropies": None},
        {"entropies": []},
        {"entropies": {"columns": ["text"], "rows": [["🐣"]]}},
        {"entropies": {"columns": ["text"], "rows": [["🐣", "end"]]}},
        {"entropies": entropies(NAN)},
        {"entropies": entropies()},
        {"map": {"method": "UMAP"}},
        {"map": activation_map()},
        {"map": activation_map(point("🐣", "unheard of"))},
        {"map": activation_map(point("🐣", "candidate", None))},
        {"battery": battery(axes={"columns": [], "rows": []})},
        {"battery": battery(axes=3)},
        {"years": years()},
        {"years": years([1808, "half", 0.5])},
        {"years": years([1808, 0.5, 0.5], phrasings=3)},
        {"tests": {"columns": ["text"], "rows": "none"}},
        {"of a later version": {"columns": [], "rows": []}},
    ],
    ids=str,
)
def test_what_has_another_shape_makes_no_section(left: dict[str, Any]) -> None:
    report = report_with(**left)
    parsed = Page(render_html(report, sample.strong()[1]))
    assert not {"curves", "entropies", "map", "shifts"} & {attributes.get("id") for _, attributes in parsed.elements}
    assert corroborations(report) == []


def test_an_old_report_has_no_further_section() -> None:
    ids = {attributes.get("id") for _, attributes in page(sample.strong).elements}
    assert not {"curves", "entropies", "map", "shifts"} & ids
    assert "What other detectors measure" not in page(sample.strong).words()


def test_other_detectors_are_heard_beside_the_finding() -> None:
    words = page(sample.pictured).words()
    first, _, rest = words.partition("touchstone replay REPORT.json --finding 1")
    assert "What other detectors measure about it" in first
    assert "strip entropy_drop +1.90 nats 2.4e-5 7.2e-5 Null: the context moves the subject no further" in first
    assert "activation_clustering silhouette" in first
    assert "+0.04 nats 0.38 0.76" in rest.partition("--finding 2")[0]


def test_corroboration_is_about_the_same_text_at_the_same_position() -> None:
    found = sample.confirmation(
        Context(text="qp", family="emoji", position="start"), None, "refusal", 40, nominated="qpx"
    )
    places = [("qp", "start"), ("qpx", "start"), ("qp", "end"), ("q", "start")]
    heard = [
        Corroboration("d", TestRow(text=text, position=at, statistic="s", effect=0, p_value=1, p_holm=1), None)
        for text, at in places
    ]
    assert [item.test.place for item in about(found, heard)] == places[:2]


def test_every_picture_says_how_it_is_read() -> None:
    words = page(sample.pictured).words()
    assert words.count("How to read it:") == 4
    for said in (
        "No decision reads this picture",
        "n_neighbors 15, min_dist 0.1, metric euclidean, random_state 0",
        "after layer 20",
        "Power: an overall shift of 0.83 nats would have been seen",
        "no verdict reads it",
        "answers of the 19th century →",
        "coherent share 0.97",
    ):
        assert said in words


@pytest.mark.parametrize(
    "left",
    [
        {"entropies": entropies(0.5)},
        {"map": activation_map(point("🐣", "candidate"))},
        {"battery": battery()},
        {"years": years([1808, 0.5, 0.25])},
    ],
    ids=["entropies", "map", "battery", "years"],
)
def test_a_picture_of_a_detector_that_did_not_complete_warns(left: dict[str, Any]) -> None:
    report = report_with(outcome="inconclusive", reason="the gate stayed shut", **left)
    words = Page(render_html(report, sample.strong()[1])).words()
    assert "probe ended as inconclusive: the gate stayed shut . What is drawn here is not to be relied on." in words


def test_a_test_without_a_value_says_so() -> None:
    tests = {"columns": artifacts.TEST_COLUMNS, "rows": [["🐣", "end", "drop", NAN, None, NAN]]}
    words = Page(render_html(report_with(tests=tests), sample.strong()[1])).words()
    assert "probe drop n/a n/a n/a" in words
    assert "nan" not in words.split()


@pytest.mark.parametrize(
    "kind",
    [TestRow, EntropyRow, MapRow, AxisRow, FormatRow, ItemRow, YearRow, PhrasingRow, ResponseRow],
    ids=lambda kind: kind.__name__,
)
def test_every_column_that_is_read_is_on_the_page_about_it(kind: type[BaseModel]) -> None:
    columns = [f"`{field.alias or name}`" for name, field in kind.model_fields.items()]
    lines = DOCS.joinpath("reference", "report-page.md").read_text("utf-8").splitlines()
    assert any(all(column in line for column in columns) for line in lines if line.startswith("| `"))


def test_a_full_report_is_of_a_size_to_send() -> None:
    assert len(render_html(*sample.pictured()).encode()) < 1_500_000
