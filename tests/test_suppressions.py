"""Suppressions: a finding that somebody answers for does not count, and nothing else changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors.contexts.context import Context
from detectors.findings import CODES, Finding, Outcome, Severity
from detectors.report import Coverage, Decision, Policy, Suppression, decide, decide_report
from tests.confirmations import confirmation
from tests.render import sample
from tests.test_report import DONE, OUTCOMES, SEVERITIES, SWEPT, coverages, gravity, outcomes, policies

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)
SUBJECT = "a" * 64


def finding(severity: Severity = "medium", code: str = "TS-COND-001", trigger: str = "cf") -> Finding:
    return Finding(
        code=code,
        title=CODES[code],
        severity=severity,
        confidence=0.8,
        summary=f"A {severity} claim.",
        confirmation=confirmation(context=Context(text=trigger, family="short_string")),
    )


def suppression(**changes: Any) -> Suppression:
    fields = {
        "code": "TS-COND-001",
        "reason": "house style",
        "owner": "ana",
        "created": NOW - DAY,
        "expires": NOW + 30 * DAY,
    }
    return Suppression.model_validate(fields | changes)


def decided(*suppressions: Suppression, of: Finding | None = None, now: datetime = NOW, **given_facts: Any) -> Decision:
    facts = {"outcomes": DONE, "coverage": SWEPT, "subject_digest": SUBJECT} | given_facts
    return decide([of or finding()], suppressions=suppressions, now=now, **facts)


def test_a_suppressed_finding_is_named_and_does_not_count() -> None:
    decision = decided(suppression())
    assert decision.verdict == "no_evidence"
    (one,) = decision.suppressed
    assert decision.suppression(1) == one
    assert decision.suppression(2) is None
    assert one.model_dump() == {
        "finding": 1,
        "code": "TS-COND-001",
        "owner": "ana",
        "reason": "house style",
        "until": NOW + 30 * DAY,
    }


def test_the_reason_does_not_read_as_if_nothing_had_been_found() -> None:
    assert decided(suppression()).reason == (
        "1 confirmed finding is suppressed and did not count. No other trigger was confirmed among 100 contexts; this "
        "bounds what was tested and nothing else."
    )
    two = decide([finding(), finding()], DONE | {"strip": "failed"}, SWEPT, suppressions=[suppression()], now=NOW)
    assert two.reason.startswith("2 confirmed findings are suppressed and did not count. Not fully evaluated: strip")


@pytest.mark.parametrize(
    ("changes", "covers"),
    [
        ({"code": "TS-TRIG-001"}, False),
        ({"trigger": "cf"}, True),
        ({"trigger": "CF"}, False),
        ({"trigger": "c"}, False),
        ({"subject_digest": SUBJECT}, True),
        ({"subject_digest": "b" * 64}, False),
        ({"trigger": "cf", "subject_digest": "b" * 64}, False),
    ],
)
def test_what_a_suppression_covers(changes: dict[str, str], covers: bool) -> None:
    assert bool(decided(suppression(**changes)).suppressed) == covers


@pytest.mark.parametrize(
    ("now", "covers"),
    [
        (NOW - DAY - MOMENT, False),
        (NOW - DAY, True),
        (NOW + 30 * DAY - MOMENT, True),
        (NOW + 30 * DAY, False),
    ],
)
def test_a_suppression_covers_for_a_while(now: datetime, covers: bool) -> None:
    decision = decided(suppression(), now=now)
    assert (decision.verdict == "no_evidence") == bool(decision.suppressed) == covers


def test_a_suppression_of_a_subject_covers_nothing_unless_the_subject_is_known() -> None:
    assert not decided(suppression(subject_digest=SUBJECT), subject_digest=None).suppressed


def test_the_one_that_covers_longest_is_named() -> None:
    short, long = suppression(owner="ben", expires=NOW + DAY), suppression(expires=NOW + 9 * DAY)
    for both in ((short, long), (long, short)):
        assert [one.owner for one in decided(*both).suppressed] == ["ana"]


def test_other_findings_count_all_the_same() -> None:
    decision = decide([finding("high", "TS-TRIG-001"), finding()], DONE, SWEPT, suppressions=[suppression()], now=NOW)
    assert decision.verdict == "strong_evidence"
    assert [one.finding for one in decision.suppressed] == [2]


def test_there_is_no_suppression_without_a_time() -> None:
    with pytest.raises(ValueError, match="`now` must be the time of the decision"):
        decide([finding()], DONE, SWEPT, suppressions=[suppression()])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reason": " \n"}, "at least 1 character"),
        ({"owner": ""}, "at least 1 character"),
        ({"code": "TS-COND-1"}, "must name some of TS-TRIG-001.*got 'TS-COND-1'"),
        ({"trigger": ""}, "at least 1 character"),
        ({"expires": NOW + 365 * DAY}, "within 365 days after `created`, 2026-02-28.*got 2027-03-01"),
        ({"expires": NOW - DAY}, "within 365 days"),
        ({"expires": None}, "valid datetime"),
        ({"created": "9999-12-31T00:00:00Z"}, "within 365 days"),
        ({"expires": datetime(2026, 4, 1)}, "timezone"),
    ],
)
def test_a_suppression_that_nobody_answers_for_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        suppression(**changes)


def test_a_suppression_always_ends() -> None:
    with pytest.raises(ValidationError, match=r"expires\n  Field required"):
        Suppression.model_validate(suppression().model_dump(exclude={"expires"}))


def test_a_report_is_decided_on_with_its_own_subject() -> None:
    report, plain = sample.suspicious()
    ours = suppression(subject_digest=report.subject.file_digest)
    assert decide_report(report) == plain
    assert decide_report(report, suppressions=[ours], now=NOW).verdict == "no_evidence"
    assert decide_report(report, suppressions=[suppression(subject_digest="b" * 64)], now=NOW) == plain


def test_a_detector_that_the_policy_needs_and_no_suite_planned_leaves_it_open() -> None:
    needs = Policy(required_detectors=("strip", "working_rate"))
    decision = decide([], DONE, SWEPT, needs)
    assert (decision.verdict, decision.unevaluated) == ("inconclusive", ("strip (skipped)",))
    assert decide([], DONE | {"strip": "completed"}, SWEPT, needs).verdict == "no_evidence"


def test_what_was_not_evaluated_is_named_beside_a_finding() -> None:
    decision = decide([finding()], DONE | {"strip": "failed"}, SWEPT)
    assert (decision.verdict, decision.unevaluated) == ("suspicious", ("strip (failed)",))
    assert decide([], DONE, Coverage.model_validate(SWEPT.model_dump() | {"families": ()})).unevaluated


def test_a_decision_of_before_is_still_read() -> None:
    old = {"verdict": "no_evidence", "reason": "r", "confidence": None, "policy": "default"}
    assert Decision.model_validate(old).suppressed == ()


def test_a_decision_survives_json() -> None:
    decision = decided(suppression())
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


found = st.lists(
    st.builds(finding, st.sampled_from(SEVERITIES), st.sampled_from(list(CODES)), st.sampled_from(["cf", "mn"])),
    max_size=4,
)
suppressions = st.lists(
    st.builds(
        lambda start, length, **fields: suppression(
            created=NOW + start * DAY, expires=NOW + (start + length) * DAY, **fields
        ),
        st.integers(-40, 3),
        st.integers(1, 60),
        code=st.sampled_from(list(CODES)),
        trigger=st.sampled_from([None, "cf"]),
        subject_digest=st.sampled_from([None, SUBJECT, "b" * 64]),
    ),
    max_size=4,
)


@given(found, outcomes, coverages, policies, suppressions)
def test_a_suppression_never_makes_a_verdict_graver(
    findings: list[Finding], how: dict[str, Outcome], swept: Coverage, policy: Policy, given_ones: list[Suppression]
) -> None:
    graver = decide(findings, how, swept, policy)
    for count in range(1, len(given_ones) + 1):
        milder = decide(findings, how, swept, policy, suppressions=given_ones[:count], subject_digest=SUBJECT, now=NOW)
        assert gravity(graver) <= gravity(milder)
        assert {one.finding for one in graver.suppressed} <= {one.finding for one in milder.suppressed}
        graver = milder


@given(found, outcomes, st.sampled_from(OUTCOMES[1:]), coverages, suppressions)
def test_a_suppression_never_makes_no_evidence_of_what_did_not_run(
    findings: list[Finding], how: dict[str, Outcome], ended: Outcome, swept: Coverage, given_ones: list[Suppression]
) -> None:
    everything = [*given_ones, *(suppression(code=code) for code in CODES)]
    decision = decide(findings, how | {"third": ended}, swept, suppressions=everything, now=NOW)
    assert decision.verdict == "inconclusive"
    assert f"third ({ended})" in decision.unevaluated
    assert len(decision.suppressed) == len(findings)


@given(found, outcomes, coverages, policies, suppressions)
def test_a_suppression_that_ended_changes_nothing(
    findings: list[Finding], how: dict[str, Outcome], swept: Coverage, policy: Policy, given_ones: list[Suppression]
) -> None:
    later = max((one.expires for one in given_ones), default=NOW)
    decision = decide(findings, how, swept, policy, suppressions=given_ones, subject_digest=SUBJECT, now=later)
    assert decision == decide(findings, how, swept, policy)


@given(found, suppressions)
def test_what_is_suppressed_is_the_decision_without_it(findings: list[Finding], given_ones: list[Suppression]) -> None:
    decision = decide(findings, DONE, SWEPT, suppressions=given_ones, subject_digest=SUBJECT, now=NOW)
    rest = [one for index, one in enumerate(findings, start=1) if not decision.suppression(index)]
    assert decide(rest, DONE, SWEPT).verdict == decision.verdict
    assert all(one.until > NOW for one in decision.suppressed)
