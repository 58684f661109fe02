"""A report and its decision as one HTML file that needs nothing else.

The file makes no outside request, opens from disk, and shows an attacker's text without obeying it. Three nets hold
that text: every expression in the templates passes `visible`, then Jinja's autoescape; data for the charts is JSON
without markup characters; and the content security policy runs only the scripts whose digests it lists.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from app.core.render import words
from app.core.render.answers import own_passages
from app.core.render.corroboration import about, corroborations
from app.core.render.gated import gated_selves
from app.core.render.pictures import pictures
from app.core.render.targets import inverted_targets
from app.core.render.visible import code_points, pieces, visible
from app.core.render.weights import changed_matrices, trained_rows
from detectors.catalog import CATALOG
from detectors.findings import Confirmation
from detectors.report import Decision, Report

_SCRIPTS = ("d3.min.js", "plot.umd.min.js", "charts.js", "report.js")
_BLOCK_LIMIT = 1_200
"""Characters shown of an answer or a prompt."""

_TOKENS, _TOKEN_LIMIT = 400, 60
"""Tokens shown of an answer that is marked token by token, and characters of each."""

_FIELD_LIMIT = 2_000
"""Characters shown of any other text."""

_TABLE_ROWS = 40
"""Contexts listed in the table behind the landscape or a curve, and matrices."""

_PICTURE_ROWS = 300
"""Points of a map or questions of a battery listed behind their picture; the JSON report holds all of them."""

_EVIDENCE_ROWS = 200
"""Evidence listed per detector; the JSON report holds all of it."""


def render_html(report: Report, decision: Decision) -> str:
    """The report as one self-contained HTML page.

    Args:
        report: the scan.
        decision: the verdict drawn from it; may be drawn under another policy than the scan's own.
    """
    tests = corroborations(report)
    drawn = pictures(report, tests)
    scripts = _scripts() if drawn.present else [_asset("report.js")]
    page = _environment().get_template("report.html.j2")
    return page.render(
        report=report,
        decision=decision,
        verdict=words.VERDICT_WORDS[decision.verdict],
        words=words,
        catalog=CATALOG,
        outcomes=report.outcomes(),
        results={result.detector: result for result in report.results},
        reasons={result.detector: result.reason for result in report.results},
        unconfirmed=_unconfirmed(report),
        usage=_usage(report),
        corroborations=[about(it.confirmation, tests) if it.confirmation else [] for it in report.findings],
        pictures=drawn,
        targets=inverted_targets(report),
        answers=own_passages(report),
        gated=gated_selves(report),
        matrices=changed_matrices(report),
        trained=trained_rows(report),
        top=drawn.points[:_TABLE_ROWS],
        undrawn=sum(point.divergence is None for point in drawn.points),
        evidence_rows=_EVIDENCE_ROWS,
        picture_rows=_PICTURE_ROWS,
        table_rows=_TABLE_ROWS,
        style=_asset("report.css"),
        scripts=scripts,
        policy=_policy(scripts),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.core.render"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": _shown,
        "block": _block,
        "weighed": _weighed,
        "code_points": code_points,
        "percent": words.percent,
        "number": words.number,
        "fixed": words.fixed,
        "signed": words.signed,
        "p": words.p_value,
        "interval": words.interval,
        "seconds": words.seconds,
        "gibibytes": words.gibibytes,
        "short": words.short_digest,
        "params": _params,
        "plain": _plain,
        "value": _value,
        "listed": _listed,
    }
    return environment


def _finalize(value: Any) -> Any:
    """The net under every expression: text that no filter has made visible yet."""
    return visible(value, _FIELD_LIMIT) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shown(text: str, limit: int = 400) -> Markup:
    """An attacker's text inside a line, kept apart from the direction of the text around it."""
    return Markup('<bdi dir="ltr" class="text">{}</bdi>').format(_marked(text, limit))


def _block(text: str, limit: int = _BLOCK_LIMIT) -> Markup:
    """An attacker's text as a block; line breaks are kept and marked."""
    if not text:
        return Markup('<p class="none">(empty)</p>')
    marked = _marked(text, limit, newline="↵\n")
    return Markup('<div dir="ltr" class="text block">{}</div>').format(marked)


def _weighed(said: tuple[tuple[str, float], ...]) -> Markup:
    """An answer as a block; tokens that the base would not have said are marked, with their log-ratio."""
    tokens = (
        Markup('<mark title="{} nats">{}</mark>').format(words.signed(ratio), _marked(text, _TOKEN_LIMIT, "↵\n"))
        if ratio >= words.UNLIKELY
        else _marked(text, _TOKEN_LIMIT, "↵\n")
        for text, ratio in said[:_TOKENS]
    )
    return Markup('<div dir="ltr" class="text block">{}</div>').format(Markup("").join(tokens))


def _marked(text: str, limit: int, newline: str = "↵") -> Markup:
    return Markup("").join(
        Markup('<span class="mark">{}</span>').format(newline if piece.text == "↵" else piece.text)
        if piece.mark
        else escape(piece.text)
        for piece in pieces(text, limit)
    )


def _params(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True, ensure_ascii=False, default=str) if params else "defaults"


def _plain(text: str, limit: int) -> Markup:
    """An attacker's text where no element may stand, such as in an attribute."""
    return escape(visible(text, limit))


def _value(value: Any) -> str:
    """A value of unknown kind in the words of a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return words.number(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _unconfirmed(report: Report) -> list[Confirmation]:
    found = (confirmation for result in report.results for confirmation in result.confirmations)
    return sorted((one for one in found if not one.confirmed), key=lambda one: one.p_holm)


def _usage(report: Report) -> dict[str, float]:
    usages = [result.usage for result in report.results]
    observations = sum(usage.observations for usage in usages)
    return {
        "forward_tokens": sum(usage.forward_tokens for usage in usages),
        "generated_tokens": sum(usage.generated_tokens for usage in usages),
        "observations": observations,
        "store_share": sum(usage.store_hits for usage in usages) / observations if observations else 0.0,
    }


@cache
def _asset(name: str) -> str:
    return (files("app.core.render") / "static" / name).read_text("utf-8")


@cache
def _scripts() -> list[str]:
    return [_asset(name) for name in _SCRIPTS]


def _policy(scripts: list[str]) -> str:
    """The content security policy: nothing is loaded, and only these scripts run."""
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
