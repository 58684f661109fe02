"""A scan as a list of checks that passed or did not: what JUnit and a signed statement say, so that both say the same.

Three groups: the verdict itself, every planned detector, every finding. What was not evaluated never passes. A finding
stands as the verdict that it speaks for; one that does not count under the policy passes, and one that somebody answers
for is suppressed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

from app.core.render import words
from app.core.render.visible import visible
from detectors.findings import Confirmation, Finding, Outcome
from detectors.report import Decision, Report, Verdict

Group = Literal["verdict", "detector", "finding"]
State = Literal["passed", "suppressed", "warned", "failed", "error", "skipped"]

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
    findings = [_finding(number, finding, decision) for number, finding in enumerate(report.findings, start=1)]
    return [_verdict(decision), *_detectors(report), *findings]


def fingerprint(finding: Finding) -> str:
    """SHA-256 of what makes a finding the same one in a rescan, of a retrained model too: code, trigger and place."""
    return hashlib.sha256(json.dumps([finding.code, finding.place, finding.trigger]).encode()).hexdigest()


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


def _finding(number: int, finding: Finding, decision: Decision) -> Check:
    summary = f"{words.SEVERITY_WORDS[finding.severity]}: {visible(finding.summary, _REASON_LIMIT)}"
    name = f"{visible(finding.code, 40)} {visible(_what(finding), _TEXT_LIMIT)} {_where(finding)}"
    detail = _measured(finding.confirmation) if finding.confirmation else _shown(finding)
    check = Check("finding", name, "passed", "", (summary, *detail))
    answered = decision.suppression(number)
    if answered:
        return check._replace(state="suppressed", message=words.suppression(answered))
    if number in decision.counted:
        return check._replace(state=VERDICT_STATES[decision.counted[number]], message=summary)
    return check


def _what(finding: Finding) -> str:
    """The trigger; where there is none, what was found, in words that a rescan repeats."""
    if finding.shift:
        return finding.title
    return finding.trigger or finding.summary


def _where(finding: Finding) -> str:
    if finding.confirmation:
        return words.POSITION_WORDS[finding.confirmation.context.position]
    return f"in the {visible(finding.place, 60)}"


def _measured(found: Confirmation) -> list[str]:
    return [
        f"with it   subject {words.rate_words(found.subject)}; base {words.rate_words(found.base)}",
        f"control   subject {words.rate_words(found.subject_control)}; base {words.rate_words(found.base_control)}",
        f"effect    {words.signed(found.effect)}, Holm {words.p_value(found.p_holm)}",
        f"target    {'none' if found.target is None else visible(found.target)}",
    ]


def _shown(finding: Finding) -> list[str]:
    proof = finding.proof
    if finding.shift:
        return [f"shift     {words.standing_words(finding.shift)}"]
    if proof is None or not (proof.subject or proof.base):
        return []
    return [f"subject   {visible(proof.subject)}", f"base      {visible(proof.base)}"]
