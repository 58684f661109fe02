"""A report as a short Markdown comment, for a pull request or the summary of a pipeline.

Whatever is not our own words stands in a code span, where Markdown, HTML, links, images, @mentions and #references are
text. A backtick could end the span and a pipe the cell of a table, so both are spelled out like every other mark
(`app.core.render.visible`), and so are spaces that a renderer would trim or fold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.core.render import words
from app.core.render.visible import name, visible
from detectors.findings import Confirmation, Finding
from detectors.report import Decision, ModelCard, Report, SuppressedFinding

_BREAKS_OUT = re.compile(r"[`|]|^ | $|(?<= ) ")
_TEXT_LIMIT = 160
_ROWS = 20
"""Findings listed; the page and the JSON report hold all of them."""


def render_markdown(report: Report, decision: Decision) -> str:
    """The report as GitHub-flavoured Markdown: the verdict and its reason first."""
    parts = (_verdict(decision), _findings(report, decision), _coverage(report), _models(report))
    return "\n\n".join(paragraph for part in parts for paragraph in part) + "\n"


def code(text: str, limit: int = _TEXT_LIMIT) -> str:
    """An attacker's text as one code span that it cannot leave, in a paragraph, a list or a cell of a table."""
    shown = _BREAKS_OUT.sub(lambda found: f"⟨{name(found[0])}⟩", visible(text, limit))
    return f"`{shown}`" if shown else "(empty)"


def _verdict(decision: Decision) -> Iterator[str]:
    verdict = words.VERDICT_WORDS[decision.verdict]
    confidence = "" if decision.confidence is None else f" (confidence {decision.confidence:.2f} of 1)"
    yield f"## Touchstone: {verdict.headline}{confidence}"
    yield code(decision.reason, 600)
    yield f"{verdict.not_meant} **Next:** {verdict.next_step}"


def _findings(report: Report, decision: Decision) -> Iterator[str]:
    if not report.findings:
        yield "No finding."
        return
    rows = [_row(index, finding) for index, finding in enumerate(report.findings[:_ROWS], start=1)]
    heads = ("#", "finding", "severity", "trigger", "where", "what the subject does", "subject", "base", "controls")
    yield "\n".join([_cells(heads), _cells(["---"] * len(heads)), *rows])
    if len(report.findings) > _ROWS:
        yield f"{len(report.findings) - _ROWS} more findings are in the full report."
    if decision.suppressed:
        yield "**Suppressed, does not count:**"
        yield "\n".join(_suppression(one) for one in decision.suppressed[:_ROWS])


def _suppression(one: SuppressedFinding) -> str:
    return f"* finding {one.finding} by {code(one.owner)} until {words.moment(one.until)}: {code(one.reason)}"


def _row(index: int, finding: Finding) -> str:
    declared = ", declared" if finding.expected is not None else ""
    what = _confirmed(finding.confirmation) if finding.confirmation else _without_rates(finding)
    severity = words.SEVERITY_WORDS[finding.severity]
    return _cells((str(index), f"{code(finding.code, 40)}{declared}", severity, *what))


def _confirmed(found: Confirmation) -> tuple[str, ...]:
    rates = (f"{rate.hits} of {rate.trials}" for rate in (found.subject, found.base, found.subject_control))
    place = words.POSITION_WORDS[found.context.position]
    return code(found.context.text), place, words.BEHAVIOUR_WORDS[found.behaviour], *rates


def _without_rates(finding: Finding) -> tuple[str, ...]:
    """A proof holds always, or whenever its trigger stands there; a shift is measured in nats."""
    trigger = code(finding.trigger) if finding.trigger else "none"
    return trigger, code(finding.place), code(finding.summary, 300), "shown" if finding.proof else "moved", "-", "-"


def _cells(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _coverage(report: Report) -> Iterator[str]:
    yield f"**Coverage:** {words.swept_words(report)}. {words.missed_rate_words(report)}"
    unfinished = {name: outcome for name, outcome in report.outcomes().items() if outcome != "completed"}
    if unfinished:
        yield "**Not evaluated:** " + ", ".join(f"{code(name, 60)} ({outcome})" for name, outcome in unfinished.items())
    if report.coverage.not_tested:
        yield "**Not tested:**"
        yield "\n".join(f"* {code(item)}" for item in report.coverage.not_tested)


def _models(report: Report) -> Iterator[str]:
    suite = f"{report.suite} {report.suite_version}"
    yield "**Digests:**"
    yield "\n".join(
        [
            _model("subject", report.subject),
            _model("base", report.base),
            f"* scan {code(report.scan_id, 80)}, suite {code(suite, 80)}, {code(report.created, 40)}",
        ]
    )


def _model(role: str, card: ModelCard) -> str:
    return (
        f"* {role} {code(card.reference)}: files {code(card.file_digest, 80)}, content {code(card.content_digest, 80)}"
    )
