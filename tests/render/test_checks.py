from __future__ import annotations

from typing import Any

import pytest

from app.core.render.checks import VERDICT_STATES, Check, checks, fingerprint
from detectors.contexts.context import Context
from detectors.report import VERDICTS, Policy, decide_report
from tests.render import sample
from tests.render.test_html import ALL, SAMPLES, Sample


def states(found: list[Check], group: str) -> list[str]:
    return [check.state for check in found if check.group == group]


@pytest.mark.parametrize(
    ("verdict", "state", "detectors", "findings"),
    [
        ("strong_evidence", "failed", ["passed", "passed"], ["failed", "failed"]),
        ("suspicious", "warned", ["passed", "passed"], ["warned", "passed"]),
        ("inconclusive", "error", ["passed", "error"], []),
        ("no_evidence", "passed", ["passed", "passed"], []),
    ],
)
def test_each_verdict_in_checks(verdict: str, state: str, detectors: list[str], findings: list[str]) -> None:
    found = checks(*SAMPLES[verdict]())
    assert found[0].group == "verdict"
    assert states(found, "verdict") == [state]
    assert states(found, "detector") == detectors
    assert states(found, "finding") == findings


def test_only_one_verdict_passes() -> None:
    assert set(VERDICT_STATES) == set(VERDICTS)
    assert [verdict for verdict, state in VERDICT_STATES.items() if state == "passed"] == ["no_evidence"]


@pytest.mark.parametrize("outcome", ["failed", "inconclusive", "skipped"])
def test_what_was_not_evaluated_never_passes_and_says_why(outcome: Any) -> None:
    found = checks(*sample.scan([], outcome=outcome, reason="out of\x1b memory"))
    (check,) = [check for check in found if check.name == "working_rate"]
    assert check.state != "passed"
    assert check.message == f"{outcome}: out of⟨U+001B ESCAPE⟩ memory"
    assert found[0].state == "error"


def test_a_detector_without_a_result_is_skipped() -> None:
    report, _ = sample.no_evidence()
    report = report.model_copy(update={"results": report.results[:1]})
    found = checks(report, decide_report(report))
    assert [(check.state, check.message) for check in found if check.name == "working_rate"] == [
        ("skipped", "skipped: it returned no result")
    ]


@pytest.mark.parametrize(
    ("policy", "verdict", "findings"),
    [
        (Policy(), "strong_evidence", ["failed", "failed"]),
        (Policy(strong=(), suspicious=("high",)), "suspicious", ["warned", "warned"]),
        (Policy(strong=("high",), suspicious=("high", "medium")), "strong_evidence", ["failed", "failed"]),
        (Policy(min_confidence=0.99), "no_evidence", ["passed", "passed"]),
        (Policy(strong=(), suspicious=()), "no_evidence", ["passed", "passed"]),
    ],
)
def test_findings_stand_as_the_policy_has_it(policy: Policy, verdict: str, findings: list[str]) -> None:
    report, _ = sample.strong()
    decision = decide_report(report, policy)
    found = checks(report, decision)
    assert decision.verdict == verdict
    assert states(found, "finding") == findings


def test_a_finding_that_somebody_answers_for_is_suppressed() -> None:
    found = checks(*sample.suppressed())
    assert found[0].state == "passed"
    assert states(found, "finding") == ["suppressed", "passed"]
    assert "by ana until 2025-12-22 09:00+00:00: House style of support." in found[-2].message


@pytest.mark.parametrize("build", ALL)
def test_every_text_is_visible(build: Sample) -> None:
    for check in checks(*build()):
        assert all(text.isprintable() for text in (check.name, check.message, *check.detail))


def test_a_fingerprint_is_of_code_trigger_and_place() -> None:
    def mark(text: str, position: Any, behaviour: Any) -> str:
        found = sample.confirmation(Context(text=text, family="x", position=position), None, behaviour, 39)
        return fingerprint(sample.scan([found])[0].findings[0])

    marks = {
        mark(text, position, behaviour)
        for text in ("qp", "pq")
        for position in ("start", "end")
        for behaviour in ("refusal", "degradation")
    }
    assert len(marks) == 8
    assert mark("qp", "end", "refusal") in marks
