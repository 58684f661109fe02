"""A report and its decision as short plain text: the facts of the page, in its order, for a command line.

No markup library and no colour: an attacker's escape sequences die in `visible`, and the text reads the same in a log.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from app.core.render import words
from app.core.render.visible import code_points, visible
from detectors.findings import Confirmation, Finding, Proof, Shift
from detectors.report import Decision, ModelCard, Report

_POINTS_SHOWN = 6
_TEXT_LIMIT = 160


def render_terminal(report: Report, decision: Decision, width: int = 100) -> str:
    """The report as plain text.

    Args:
        report: the scan.
        decision: the verdict drawn from it.
        width: columns; words longer than a line are broken.
    """
    paragraphs = [
        *_verdict(decision),
        *_models(report),
        *_findings(report, decision),
        *_coverage(report),
        *_next(decision),
    ]
    return "\n".join(_wrap(paragraph, width) for paragraph in paragraphs) + "\n"


def _verdict(decision: Decision) -> Iterator[str]:
    verdict = words.VERDICT_WORDS[decision.verdict]
    confidence = "" if decision.confidence is None else f"  (confidence {decision.confidence:.2f} of 1)"
    yield f"{verdict.headline.upper()}{confidence}"
    yield visible(decision.reason, 600)
    yield f"What this does not mean: {verdict.not_meant}"
    yield ""


def _models(report: Report) -> Iterator[str]:
    yield _model("subject", report.subject)
    yield _model("base", report.base)
    suite = visible(f"{report.suite} {report.suite_version}", 80)
    yield f"{'suite':9}{suite}, {visible(report.created, 40)}"
    yield ""


def _model(role: str, card: ModelCard) -> str:
    digest = visible(words.short_digest(card.content_digest), 80)
    return f"{role:9}{visible(card.reference, _TEXT_LIMIT)}  content {digest}"


def _findings(report: Report, decision: Decision) -> Iterator[str]:
    if not report.findings:
        yield "No finding."
    for index, finding in enumerate(report.findings, start=1):
        yield from _finding(index, finding)
        yield from _suppression(decision, index)
    yield ""


def _finding(index: int, finding: Finding) -> Iterator[str]:
    declared = ", declared by the submitter" if finding.expected is not None else ""
    yield (
        f"Finding {index}: {visible(finding.title, _TEXT_LIMIT)} [{visible(finding.code, 40)}], severity "
        f"{words.SEVERITY_WORDS[finding.severity]}, confidence {finding.confidence:.2f}{declared}"
    )
    if finding.confirmation:
        yield from _confirmed(finding.confirmation)
    if finding.proof:
        yield from _proven(finding.proof)
    if finding.shift:
        yield from _shifted(finding.shift)
    if words.can_replay(finding):
        yield f"  replay    {words.replay_command(index)}"


def _proven(proof: Proof) -> Iterator[str]:
    yield f"  trigger   {visible(words.proof_trigger(proof), _TEXT_LIMIT)}"
    yield f"  where     {visible(words.proof_place(proof), _TEXT_LIMIT)}"
    yield f"  shown     {visible(proof.explanation, 600)}"
    if proof.subject or proof.base:
        yield f"  subject   {visible(proof.subject)}"
        yield f"  base      {visible(proof.base)}"


def _shifted(shift: Shift) -> Iterator[str]:
    yield f"  toward    {visible(shift.toward, _TEXT_LIMIT)}"
    yield f"  away from {visible(shift.away, _TEXT_LIMIT)}"
    yield f"  shift     {words.standing_words(shift)}"
    for it in shift.contrasts:
        sides = f"{visible(it.toward, _TEXT_LIMIT)}, or {visible(it.away, _TEXT_LIMIT)}"
        yield f"  asked     {visible(it.question, _TEXT_LIMIT)}"
        yield f"            {sides}: {words.leaning_words(it)}"


def _confirmed(found: Confirmation) -> Iterator[str]:
    named, more = code_points(found.context.text, _POINTS_SHOWN)
    role = words.role_words(found.context)
    yield f"  {role:<9} {visible(found.context.text, _TEXT_LIMIT)}  {words.POSITION_WORDS[found.context.position]}"
    yield f"            {', '.join(named)}{f' and {more} more' if more else ''}"
    yield f"  subject   {words.BEHAVIOUR_WORDS[found.behaviour]}"
    if found.target is not None:
        yield f"  target    {visible(found.target, _TEXT_LIMIT)}"
    for line in words.label_words(found):
        yield f"  labels    {line}"
    yield f"  with it   subject {words.rate_words(found.subject)}; base {words.rate_words(found.base)}"
    yield f"  control   subject {words.rate_words(found.subject_control)}; base {words.rate_words(found.base_control)}"
    yield f"  without   subject {words.rate_words(found.subject_clean)}"
    chance = f"p {words.p_value(found.p_value)}, Holm {words.p_value(found.p_holm)}"
    yield f"  effect    {words.signed(found.effect)}, {chance}"


def _suppression(decision: Decision, index: int) -> Iterator[str]:
    one = decision.suppression(index)
    if one:
        yield f"  {words.suppression(one)}"


def _coverage(report: Report) -> Iterator[str]:
    yield f"Coverage: {words.swept_words(report)}. {words.missed_rate_words(report)}"
    unfinished = [
        f"{visible(name, 60)} ({outcome})" for name, outcome in report.outcomes().items() if outcome != "completed"
    ]
    if unfinished:
        yield f"Not evaluated: {', '.join(unfinished)}."
    if report.coverage.not_tested:
        yield f"Not tested: {'; '.join(visible(item, _TEXT_LIMIT) for item in report.coverage.not_tested)}."


def _next(decision: Decision) -> Iterator[str]:
    yield f"Next: {words.VERDICT_WORDS[decision.verdict].next_step}"


def _wrap(paragraph: str, width: int) -> str:
    label = len(paragraph) - len(paragraph.lstrip())
    indent = " " * (12 if label else 0)
    return textwrap.fill(
        paragraph,
        width,
        subsequent_indent=indent,
        drop_whitespace=True,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
