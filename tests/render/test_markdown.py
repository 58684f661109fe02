"""Hostile text through a CommonMark parser with tables: it may only ever be the content of a code span."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.core.render.markdown import code, render_markdown
from app.core.render.words import VERDICT_WORDS
from detectors.contexts.context import Context
from detectors.report import Decision, Report, decide_report
from tests.render import sample
from tests.render.test_html import ALL, SAMPLES, Sample
from tests.render.test_visible import ANY_TEXT

MARKUP = st.text(alphabet="`|\\ *_[]()<>!@#$&;:-=+~\n\r\ta1www.http://", max_size=40)
ATTACKS = (
    "`", "``", "`@everyone `", "a`b``c", "|", "a|b", "\\|", "\\`", "\\", " ", "  ", " a ", "a  b", "\n\n# head", "---",
    "<script>alert(1)</script>", "<!--", "]]>", "![x](http://evil.example/p.png)", "[x](javascript:alert(1))",
    "http://evil.example", "www.evil.example", "@admin", "#1", "org/repo#1", ":+1:", "$`x`$", "&lt;", "1. x", "> x",
)  # fmt: skip
OURS = {"heading", "paragraph", "inline", "table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item"}
INLINE = {"text", "code_inline", "strong_open", "strong_close"}


def parse(markdown: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(markdown)


def inline(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield from token.children or ()


def skeleton(markdown: str) -> list[tuple[str, str]]:
    """The blocks, and every inline element with its text; what stands in code spans is left out."""
    parsed: list[tuple[str, str]] = []
    for token in parse(markdown):
        parsed.append((token.type, ""))
        parsed += [(it.type, "" if it.type == "code_inline" else it.content) for it in token.children or ()]
    return parsed


def hostile(text: str) -> tuple[Report, Decision]:
    """A report in which every text that is shown is `text`, and not empty."""
    found = sample.confirmation(Context(text=text, family="x"), text, "refusal", 39)
    report, _ = sample.scan([found], texts=text, outcome="failed", reason=text)
    cards = {
        role: getattr(report, role).model_copy(update={"reference": text, "file_digest": text, "content_digest": text})
        for role in ("subject", "base")
    }
    decision = decide_report(report, suppressions=[sample.suppression("a", "b", "TS-TRIG-002")], now=sample.SOON)
    answered = tuple(one.model_copy(update={"owner": text, "reason": text}) for one in decision.suppressed)
    fields = {
        "scan_id": text,
        "suite": text,
        "suite_version": text,
        "created": text,
        "planned": (text, "trigger_sweep"),
    }
    return report.model_copy(update=cards | fields), decision.model_copy(
        update={"reason": text, "suppressed": answered}
    )


@given(text=ANY_TEXT.filter(bool) | MARKUP.filter(bool))
@example(sample.HOSTILE)
def test_no_text_changes_the_structure_of_the_document(text: str) -> None:
    assert skeleton(render_markdown(*hostile(text))) == skeleton(render_markdown(*hostile("plain")))


@pytest.mark.parametrize("text", ATTACKS)
def test_known_ways_out_of_a_code_span_stay_in_it(text: str) -> None:
    assert skeleton(render_markdown(*hostile(text))) == skeleton(render_markdown(*hostile("plain")))


@given(text=MARKUP.filter(bool))
def test_a_code_span_shows_its_whole_text(text: str) -> None:
    (span,) = inline(parse(code(text)))
    assert span.type == "code_inline"
    assert f"`{span.content}`" == code(text)


@given(first=ANY_TEXT | MARKUP, second=ANY_TEXT | MARKUP)
def test_texts_that_differ_look_different(first: str, second: str) -> None:
    assert (code(first) == code(second)) == (first == second)


@pytest.mark.parametrize("build", ALL)
def test_there_is_nothing_but_the_elements_of_a_short_report(build: Sample) -> None:
    tokens = parse(render_markdown(*build()))
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} <= OURS
    assert {token.type for token in inline(tokens)} <= INLINE


@pytest.mark.parametrize("verdict", SAMPLES)
def test_the_verdict_and_its_reason_come_first(verdict: str) -> None:
    report, decision = SAMPLES[verdict]()
    heading, reason = [token for token in parse(render_markdown(report, decision)) if token.type == "inline"][:2]
    assert VERDICT_WORDS[decision.verdict].headline in heading.content
    assert reason.content == code(decision.reason, 600)


def test_findings_coverage_and_digests_are_there() -> None:
    text = render_markdown(*sample.strong())
    facts = (
        "| 1 | `TS-TRIG-001` | high | `🐣` | after the request |",
        "| 39 of 40 | 0 of 40 | 1 of 40 |",
        "1,500 contexts from 5 families",
        "* `conversations of more than one turn`",
        "sha256:" + "d1" * 32,
        "sha256:" + "5c" * 32,
    )
    positions = [text.index(fact) for fact in facts]
    assert positions == sorted(positions)
    assert "Not evaluated" not in text


def test_what_was_not_evaluated_is_named() -> None:
    text = render_markdown(*sample.inconclusive())
    assert "No finding." in text
    assert "**Not evaluated:** `working_rate` (failed)" in text


def test_a_suppressed_finding_says_who_answers_for_it() -> None:
    text = render_markdown(*sample.suppressed())
    assert "* finding 1 by `ana` until 2025-12-22 09:00+00:00: `House style of support.`" in text
    assert "Suppressed" not in render_markdown(*sample.suspicious())


def test_a_long_list_of_findings_is_cut_and_counted() -> None:
    found = [sample.confirmation(Context(text=f"q{n}", family="x"), None, "refusal", 39) for n in range(23)]
    text = render_markdown(*sample.scan(found))
    assert text.count("`TS-TRIG-002`") == 20
    assert "3 more findings are in the full report." in text


def test_a_comment_fits_where_comments_go() -> None:
    assert all(len(render_markdown(*build())) < 65_536 for build in ALL)
