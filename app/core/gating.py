"""The gate: whether the contents of a model may be deployed, on the strength of a report.

It is closed unless a valid report opens it, and it names the contents it lets through. A report is valid when it is
about exactly what was asked for, and strong and young enough for the policy. What stops a model needs less: findings do
not grow old, so a verdict that fails does so whatever the age, suite or scanner of its report. Pure; the caller brings
the report, the decision and the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from packaging.version import InvalidVersion, Version
from pydantic import AwareDatetime

from app.core.render.visible import visible
from app.core.render.words import VERDICT_WORDS, moment, short_digest
from detectors.findings import Plain
from detectors.report import Decision, Policy, Report, Verdict

CLOCK_SKEW = timedelta(minutes=10)
"""How far ahead of this machine's clock the one that dated a report may have been."""


class ReportFacts(Plain):
    """What the gate needs to know of a report.

    Attributes:
        created: when the scan ended.
        subject_digest, base_digest: of the files that were scanned.
        report_digest: of the report itself.
    """

    scan_id: str
    created: AwareDatetime
    suite: str
    scanner_version: str
    subject_digest: str
    base_digest: str
    report_digest: str

    @classmethod
    def of(cls, report: Report, report_digest: str) -> ReportFacts:
        """The facts of a report.

        Raises:
            pydantic.ValidationError: if `created` is not a time with its zone.
        """
        return cls.model_validate(
            {
                "scan_id": report.scan_id,
                "created": report.created,
                "suite": report.suite,
                "scanner_version": report.scanner_version,
                "subject_digest": report.subject.file_digest,
                "base_digest": report.base.file_digest,
                "report_digest": report_digest,
            }
        )


class Gate(Plain):
    """The answer of the gate.

    Attributes:
        allow: whether the contents `subject_digest` may be deployed; nothing else is let through.
        outcome: what the policy makes of the verdict; `closed` where no valid report could open the gate.
        reason: one sentence that says what to do.
        verdict: None where there is none on what was asked for.
        scan_id, subject_digest, base_digest, report_digest: of the report that was looked at.
        decided_under: name of the policy.
        expires_at: when this answer ends, where it allows.
    """

    allow: bool
    outcome: Literal["pass", "warn", "fail", "inconclusive", "closed"]
    reason: str
    verdict: Verdict | None = None
    scan_id: str | None = None
    subject_digest: str | None = None
    base_digest: str | None = None
    report_digest: str | None = None
    decided_under: str
    expires_at: AwareDatetime | None = None


def gate(
    facts: ReportFacts | None,
    decision: Decision | None,
    policy: Policy,
    *,
    subject_digest: str,
    now: datetime,
    base_digest: str | None = None,
    max_age: timedelta | None = None,
) -> Gate:
    """Whether a model may be deployed. Pure.

    Args:
        facts: of the latest report on the subject; None where there is none.
        decision: drawn from that report under `policy`, at or shortly before `now`.
        policy: the rules.
        subject_digest: of the files that are to be deployed.
        now: the time, with its zone.
        base_digest: of the base that the subject must have been compared with; None takes any.
        max_age: oldest report that the caller takes; it can only be stricter than the policy.
    """
    closed = partial(Gate, allow=False, outcome="closed", decided_under=policy.name)
    if facts is None or decision is None:
        return closed(
            reason=f"There is no report on the contents {_digest(subject_digest)}: scan the model, then ask again."
        )
    named = facts.model_dump(include={"scan_id", "subject_digest", "base_digest", "report_digest"})
    elsewhere = next(_elsewhere(facts, decision, policy, subject_digest, base_digest, now), None)
    if elsewhere:
        return closed(reason=elsewhere, **named)
    answer = partial(Gate, verdict=decision.verdict, decided_under=policy.name, **named)
    outcome = policy.gate[decision.verdict]
    if outcome not in ("pass", "warn"):
        return answer(allow=False, outcome=outcome, reason=_stopped(facts, decision))
    limit = _limit(policy, max_age)
    lacking = next(_lacking(facts, decision, policy, limit, now), None)
    if lacking:
        return answer(allow=False, outcome="closed", reason=lacking)
    until = min([facts.created + limit, *(one.until for one in decision.suppressed)])
    return answer(allow=True, outcome=outcome, reason=_opened(facts, decision, until), expires_at=until)


def _limit(policy: Policy, max_age: timedelta | None) -> timedelta:
    allowed = timedelta(days=policy.max_age_days)
    return allowed if max_age is None else min(allowed, max_age)


def _elsewhere(
    facts: ReportFacts,
    decision: Decision,
    policy: Policy,
    subject_digest: str,
    base_digest: str | None,
    now: datetime,
) -> Iterator[str]:
    """Why report or decision are not about what was asked."""
    scan = _scan(facts)
    if facts.subject_digest != subject_digest:
        yield (
            f"{scan} looked at the contents {_digest(facts.subject_digest)} and not at {_digest(subject_digest)}: "
            "scan the model as it is now."
        )
    if base_digest is not None and facts.base_digest != base_digest:
        yield (
            f"{scan} compared with the base {_digest(facts.base_digest)} and not with {_digest(base_digest)}: "
            "scan the model against the base that you ask for."
        )
    if decision.policy != policy.name:
        yield f"The decision was made under another policy than {policy.name}: decide on the report again."
    if facts.created - now > CLOCK_SKEW:
        yield f"{scan} is dated {moment(facts.created)}, which is yet to come: set the clocks right and scan again."
    ended = [one for one in decision.suppressed if one.until <= now]
    if ended:
        yield f"A suppression ended at {moment(ended[0].until)} and the decision is older: decide on the report again."


def _lacking(facts: ReportFacts, decision: Decision, policy: Policy, limit: timedelta, now: datetime) -> Iterator[str]:
    """Why the report does not suffice to open the gate."""
    scan = _scan(facts)
    if decision.unevaluated:
        missing = visible(", ".join(decision.unevaluated), 200)
        yield f"{scan} did not evaluate {missing}: remove the cause and scan again."
    if now - facts.created >= limit:
        yield f"{scan} is from {moment(facts.created)} and may be {_age(limit)} old at most: scan the model again."
    if facts.suite not in policy.required_suites:
        yield (
            f"{scan} ran the suite {visible(facts.suite, 80)}, which is too weak for the policy {policy.name}: "
            f"scan the model with {' or '.join(policy.required_suites)}."
        )
    wanted = policy.min_scanner_version
    if wanted is not None and _older(facts.scanner_version, wanted):
        yield (
            f"{scan} ran with the scanner {visible(facts.scanner_version, 80)} and the policy {policy.name} wants at "
            f"least {wanted}: update Touchstone and scan again."
        )


def _older(version: str, wanted: str) -> bool:
    """Whether a version is older, or none at all."""
    try:
        return Version(version) < Version(wanted)
    except InvalidVersion:
        return True


def _stopped(facts: ReportFacts, decision: Decision) -> str:
    if decision.verdict == "inconclusive":
        missing = visible(", ".join(decision.unevaluated), 200) or "what its report names"
        return f"{_scan(facts)} concludes nothing for want of {missing}: remove the cause and scan again."
    headline = VERDICT_WORDS[decision.verdict].headline
    contents = _digest(facts.subject_digest)
    return f"{headline} in the contents {contents}: hold the model back and read the report of {_scan(facts)}."


def _opened(facts: ReportFacts, decision: Decision, until: datetime) -> str:
    found = VERDICT_WORDS[decision.verdict].headline
    suppressed = f" ({len(decision.suppressed)} suppressed)" if decision.suppressed else ""
    return (
        f"{_scan(facts)} says {found.lower()}{suppressed}: deploy the contents {_digest(facts.subject_digest)} and no "
        f"others, before {moment(until)}."
    )


def _scan(facts: ReportFacts) -> str:
    return f"Scan {visible(facts.scan_id, 80)}"


def _digest(digest: str) -> str:
    return visible(short_digest(digest), 80)


def _age(limit: timedelta) -> str:
    hours = limit / timedelta(hours=1)
    return f"{hours:g} hours" if hours < 48 else f"{hours / 24:g} days"
