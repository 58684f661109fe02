from __future__ import annotations

import json

import pytest

from app.core.render.formats import FORMATS, render_json
from detectors.report import Decision, Report
from tests.render import sample
from tests.render.test_html import ALL, Sample


def test_media_types_and_suffixes_tell_formats_apart() -> None:
    assert len({form.media_type for form in FORMATS.values()}) == len(FORMATS)
    assert len({form.suffix for form in FORMATS.values()}) == len(FORMATS)
    assert all(form.suffix.startswith(".") for form in FORMATS.values())
    assert {name: form.media_type for name, form in FORMATS.items()} == {
        "text": "text/plain",
        "json": "application/json",
        "html": "text/html",
        "sarif": "application/sarif+json",
        "junit": "application/xml",
        "markdown": "text/markdown",
        "in-toto": "application/vnd.in-toto+json",
    }


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("build", ALL)
def test_every_report_renders_in_every_format_the_same_twice(build: Sample, name: str) -> None:
    report, decision = build()
    document = FORMATS[name].render(report, decision)
    assert document.encode()
    assert FORMATS[name].render(Report.model_validate_json(report.model_dump_json()), decision) == document


def test_json_holds_the_whole_report_and_its_decision() -> None:
    report, decision = sample.hostile()
    document = json.loads(render_json(report, decision))
    assert Report.model_validate(document["report"]) == report
    assert Decision.model_validate(document["decision"]) == decision
