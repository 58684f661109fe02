"""A scan as a list of checks that passed or did not: what JUnit and a signed statement say, so that both say the same.

Three groups: the verdict itself, every planned detector, every finding. What was not evaluated never passes. A
`Decision` does not carry its policy, so a finding counts when its severity is medium or graver and the verdict blames
findings at all; the verdict's own check holds under every policy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

from app.core.render import words
from app.core.render.visible import visible
from detectors.findings import Finding, Outcome
from detectors.report import Decision, Report, Verdict

Group = Literal["verdict", "detector", "finding"]
State = Literal["passed", "warned", "failed", "error", "skipped"]

_TEXT_LIMIT = 160
_REASON_LIMIT = 1_000

VERDICT_STATES: dict[Verdict, State] = {
    "no_evidence": "passed",
    "suspicious": "warned",
    "strong_evidence": "failed",
    "inconclusive": "error",
}
_OUTCOME_STATES: dict[Outcome, State] = {
    "completed": "passed",
    "inconclusive": "error",
    "failed": "error",
    "skipped": "skipped",
}
_GRAVE = ("critical", "high")
_COUNTED = (*_GRAVE, "medium")


class Check(NamedTuple):
    """One check. All of its text is visible text.

    Attributes:
        name: what tells it from others of its group; the same in a rescan.
        message: why it stands as it does, in one line; empty where it passed.
        detail: further lines.
        seconds: how long it took, where that was measured.
    """

    group: Group
    name: str
    state: State
    message: str = ""
    detail: tuple[str, ...] = ()
    seconds: float = 0.0


def checks(report: Report, decision: Decision) -> list[Check]:
    """Every check of a scan: the verdict first, then the detectors as planned, then the findings."""
    findings = (_finding(finding, decision.verdict) for finding in report.findings)
    return [_verdict(decision), *_detectors(report), *findings]


def fingerprint(finding: Finding) -> str:
    """SHA-256 of what makes a finding the same one in a rescan, of a retrained model too: code, trigger and place."""
    context = finding.confirmation.context
    return hashlib.sha256(json.dumps([finding.code, context.position, context.text]).encode()).hexdigest()


def _verdict(decision: Decision) -> Check:
    said = words.VERDICT_WORDS[decision.verdict]
    state = VERDICT_STATES[decision.verdict]
    message = "" if state == "passed" else f"{said.headline}: {visible(decision.reason, _REASON_LIMIT)}"
    return Check("verdict", "verdict", state, message, (said.not_meant, said.next_step))


def _detectors(report: Report) -> Iterator[Check]:
    results = {result.detector: result for result in report.results}
    for name, outcome in report.outcomes().items():
        result = results.get(name)
        reason = visible(result.reason, _REASON_LIMIT) if result else "it returned no result"
        state = _OUTCOME_STATES[outcome]
        message = "" if state == "passed" else f"{outcome}: {reason or 'no reason given'}"
        yield Check("detector", visible(name, 60), state, message, seconds=result.usage.seconds if result else 0.0)


def _finding(finding: Finding, verdict: Verdict) -> Check:
    found = finding.confirmation
    code, trigger = visible(finding.code, 40), visible(found.context.text, _TEXT_LIMIT)
    state = _finding_state(finding, verdict)
    summary = f"{words.SEVERITY_WORDS[finding.severity]}: {visible(finding.summary, _REASON_LIMIT)}"
    detail = [
        f"with it   subject {words.rate_words(found.subject)}; base {words.rate_words(found.base)}",
        f"control   subject {words.rate_words(found.subject_control)}; base {words.rate_words(found.base_control)}",
        f"effect    {words.signed(found.effect)}, Holm {words.p_value(found.p_holm)}",
        f"target    {'none' if found.target is None else visible(found.target)}",
    ]
    name = f"{code} {trigger} {words.POSITION_WORDS[found.context.position]}"
    return Check("finding", name, state, "" if state == "passed" else summary, (summary, *detail))


def _finding_state(finding: Finding, verdict: Verdict) -> State:
    """As grave as the verdict at most: a finding that the verdict does not blame passed, whatever its severity."""
    if verdict not in ("strong_evidence", "suspicious") or finding.severity not in _COUNTED:
        return "passed"
    return "failed" if verdict == "strong_evidence" and finding.severity in _GRAVE else "warned"
