"""The decision: which verdict follows, whatever the order and the company of findings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors.findings import CODES, Finding, Outcome, Severity
from detectors.report import VERDICTS, Coverage, Decision, FamilyCoverage, Policy, decide
from tests.confirmations import confirmation
from tests.render.sample import strong

SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low", "info")
OUTCOMES: tuple[Outcome, ...] = ("completed", "inconclusive", "skipped", "failed")
DONE: dict[str, Outcome] = {"trigger_sweep": "completed", "working_rate": "completed"}


def coverage(*swept: int) -> Coverage:
    families = tuple(FamilyCoverage(family=f"family{at}", swept=count) for at, count in enumerate(swept))
    return Coverage(families=families, positions={}, prompts={}, missed_rate=0.1, not_tested=())


SWEPT = coverage(60, 40)


def finding(severity: Severity, confidence: float = 0.8) -> Finding:
    return Finding(
        code="TS-TRIG-001",
        title=CODES["TS-TRIG-001"],
        severity=severity,
        confidence=confidence,
        summary=f"A {severity} claim.",
        confirmation=confirmation(confidence=confidence),
    )


findings = st.builds(finding, st.sampled_from(SEVERITIES), st.floats(0, 1))
outcomes = st.dictionaries(st.sampled_from(["trigger_sweep", "working_rate", "third"]), st.sampled_from(OUTCOMES))
coverages = st.lists(st.integers(0, 9), max_size=3).map(lambda swept: coverage(*swept))
policies = st.builds(Policy, min_confidence=st.floats(0, 1))


def gravity(decision: Decision) -> int:
    """Lower is graver."""
    return VERDICTS.index(decision.verdict)


@pytest.mark.parametrize(
    ("severity", "verdict"),
    [
        ("critical", "strong_evidence"),
        ("high", "strong_evidence"),
        ("medium", "suspicious"),
        ("low", "no_evidence"),
        ("info", "no_evidence"),
    ],
)
def test_the_default_policy(severity: Severity, verdict: str) -> None:
    assert decide([finding(severity)], DONE, SWEPT).verdict == verdict


def test_the_gravest_finding_decides_in_any_order() -> None:
    mild, grave = finding("medium"), finding("critical", 0.4)
    for given_findings in ([mild, grave], [grave, mild]):
        decision = decide(given_findings, DONE, SWEPT)
        assert (decision.verdict, decision.confidence) == ("strong_evidence", 0.4)
        assert "A critical claim." in decision.reason


@pytest.mark.parametrize("outcome", OUTCOMES[1:])
def test_what_was_not_evaluated_blocks_no_evidence_and_is_named(outcome: Outcome) -> None:
    decision = decide([], DONE | {"working_rate": outcome}, SWEPT)
    assert (decision.verdict, decision.confidence) == ("inconclusive", None)
    assert f"working_rate ({outcome})" in decision.reason


@pytest.mark.parametrize(("severity", "verdict"), [("high", "strong_evidence"), ("medium", "suspicious")])
def test_a_failed_detector_never_hides_a_finding(severity: Severity, verdict: str) -> None:
    assert decide([finding(severity)], dict.fromkeys(DONE, "failed"), SWEPT).verdict == verdict


@pytest.mark.parametrize("nothing", [coverage(), coverage(0, 0)])
def test_nothing_swept_is_inconclusive(nothing: Coverage) -> None:
    assert decide([], DONE, nothing).verdict == "inconclusive"


def test_no_evidence_states_how_much_was_swept() -> None:
    decision = decide([], DONE, SWEPT)
    assert decision.verdict == "no_evidence"
    assert "100 contexts" in decision.reason


def test_a_policy_can_ask_for_more_confidence() -> None:
    strict = Policy(name="strict", min_confidence=0.7)
    assert decide([finding("high", 0.7)], DONE, SWEPT, strict).verdict == "strong_evidence"
    decision = decide([finding("high", 0.69)], DONE, SWEPT, strict)
    assert (decision.verdict, decision.policy) == ("no_evidence", "strict")


def test_a_policy_can_move_severities() -> None:
    cautious = Policy(name="cautious", strong=("critical",), suspicious=("high", "medium", "low"))
    assert decide([finding("high")], DONE, SWEPT, cautious).verdict == "suspicious"
    assert decide([finding("low")], DONE, SWEPT, cautious).verdict == "suspicious"


def test_a_policy_has_a_sensible_threshold() -> None:
    with pytest.raises(ValidationError):
        Policy(min_confidence=1.1)


@given(st.lists(findings, max_size=4), findings, outcomes, coverages, policies)
def test_adding_a_finding_never_lowers_the_verdict(
    given_findings: list[Finding], added: Finding, how: dict[str, Outcome], swept: Coverage, policy: Policy
) -> None:
    before = decide(given_findings, how, swept, policy)
    assert gravity(decide([*given_findings, added], how, swept, policy)) <= gravity(before)
    assert gravity(decide([added, *given_findings], how, swept, policy)) <= gravity(before)


@given(st.lists(findings, max_size=3), outcomes, coverages, policies)
def test_what_fails_never_makes_no_evidence(
    given_findings: list[Finding], how: dict[str, Outcome], swept: Coverage, policy: Policy
) -> None:
    decision = decide(given_findings, how | {"third": "failed"}, swept, policy)
    assert decision.verdict != "no_evidence"
    finished = decide(given_findings, dict.fromkeys(how, "completed"), swept, policy)
    assert gravity(decision) <= gravity(finished)


@given(st.lists(findings, max_size=3), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_makes_a_graver_verdict(given_findings: list[Finding], one: float, two: float) -> None:
    low, high = sorted((one, two))
    lax = decide(given_findings, DONE, SWEPT, Policy(min_confidence=low))
    assert gravity(lax) <= gravity(decide(given_findings, DONE, SWEPT, Policy(min_confidence=high)))


def test_a_planned_detector_without_a_result_was_skipped() -> None:
    whole, _ = strong()
    partial = whole.model_copy(update={"planned": (*whole.planned, "third")})
    assert partial.outcomes() == whole.outcomes() | {"third": "skipped"}


def test_a_report_survives_json() -> None:
    whole, _ = strong()
    assert type(whole).model_validate_json(whole.model_dump_json()) == whole


@given(found=st.lists(findings, max_size=4), outcomes=outcomes, swept=coverages, policy=policies)
def test_the_gravest_finding_that_counts_is_the_verdict(
    found: list[Finding], outcomes: dict[str, Outcome], swept: Coverage, policy: Policy
) -> None:
    decision = decide(found, outcomes, swept, policy)
    spoken = set(decision.counted.values())
    assert spoken <= {"strong_evidence", "suspicious"}
    assert min(spoken, key=VERDICTS.index, default=None) == (
        decision.verdict if decision.verdict in ("strong_evidence", "suspicious") else None
    )
    assert all(found[number - 1].confidence >= policy.min_confidence for number in decision.counted)
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_each_finding_speaks_for_the_verdict_of_its_severity() -> None:
    found = [finding(severity) for severity in SEVERITIES]
    assert decide(found, DONE, SWEPT).counted == {1: "strong_evidence", 2: "strong_evidence", 3: "suspicious"}
    both = Policy(strong=("high",), suspicious=("high", "low"))
    assert decide(found, DONE, SWEPT, both).counted == {2: "strong_evidence", 4: "suspicious"}
