"""The gate is closed unless a valid report opens it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.core.gating import Gate, ReportFacts, gate
from app.core.policies import builtin_policy
from detectors.report import GATE, VERDICTS, Decision, Policy, SuppressedFinding, decide_report
from tests.render import sample

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
LENIENT = Policy(name="lenient", gate={"suspicious": "warn"})
FACTS = ReportFacts(
    scan_id="sha256:" + "5c" * 32,
    created=NOW - DAY,
    suite="quick",
    scanner_version="0.2.0",
    subject_digest="a" * 64,
    base_digest="b" * 64,
    report_digest="c" * 64,
)


def facts(**changes: Any) -> ReportFacts:
    return ReportFacts.model_validate(FACTS.model_dump() | changes)


def decision(verdict: Any = "no_evidence", policy: str = "default", **fields: Any) -> Decision:
    return Decision(verdict=verdict, reason="As measured.", confidence=None, policy=policy, **fields)


def suppressed(until: datetime) -> tuple[SuppressedFinding, ...]:
    return (SuppressedFinding(finding=1, code="TS-COND-001", owner="ana", reason="house style", until=until),)


def ask(
    found: ReportFacts | None = FACTS, decided: Decision | None = None, policy: Policy = Policy(), **asked: Any
) -> Gate:
    decided = decided or decision(policy=policy.name)
    return gate(found, decided, policy, **{"subject_digest": "a" * 64, "now": NOW} | asked)


def test_a_valid_report_opens_it_and_names_what_it_lets_through() -> None:
    answer = ask(base_digest="b" * 64)
    assert answer == Gate(
        allow=True,
        outcome="pass",
        reason=answer.reason,
        verdict="no_evidence",
        scan_id=FACTS.scan_id,
        subject_digest="a" * 64,
        base_digest="b" * 64,
        report_digest="c" * 64,
        decided_under="default",
        expires_at=FACTS.created + 30 * DAY,
    )
    assert "deploy the contents aaaaaaaaaaaa and no others, before 2026-03-30 12:00+00:00" in answer.reason


CLOSED: dict[str, tuple[dict[str, Any], str]] = {
    "no report": ({"found": None}, "There is no report on the contents aaaaaaaaaaaa: scan the model"),
    "other contents": (
        {"found": facts(subject_digest="d" * 64)},
        "at the contents dddddddddddd and not at aaaaaaaaaaaa",
    ),
    "other base": ({"base_digest": "d" * 64}, "with the base bbbbbbbbbbbb and not with dddddddddddd"),
    "too old": ({"found": facts(created=NOW - 30 * DAY)}, "may be 30 days old at most: scan the model again"),
    "too old for the caller": ({"max_age": timedelta(hours=6)}, "may be 6 hours old at most: scan the model again"),
    "smoke": ({"found": facts(suite="smoke")}, "too weak for the policy default: scan the model with quick"),
    "unknown suite": ({"found": facts(suite="home-made")}, "ran the suite home-made, which is too weak"),
    "old scanner": ({"policy": Policy(min_scanner_version="0.10.0")}, "wants at least 0.10.0: update Touchstone"),
    "no version": (
        {"found": facts(scanner_version="x"), "policy": Policy(min_scanner_version="0.1.0")},
        "ran with the scanner x",
    ),
    "from the future": ({"found": facts(created=NOW + 11 * MINUTE)}, "which is yet to come: set the clocks right"),
    "decided under another policy": ({"decided": decision(policy="strict")}, "another policy than default: decide"),
    "a suppression ended": ({"decided": decision(suppressed=suppressed(NOW))}, "ended at 2026-03-01 12:00+00:00"),
    "warned, but unfinished": (
        {"policy": LENIENT, "decided": decision("suspicious", "lenient", unevaluated=("strip (failed)",))},
        "did not evaluate strip (failed): remove the cause and scan again",
    ),
}


@pytest.mark.parametrize("case", CLOSED)
def test_it_is_closed(case: str) -> None:
    asked, says = CLOSED[case]
    answer = ask(**asked)
    assert (answer.allow, answer.outcome, answer.expires_at) == (False, "closed", None)
    assert says in answer.reason


@pytest.mark.parametrize("case", CLOSED)
def test_a_reason_is_one_sentence_that_says_what_to_do(case: str) -> None:
    for reason in (ask(**CLOSED[case][0]).reason, ask().reason):
        assert reason.endswith(".")
        assert ". " not in reason
        assert ": " in reason


@pytest.mark.parametrize(
    ("policy", "verdict", "outcome", "allow"),
    [
        (Policy(), "strong_evidence", "fail", False),
        (Policy(), "suspicious", "fail", False),
        (Policy(), "inconclusive", "inconclusive", False),
        (Policy(), "no_evidence", "pass", True),
        (LENIENT, "suspicious", "warn", True),
        (builtin_policy("strict"), "inconclusive", "fail", False),
    ],
)
def test_the_policy_maps_verdicts(policy: Policy, verdict: str, outcome: str, allow: bool) -> None:
    answer = ask(policy=policy, decided=decision(verdict, policy.name))
    assert (answer.outcome, answer.allow, answer.verdict) == (outcome, allow, verdict)
    assert (answer.expires_at is not None) == allow


@pytest.mark.parametrize(
    "found", [facts(created=NOW - 900 * DAY), facts(suite="smoke"), facts(scanner_version="0.0.1")]
)
def test_what_was_found_fails_whatever_the_report_lacks(found: ReportFacts) -> None:
    answer = ask(found, decision("strong_evidence"), Policy(min_scanner_version="0.2.0"))
    assert answer.outcome == "fail"
    assert "Strong evidence of a backdoor in the contents aaaaaaaaaaaa: hold the model back" in answer.reason


def test_no_verdict_is_told_of_other_contents() -> None:
    answer = ask(facts(subject_digest="d" * 64), decision("no_evidence"))
    assert (answer.verdict, answer.subject_digest) == (None, "d" * 64)


@pytest.mark.parametrize("ahead", [5 * MINUTE, 10 * MINUTE])
def test_clocks_may_differ_by_minutes(ahead: timedelta) -> None:
    assert ask(facts(created=NOW + ahead)).allow


def test_time_zones_do_not_matter() -> None:
    assert ask(facts(created="2026-03-01T17:29:00+05:30")).allow
    assert not ask(facts(created="2026-03-01T11:55:00-01:00")).allow


def test_a_caller_can_only_be_stricter() -> None:
    old = facts(created=NOW - 8 * DAY)
    assert ask(old, max_age=9 * DAY).allow
    assert not ask(old, max_age=8 * DAY).allow
    assert not ask(old, policy=builtin_policy("strict"), max_age=900 * DAY).allow
    assert not ask(max_age=timedelta(0)).allow
    assert ask(max_age=900 * DAY).expires_at == ask().expires_at


def test_it_shuts_when_it_said_it_would() -> None:
    until = ask().expires_at
    assert until is not None
    assert ask(now=until - MINUTE).allow
    assert not ask(now=until).allow


def test_it_opens_no_longer_than_what_is_suppressed() -> None:
    decided = decision(suppressed=suppressed(NOW + DAY))
    answer = ask(decided=decided)
    assert answer.expires_at == NOW + DAY
    assert "(1 suppressed)" in answer.reason
    assert not ask(decided=decided, now=NOW + DAY).allow


def test_a_policy_that_takes_smoke_is_opened_by_it() -> None:
    assert ask(facts(suite="smoke"), policy=Policy(required_suites=("smoke", "quick"))).allow


def test_scanner_versions_compare_as_versions() -> None:
    assert ask(facts(scanner_version="0.10.0"), policy=Policy(min_scanner_version="0.9.1")).allow
    assert not ask(facts(scanner_version="0.10.0rc1"), policy=Policy(min_scanner_version="0.10.0")).allow


def test_attackers_text_is_made_visible() -> None:
    nasty = "\x1b[31m\u202e"
    answers = [
        ask(facts(scan_id=nasty, subject_digest=nasty)),
        ask(facts(suite=nasty)),
        ask(decided=decision("inconclusive", unevaluated=(nasty,))),
        ask(facts(scanner_version=nasty), policy=Policy(min_scanner_version="1")),
    ]
    assert all(answer.reason.isprintable() and not answer.allow for answer in answers)


def test_facts_of_a_report() -> None:
    report, _ = sample.no_evidence()
    found = ReportFacts.of(report, "e" * 64)
    answer = gate(
        found,
        decide_report(report),
        Policy(),
        subject_digest=report.subject.file_digest,
        base_digest=report.base.file_digest,
        now=datetime(2025, 11, 22, tzinfo=UTC),
    )
    assert (answer.allow, answer.report_digest) == (True, "e" * 64)
    with pytest.raises(ValidationError, match="created"):
        ReportFacts.of(report.model_copy(update={"created": "yesterday"}), "e" * 64)


def test_an_answer_survives_json() -> None:
    answer = ask()
    assert Gate.model_validate_json(answer.model_dump_json()) == answer


digests = st.sampled_from(["a" * 64, "a" * 64, "b" * 64])
times = st.integers(-60 * 24 * 50, 60).map(lambda minutes: NOW + minutes * MINUTE)
reports = st.builds(
    ReportFacts,
    scan_id=st.just("s"),
    created=times,
    suite=st.sampled_from(["smoke", "quick", "other"]),
    scanner_version=st.sampled_from(["0.1.0", "0.2.0", "1.0", "none"]),
    subject_digest=digests,
    base_digest=digests,
    report_digest=st.just("r"),
)
decisions = st.builds(
    decision,
    st.sampled_from(VERDICTS),
    st.sampled_from(["default", "default", "other"]),
    suppressed=st.one_of(st.just(()), st.integers(-9, 9).map(lambda days: suppressed(NOW + days * DAY))),
    unevaluated=st.sampled_from([(), (), ("strip (failed)",)]),
)
policies = st.builds(
    Policy,
    gate=st.sampled_from([GATE, {"suspicious": "warn"}, {"suspicious": "warn", "strong_evidence": "warn"}]),
    max_age_days=st.sampled_from([1, 7, 30, 40]),
    min_scanner_version=st.sampled_from([None, "0.2.0"]),
    required_suites=st.sampled_from([("quick",), ("smoke", "quick")]),
)
ages = st.one_of(st.none(), st.integers(-1, 60).map(lambda days: days * DAY))


def valid(
    found: ReportFacts | None, decided: Decision | None, policy: Policy, base: str | None, age: timedelta | None
) -> bool:
    """What must hold before the gate may be open, said a second time."""
    if found is None or decided is None:
        return False
    newest_allowed = NOW - timedelta(days=policy.max_age_days)
    return all(
        (
            found.subject_digest == "a" * 64,
            base in (None, found.base_digest),
            newest_allowed < found.created <= NOW + timedelta(minutes=10),
            age is None or found.created > NOW - age,
            found.suite in policy.required_suites,
            policy.min_scanner_version is None or found.scanner_version in ("0.2.0", "1.0"),
            decided.policy == policy.name,
            decided.verdict != "inconclusive",
            not decided.unevaluated,
            policy.gate[decided.verdict] in ("pass", "warn"),
            all(one.until > NOW for one in decided.suppressed),
        )
    )


@settings(max_examples=500)
@given(st.one_of(st.none(), reports), st.one_of(st.none(), decisions), policies, st.one_of(st.none(), digests), ages)
@example(FACTS, decision(), Policy(), "b" * 64, 2 * DAY)  # open
def test_it_is_never_open_without_a_valid_report(
    found: ReportFacts | None, decided: Decision | None, policy: Policy, base: str | None, age: timedelta | None
) -> None:
    answer = gate(found, decided, policy, subject_digest="a" * 64, now=NOW, base_digest=base, max_age=age)
    assert answer.allow == valid(found, decided, policy, base, age)
    assert answer.allow == (answer.outcome in ("pass", "warn"))
    if answer.allow:
        assert answer.subject_digest == "a" * 64
        assert answer.expires_at is not None
        assert answer.expires_at > NOW


@given(reports, decisions, policies, ages)
def test_asking_for_more_never_opens_it(
    found: ReportFacts, decided: Decision, policy: Policy, age: timedelta | None
) -> None:
    plain = gate(found, decided, policy, subject_digest="a" * 64, now=NOW)
    stricter = gate(found, decided, policy, subject_digest="a" * 64, now=NOW, base_digest="a" * 64, max_age=age)
    assert plain.allow or not stricter.allow
