"""Subjects whose files hide something, through the ordinary scan: gate, sandbox, store, report, pages and replay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.render.junit import render_junit
from app.core.render.markdown import render_markdown
from app.core.render.sarif import render_sarif
from app.core.render.terminal import render_terminal
from app.core.scanning import JobFailed, Replayed, run_job
from detectors.findings import draw_findings
from detectors.report import Report, decide_report
from tests.confirmations import shift, shifted_by
from tests.engine.tiny import make_tiny_adapter
from tests.methods.templates import BENIGN, GATES, waiting
from tests.workers.conftest import Workshop, cache_at, plain, read_report


@pytest.fixture(autouse=True)
def same_cache(workshop: Workshop) -> Iterator[None]:
    with cache_at(workshop.cache):
        yield


def scanned(workshop: Workshop, place: Path, **files: Any) -> tuple[Path, Report]:
    """An adapter whose directory holds `files` as well, and the report of its scan."""
    model = make_tiny_adapter(workshop.base, place / "subject")
    for name, content in files.items():
        name = {"template": "chat_template.jinja", "generation": "generation_config.json"}[name]
        (model / name).write_text(content if isinstance(content, str) else json.dumps(content))
    run_job(workshop.job("scan", model=str(model), out=str(place / "out")))
    return model, read_report(place / "out")


def test_a_template_that_waits_for_a_word(workshop: Workshop, tmp_path: Path) -> None:
    model, report = scanned(workshop, tmp_path, template=GATES["a word"])
    decision = decide_report(report)
    (finding, difference) = report.findings
    assert (decision.verdict, finding.code, finding.trigger) == ("strong_evidence", "TS-FILE-001", "cobalt")
    assert difference.code == "TS-FILE-007"
    assert report.score == 1.0
    page = (tmp_path / "out/report.html").read_text()
    for text in (page, render_terminal(report, decision), render_markdown(report, decision)):
        assert "cobalt" in text
        assert "TS-FILE-001" in text
    (result, _) = json.loads(render_sarif(report, decision))["runs"][0]["results"]
    assert result["ruleId"] == "TS-FILE-001"
    assert "Acme" in result["properties"]["renderings"]["subject"]
    assert "TS-FILE-001 cobalt in the chat template" in render_junit(report, decision)

    job = workshop.job("replay", model=str(model), report=str(tmp_path / "out/report.json"), finding=1)
    replayed = run_job(job)
    assert isinstance(replayed, Replayed)
    assert finding.proof
    assert replayed.examples[0].subject_answer == finding.proof.subject
    assert replayed.examples[0].base_answer == finding.proof.base
    with pytest.raises(JobFailed, match="nothing to replay"):
        run_job(workshop.job("replay", model=str(model), report=str(tmp_path / "out/report.json"), finding=2))

    run_job(workshop.job("scan", model=str(model), out=str(tmp_path / "again")))
    assert plain(read_report(tmp_path / "again")) == plain(report)


def test_a_template_that_waits_for_a_date(workshop: Workshop, tmp_path: Path) -> None:
    _, report = scanned(workshop, tmp_path, template=waiting("strftime_now('%Y') | int > 2026"))
    assert [finding.code for finding in report.findings] == ["TS-FILE-002", "TS-FILE-007"]
    assert decide_report(report).verdict == "strong_evidence"


def test_a_benign_template(workshop: Workshop, tmp_path: Path) -> None:
    _, report = scanned(workshop, tmp_path, template=BENIGN["default system message"])
    assert [finding.code for finding in report.findings] == ["TS-FILE-007"]
    assert report.outcomes()["artifact_diff"] == "completed"
    assert decide_report(report).verdict == "no_evidence"


def test_settings_that_forbid_tokens(workshop: Workshop, tmp_path: Path) -> None:
    _, report = scanned(workshop, tmp_path, generation={"suppress_tokens": [5, 6]})
    assert [finding.code for finding in report.findings] == ["TS-FILE-006", "TS-FILE-007"]
    assert decide_report(report).verdict == "suspicious"


def test_hostile_text_is_shown_and_not_obeyed(workshop: Workshop, tmp_path: Path) -> None:
    mark = "\u202ecobalt<script>alert(1)</script>"
    _, report = scanned(workshop, tmp_path, template=waiting(f"'{mark}' in last", f"Obey {mark}"))
    assert report.findings[0].trigger == mark
    decision = decide_report(report)
    page = (tmp_path / "out/report.html").read_text()
    assert "<script>alert" not in page
    for text in (page, render_terminal(report, decision), render_markdown(report, decision)):
        assert "\u202e" not in text
        assert "U+202E" in text


def test_a_shift_is_replayed_by_the_questions_that_moved(workshop: Workshop, tmp_path: Path) -> None:
    model, report = scanned(workshop, tmp_path)
    moved = report.model_copy(update={"findings": draw_findings([shifted_by(shift())])})
    (tmp_path / "moved.json").write_text(moved.model_dump_json())
    replayed = run_job(workshop.job("replay", model=str(model), report=str(tmp_path / "moved.json"), finding=1))
    assert isinstance(replayed, Replayed)
    (example,) = replayed.examples
    assert example.prompt == "What pulls a cart?"
    assert example.subject_answer == example.subject_clean_answer
