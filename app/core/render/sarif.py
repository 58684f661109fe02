"""A report as SARIF 2.1.0 (OASIS, errata 01), for code scanning and other collectors of results.

A plain dictionary: the tests hold it against the official schema, which says more than a library's types would. A scan
that was not fully evaluated has a result of kind `open`, a notification for each detector that is missing, and an
invocation that was not successful, so that an empty list of findings is never read as a pass.

In messages SARIF has links, `[text](target)`, and placeholders, `{0}`; text that is not ours can make neither.
"""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import quote

from app.core.render import words
from app.core.render.checks import fingerprint
from app.core.render.visible import name, visible
from detectors.findings import CODES, Finding, Severity
from detectors.report import Decision, ModelCard, Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

NOT_EVALUATED = "TS-SCAN-001"
"""Rule of the result that stands for an inconclusive scan; no finding has this code."""

_LEVELS: dict[Severity, str] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "info": "note",
}
_RULES = (*CODES, NOT_EVALUATED)
_TEXT_LIMIT = 160
_MESSAGE_LIMIT = 1_000


def render_sarif(report: Report, decision: Decision) -> str:
    """The report as a SARIF log of one run."""
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report, decision)]}, indent=1)


def _run(report: Report, decision: Decision) -> dict[str, Any]:
    results = [_result(finding, report.subject) for finding in report.findings]
    for one in decision.suppressed:
        results[one.finding - 1]["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": words.suppression(one)}
        ]
    if decision.verdict == "inconclusive":
        results.append(_open_result(decision, report.subject))
    return {
        "tool": {"driver": _driver(report)},
        "automationDetails": {"id": "/".join(quote(visible(part), "") for part in _automation(report))},
        "invocations": [_invocation(report, decision)],
        "artifacts": [_artifact(report.subject, "analysisTarget"), _artifact(report.base, "referencedOnCommandLine")],
        "results": results,
        "properties": _properties(report, decision),
    }


def _automation(report: Report) -> tuple[str, ...]:
    """The category, which is the same for every scan of a model with a suite, then the scan."""
    return "touchstone", report.suite, report.subject.reference, report.scan_id


def _driver(report: Report) -> dict[str, Any]:
    rules = [_rule(code, title, words.CODE_HELP[code]) for code, title in CODES.items()]
    inconclusive = words.VERDICT_WORDS["inconclusive"]
    rules.append(_rule(NOT_EVALUATED, "Scan not fully evaluated", f"{inconclusive.not_meant} {inconclusive.next_step}"))
    return {"name": "Touchstone", "version": visible(report.scanner_version, 40), "rules": rules}


def _rule(code: str, title: str, text: str) -> dict[str, Any]:
    return {
        "id": code,
        "shortDescription": {"text": f"{title}."},
        "fullDescription": {"text": text},
        "help": {"text": text},
    }


def _result(finding: Finding, subject: ModelCard) -> dict[str, Any]:
    mark = fingerprint(finding)
    return {
        **_rule_of(finding.code),
        "kind": "fail",
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(finding.summary)},
        "locations": [_location(subject) | {"logicalLocations": [_logical(finding)]}],
        # GitHub tells alerts apart by the second key and by no other
        "partialFingerprints": {"touchstone/v1": mark, "primaryLocationLineHash": f"{mark[:16]}:1"},
        "properties": {
            "severity": finding.severity,
            "confidence": _finite(finding.confidence),
            "declared": finding.expected is not None,
            **_ground(finding),
        },
    }


def _ground(finding: Finding) -> dict[str, Any]:
    """The numbers of a confirmation or of a shift, or both renderings of a proof."""
    found, proof = finding.confirmation, finding.proof
    if found:
        return {"behaviour": found.behaviour, "effect": _finite(found.effect), "pHolm": _finite(found.p_holm)}
    if proof:
        shown = {"subject": visible(proof.subject, _MESSAGE_LIMIT), "base": visible(proof.base, _MESSAGE_LIMIT)}
        return {"proof": proof.kind, "renderings": shown}
    if finding.shift:
        return {"shift": _finite(finding.shift.shift), "pJoint": _finite(finding.shift.p_joint)}
    return {}


def _open_result(decision: Decision, subject: ModelCard) -> dict[str, Any]:
    return {
        **_rule_of(NOT_EVALUATED),
        "kind": "open",
        "level": "none",
        "message": {"text": _message(decision.reason)},
        "locations": [_location(subject)],
    }


def _rule_of(code: str) -> dict[str, Any]:
    return {"ruleId": code, "ruleIndex": _RULES.index(code)} if code in _RULES else {"ruleId": visible(code, 40)}


def _message(text: str) -> str:
    """Text in which no link and no placeholder can stand: a mark for the `(` behind a `]`, and each brace twice."""
    shown = visible(text, _MESSAGE_LIMIT).replace("](", f"]⟨{name('(')}⟩")
    return shown.replace("{", "{{").replace("}", "}}")


def _logical(finding: Finding) -> dict[str, Any]:
    trigger = visible(finding.trigger or finding.title, _TEXT_LIMIT)
    kind = "trigger" if finding.trigger else "artifact"
    return {"name": trigger, "fullyQualifiedName": f"{visible(finding.place, 60)}/{trigger}", "kind": kind}


def _location(subject: ModelCard) -> dict[str, Any]:
    """The subject, which is the first of the run's artifacts."""
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(subject.reference), "index": 0}}}


def _artifact(card: ModelCard, role: str) -> dict[str, Any]:
    """A model; its digests are properties, for they are not those of one file, which `hashes` would say."""
    return {
        "location": {"uri": _uri(card.reference)},
        "roles": ["directory", role],
        "properties": _digests(card),
    }


def _digests(card: ModelCard) -> dict[str, str]:
    return {"fileDigest": visible(card.file_digest), "contentDigest": visible(card.content_digest)}


def _uri(reference: str) -> str:
    """A reference as a URI: an absolute path as a file, never another host; anything else as a relative path."""
    path = quote(visible(reference).lstrip("/"), "/@")
    return f"file:///{path}" if reference.startswith("/") else path


def _finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def _invocation(report: Report, decision: Decision) -> dict[str, Any]:
    missing = {name: outcome for name, outcome in report.outcomes().items() if outcome != "completed"}
    reasons = {result.detector: result.reason for result in report.results}
    return {
        "executionSuccessful": not missing and decision.verdict != "inconclusive",
        "toolExecutionNotifications": [
            {
                "level": "error" if outcome == "failed" else "warning",
                "message": {"text": _message(f"{name}: {outcome}. {reasons.get(name, 'It returned no result.')}")},
            }
            for name, outcome in missing.items()
        ],
    }


def _properties(report: Report, decision: Decision) -> dict[str, Any]:
    coverage = report.coverage
    return {
        "verdict": decision.verdict,
        "reason": visible(decision.reason, _MESSAGE_LIMIT),
        "policy": visible(decision.policy),
        "scanId": visible(report.scan_id),
        "suite": visible(f"{report.suite} {report.suite_version}"),
        "suiteDigest": visible(report.suite_digest),
        "subject": _digests(report.subject),
        "base": _digests(report.base),
        "coverage": {
            "contextsSwept": sum(family.swept for family in coverage.families),
            "missedRate": _finite(coverage.missed_rate),
            "notTested": [visible(item) for item in coverage.not_tested],
            "detectors": {visible(name): outcome for name, outcome in report.outcomes().items()},
        },
    }
