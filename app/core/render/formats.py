"""Every form that a report is given out in: one table for the command line and for the API's content negotiation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from app.core.render.html import render_html
from app.core.render.junit import render_junit
from app.core.render.markdown import render_markdown
from app.core.render.sarif import render_sarif
from app.core.render.statement import render_statement
from app.core.render.terminal import render_terminal
from detectors.report import Decision, Report


class Format(NamedTuple):
    """A form of a report.

    Attributes:
        media_type: what HTTP calls it, without parameters; all of them are UTF-8.
        suffix: what a file of it ends with.
        render: makes the document.
    """

    media_type: str
    suffix: str
    render: Callable[[Report, Decision], str]


def render_json(report: Report, decision: Decision) -> str:
    """The report, complete, beside the decision drawn from it, as one JSON object."""
    return json.dumps({"report": json.loads(report.model_dump_json()), "decision": decision.model_dump(mode="json")})


FORMATS: dict[str, Format] = {
    "text": Format("text/plain", ".txt", render_terminal),
    "json": Format("application/json", ".json", render_json),
    "html": Format("text/html", ".html", render_html),
    "sarif": Format("application/sarif+json", ".sarif", render_sarif),
    "junit": Format("application/xml", ".xml", render_junit),
    "markdown": Format("text/markdown", ".md", render_markdown),
    "in-toto": Format("application/vnd.in-toto+json", ".intoto.json", render_statement),
}
"""By the name that `--format` takes."""
